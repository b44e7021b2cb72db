package fsutil

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CheckWritable tells why this process cannot make files in a directory, or make the
// directory if it is missing: no permission, or a file system or mount that is
// read-only, as a systemd unit makes of all but its ReadWritePaths=.
func CheckWritable(dir string) error { return checkWritable(dir, unix.Access) }

// checkWritable takes access(2) as an argument, since root can write nearly everywhere
// and a test cannot mount.
func checkWritable(dir string, access func(path string, mode uint32) error) error {
	for {
		err := access(dir, unix.W_OK|unix.X_OK)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir) // where it would be made
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		return nil
	}
}
