package journal

import (
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// heal sets the file aside and puts the right one in its place. What is unique
// in the file must be set aside, or nothing happens.
func (s *subject) heal(reason string, unique bool) error {
	aside, err := s.setAside(reason)
	if err != nil && unique {
		return err
	}
	if err != nil {
		s.v.j.cfg.Logger.Error("a torn file could not be set aside", "path", s.path, "error", err)
	}
	if err := s.replace(s.path, s.want); err != nil {
		return err
	}
	s.v.j.cfg.Logger.Warn("a phext was damaged and is put right", "path", s.path, "reason", reason, "quarantine", aside)
	s.report.Healed++
	if len(s.t.open) > 0 {
		return s.completed()
	}
	id, err := fsutil.Identify(s.path)
	if err != nil {
		return err
	}
	return s.record(record{kind: seen, left: id, sure: true})
}

func (s *subject) setAside(reason string) (string, error) {
	if !s.found.Exists {
		return "", nil
	}
	path, err := s.v.j.setAside(strings.NewReader(s.found.Text), reason, s.name)
	if err == nil {
		s.report.Quarantined = append(s.report.Quarantined, path)
	}
	return path, err
}

// keep takes the file for what somebody else made of it.
func (s *subject) keep() error {
	s.v.j.cfg.Logger.Warn("a phext was changed by somebody else and is kept", "path", s.path, "bytes", len(s.found.Text))
	s.report.Kept++
	j := s.v.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return err
	}
	return j.edit(s.name, s.found, s.id)
}

// put makes the file at path what state says, as durably as the policy wants it.
func (j *Journal) put(path string, state State) error {
	if state.Exists {
		return fsutil.Replace(path, state.Text, fsutil.NewFileMode, j.cfg.Sync != Off)
	}
	if err := os.Remove(path); err != nil && !missing(err) {
		return err
	}
	if j.cfg.Sync == Off {
		return nil
	}
	return fsutil.SyncDir(filepath.Dir(path))
}

func (s *subject) record(all ...record) error {
	j := s.v.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return err
	}
	for i := range all {
		all[i].time, all[i].m.File = j.tick(), s.name
	}
	return j.append(all...)
}

// end records the end of all that is under way.
func (s *subject) end(r record) error {
	all := make([]record, len(s.t.open))
	for i, o := range s.t.open {
		all[i], all[i].seq = r, o.seq
	}
	return s.record(all...)
}
