package fsutil

import (
	"errors"
	"os"
	"path/filepath"
)

// Resolve follows symbolic links as far as the path exists and can be read, so
// that two spellings of a directory are one.
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

// IgnoreMissing is err, or nil if err is that a file does not exist.
func IgnoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
