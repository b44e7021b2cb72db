package fsutil

import (
	"errors"
	"os"
	"path/filepath"
)

// Resolve follows the symbolic links in path, so that two paths of one directory
// become the same. A link is followed also if nothing is where it leads, as while a
// disk is not mounted. Resolve keeps the end of a path that does not exist or cannot be
// followed as it is.
func Resolve(path string) string { return resolve(path, 0) }

// mostLinks is how many links to nothing are followed: they may lead in a circle.
const mostLinks = 40

func resolve(path string, links int) string {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved
	}
	if to, err := os.Readlink(path); err == nil && links < mostLinks {
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		return resolve(to, links+1)
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(resolve(parent, links), filepath.Base(path))
}

// IgnoreMissing returns err, or nil if err says that a file does not exist.
func IgnoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
