package tenants

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A data_dir may lead through symbolic links. Whoever changes one moves the tenant, as if
// data_dir were another one.

// leadsElsewhere says whether the data_dir of a tenant leads to another directory than when
// the file was read.
func (s *Snapshot) leadsElsewhere() bool {
	parents := map[string]string{} // resolved; there are few
	for _, t := range s.all {
		above, ok := parents[filepath.Dir(t.Configured)]
		if !ok {
			above = fsutil.Resolve(filepath.Dir(t.Configured))
			parents[filepath.Dir(t.Configured)] = above
		}
		now := filepath.Join(above, filepath.Base(t.Configured))
		if info, err := os.Lstat(now); err == nil && info.Mode().Type() == fs.ModeSymlink {
			now = fsutil.Resolve(now)
		}
		if now != t.DataDir && fsutil.NodeOf(now) != (fsutil.Node{}) {
			return true
		}
	}
	return false
}

// keepPlaces leaves tenants where they were before if their data_dir leads to nothing now: a
// link is away for a moment while it is changed, and for longer with its disk.
func (s *Snapshot) keepPlaces(before *Snapshot) {
	if before == nil {
		return
	}
	for _, t := range s.all {
		was, ok := before.byID[t.ID]
		if !ok || was.Configured != t.Configured || was.DataDir == t.DataDir || fsutil.NodeOf(t.DataDir) != (fsutil.Node{}) {
			continue
		}
		if slices.ContainsFunc(s.byDir[was.DataDir], func(u *Tenant) bool { return !u.SharedDataDir || !t.SharedDataDir }) {
			continue // somebody else is to have it
		}
		left := slices.DeleteFunc(s.byDir[t.DataDir], func(u *Tenant) bool { return u == t })
		if s.byDir[t.DataDir] = left; len(left) == 0 {
			delete(s.byDir, t.DataDir)
		}
		t.DataDir = was.DataDir
		s.byDir[t.DataDir] = append(s.byDir[t.DataDir], t)
	}
}
