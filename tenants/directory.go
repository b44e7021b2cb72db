package tenants

import "mirrorborn.us/sqgate/internal/fsutil"

// checkDirectories refuses one directory for two tenants, unless both share
// it. One inside another's is fine: a tenant's files are the flat files in its
// own directory. Symbolic links count as what they lead to.
func (b *builder) checkDirectories() {
	first := make(map[string]int, len(b.snapshot.all))
	for i, t := range b.snapshot.all {
		if t.DataDir == "" {
			continue // refused already
		}
		dir := fsutil.Resolve(t.DataDir)
		other, taken := first[dir]
		if !taken {
			first[dir] = i
			continue
		}
		o := b.snapshot.all[other]
		if t.SharedDataDir && o.SharedDataDir {
			continue
		}
		b.id, b.index = t.ID, b.places[i]
		b.refuse("data_dir", "is the directory of "+who(o.ID, b.places[other])+" too",
			`give each its own, or set "shared_data_dir" on both`)
	}
}
