package journal

import "path/filepath"

// BeforePath is temporary.
func BeforePath(path string) string {
	dir, name := filepath.Split(path)
	return dir + "." + name + ".before"
}
