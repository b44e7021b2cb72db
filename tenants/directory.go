package tenants

import "path/filepath"

// checkDirectories refuses one directory for two tenants, unless both share
// it. One inside another's is fine: a tenant's files are the flat files in its
// own directory. Symbolic links count as what they lead to.
func (b *builder) checkDirectories() {
	first := make(map[string]int, len(b.snapshot.all))
	for i, t := range b.snapshot.all {
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
		b.index, b.id = i+1, t.ID
		b.refuse("data_dir", "is the directory of tenant %q too: give each its own, or set \"shared_data_dir\" on both", o.ID)
	}
}

// realDirectory follows symbolic links where the directory exists.
func realDirectory(dir string) string {
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		return resolved
	}
	return dir
}
