package tenants

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// replaced is what a file that takes another's place has in common with it.
type replaced struct {
	mode     fs.FileMode
	owner    bool // uid and gid are set
	uid, gid int
}

// replaceFile writes a file so that there is, at every moment and after every
// crash, the old one or the new one whole. Nothing is left behind on an error.
func replaceFile(path string, text []byte, as replaced) error {
	aside, err := os.CreateTemp(filepath.Dir(path), ".sqgate-*")
	if err != nil {
		return err
	}
	err = fill(aside, text, as)
	err = errors.Join(err, aside.Close())
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		_ = os.Remove(aside.Name()) // the error that led here says more
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fill(f *os.File, text []byte, as replaced) error {
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Chmod(as.mode); err != nil {
		return err
	}
	if as.owner {
		if err := f.Chown(as.uid, as.gid); err != nil {
			return fmt.Errorf("keeping its owner: %w", err)
		}
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownerOf is the owner of a file that is about to be replaced, if it is not us.
func ownerOf(info fs.FileInfo) replaced {
	st := info.Sys().(*syscall.Stat_t)
	r := replaced{mode: 0o600, uid: int(st.Uid), gid: int(st.Gid)}
	r.owner = r.uid != os.Geteuid() || r.gid != os.Getegid()
	return r
}
