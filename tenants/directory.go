package tenants

import "path/filepath"

// checkDirectories refuses one directory for two tenants, unless both share
// it. One inside another's is fine: a tenant's files are the flat files in its
// own directory. Symbolic links count as what they lead to.
func (b *builder) checkDirectories() {
	first := make(map[string]int, len(b.snapshot.all))
	for i, t := range b.snapshot.all {
		if t.DataDir == "" {
			continue // refused already
		}
		dir := realDirectory(t.DataDir)
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

// realDirectory follows symbolic links, in what exists of a path: a directory
// is made later than it is named.
func realDirectory(dir string) string {
	if resolved, err := filepath.EvalSymlinks(dir); err == nil || dir == "/" {
		return resolved
	}
	return filepath.Join(realDirectory(filepath.Dir(dir)), filepath.Base(dir))
}
