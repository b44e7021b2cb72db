package archive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// A disk of archives that is not mounted looks like a directory without any: a purge would
// leave them, and a new one would go below the mount point. So the Mark, which is on another
// disk, says which directory has them.

// CheckPresent is an error if the directory is not the one that has had archives, and has not
// the one that the mark names.
func (s *Store) CheckPresent() error {
	if s.Mark == "" {
		return nil
	}
	text, err := fsutil.ReadFile(s.Mark)
	if fsutil.IgnoreMissing(err) != nil {
		return err
	}
	was, rest, _ := strings.Cut(string(text), "\n")
	dir, rest, _ := strings.Cut(rest, "\n")
	known, _, _ := strings.Cut(rest, "\n")
	now, err := fsutil.IdentityOf(s.dir)
	if fsutil.IgnoreMissing(err) != nil || err == nil && fsutil.IsIdentity(now, was) {
		return err
	}
	if dir != s.dir { // there was none, or another --archive-dir
		return s.mark()
	}
	if _, err := os.Lstat(filepath.Join(s.dir, known)); err == nil && known != "" {
		return s.mark() // it was moved
	}
	return apierror.New(apierror.Unavailable, "the archives that were in %s are not there, as if their disk were not mounted: mount it; if they are gone for good, remove %s", s.dir, s.Mark)
}

// mark notes which directory has the archives, and one of them. Without any, it notes nothing.
func (s *Store) mark() error {
	if s.Mark == "" {
		return nil
	}
	one, err := s.anyArchive()
	if err != nil {
		return err
	}
	if one == "" {
		return remove(s.Mark)
	}
	id, err := fsutil.IdentityOf(s.dir)
	if err != nil {
		return err
	}
	text := id + "\n" + s.dir + "\n" + one + "\n"
	if now, err := fsutil.ReadFile(s.Mark); err == nil && string(now) == text {
		return nil
	}
	return fsutil.Replace(s.Mark, text, 0o600, true)
}

// anyArchive is the name of an archive of any tenant, the last by name, or "".
func (s *Store) anyArchive() (name string, err error) {
	entries, err := os.ReadDir(s.dir)
	for _, e := range slices.Backward(entries) {
		if strings.HasSuffix(e.Name(), archiveSuffix) {
			return e.Name(), nil
		}
	}
	return "", fsutil.IgnoreMissing(err)
}
