package fsutil

import (
	"errors"
	"os"
	"path/filepath"
)

// Resolve follows the symbolic links in path, so that two paths of one directory
// become the same. It keeps the end of a path that does not exist or cannot be
// followed as it is.
func Resolve(path string) string {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(Resolve(parent), filepath.Base(path))
}

// IgnoreMissing returns err, or nil if err says that a file does not exist.
func IgnoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
