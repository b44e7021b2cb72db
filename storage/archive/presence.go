package archive

import (
	"os"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// A disk of archives that is not mounted looks like a directory without any: a purge would
// leave them, and a new one would go below the mount point. So the Mark, which is on another
// disk, says which directory has them.

// CheckPresent is an error if the directory is not the one that has had archives, and has none.
func (s *Store) CheckPresent() error {
	if s.Mark == "" {
		return nil
	}
	text, err := os.ReadFile(s.Mark)
	if fsutil.IgnoreMissing(err) != nil {
		return err
	}
	was, dir, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), "\n")
	now, err := fsutil.IdentityOf(s.dir)
	if fsutil.IgnoreMissing(err) != nil || err == nil && now == was {
		return err
	}
	any, err := s.hasAny()
	switch {
	case err != nil:
		return err
	case any: // it was moved, or an earlier version has made them
		return s.mark()
	case dir == s.dir:
		return apierror.New(apierror.Unavailable, "the archives that were in %s are not there, as if their disk were not mounted: mount it; if they are gone for good, remove %s", s.dir, s.Mark)
	}
	return nil
}

// mark notes that the directory has archives.
func (s *Store) mark() error {
	if s.Mark == "" {
		return nil
	}
	id, err := fsutil.IdentityOf(s.dir)
	if err != nil {
		return err
	}
	text := id + "\n" + s.dir + "\n"
	if now, err := os.ReadFile(s.Mark); err == nil && string(now) == text {
		return nil
	}
	return fsutil.Replace(s.Mark, text, 0o600, true)
}

// unmark forgets the directory if no archive is left in it.
func (s *Store) unmark() error {
	any, err := s.hasAny()
	if any || err != nil || s.Mark == "" {
		return err
	}
	return remove(s.Mark)
}

// hasAny says whether there is an archive of any tenant.
func (s *Store) hasAny() (bool, error) {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), archiveSuffix) {
			return true, nil
		}
	}
	return false, fsutil.IgnoreMissing(err)
}
