package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// recovery is one Recover of one segment.
type recovery struct {
	v        *view
	o        *opening
	sameBoot bool
	report   *Report
	replace  func(path string, s State) error // as put; a full disk in tests
}

func (j *Journal) recovery(v *view, report *Report) *recovery {
	return &recovery{v: v, o: v.segments[0], sameBoot: j.sameBoot(), report: report, replace: j.put}
}

// subject is one file under recovery.
type subject struct {
	*recovery
	name, path   string
	t            *track
	found        State
	id           fsutil.FileID
	before, want State      // before and after the mutations under way; equal if there is none
	set          []Mutation // those under way
}

func (r *recovery) file(name string, t *track) error {
	r.report.Checked++
	s := &subject{recovery: r, name: name, path: filepath.Join(r.v.j.data, name), t: t}
	var err error
	if s.id, err = fsutil.Identify(s.path); err != nil {
		return err
	}
	if r.sameBoot && len(t.open) == 0 && t.sure && t.left == s.id {
		return nil
	}
	if s.found, err = readState(s.path); err != nil {
		return err
	}
	if err := s.replay(); err != nil {
		return s.withoutCheckpoint(err)
	}
	if len(t.open) > 0 {
		return s.underWay()
	}
	return s.atRest()
}

func (s *subject) replay() error {
	f, err := s.v.file(s.o)
	if err != nil {
		return err
	}
	d, err := s.v.replayFrom(f, s.o, s.t)
	if err == nil {
		s.before = d.state()
		s.want = s.before
	}
	if err == nil && len(s.t.open) > 0 {
		s.set, err = s.mutations(f, s.t.open)
		for _, m := range s.set {
			d.apply(m)
		}
		s.want = d.state()
	}
	return errors.Join(err, f.Close())
}

// withoutCheckpoint keeps what is there if nobody can say any more what should
// be, as long as SQ can read it.
func (s *subject) withoutCheckpoint(err error) error {
	if !errors.Is(err, ErrDamaged) || !s.found.Exists || !readableText(s.found) {
		return err
	}
	s.v.j.cfg.Logger.Error("a phext cannot be checked, since its checkpoint is damaged", "path", s.path, "error", err)
	return s.keep()
}

// underWay settles mutations of which nobody knows how far they came.
func (s *subject) underWay() error {
	switch {
	case s.found == s.want:
		return s.complete(s.id)
	case s.found == s.before:
		return s.carryOut()
	case !readableText(s.found):
		return s.heal("not-utf8", true)
	case torn(s.found, s.want), torn(s.found, s.before), holed(s.found, s.want), holed(s.found, s.before):
		return s.heal("torn", false)
	case s.partway():
		return s.finishAll()
	case s.emptied():
		return s.heal("emptied", true)
	}
	if done, err := s.afterPowerCut(); done {
		return err
	}
	if err := s.end(record{kind: aborted}); err != nil {
		return err
	}
	return s.keep()
}

// carryOut makes the mutation, or says that it did not happen if there is no room.
func (s *subject) carryOut() error {
	err := s.replace(s.path, s.want)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.v.j.cfg.Logger.Warn("no room to complete a mutation; it is undone", "path", s.path)
		return s.end(record{kind: aborted, left: s.id, sure: true})
	}
	if err != nil {
		return err
	}
	return s.completed()
}

func (s *subject) completed() error {
	id, err := fsutil.Identify(s.path)
	if err != nil {
		return err
	}
	return s.complete(id)
}

func (s *subject) complete(id fsutil.FileID) error {
	if err := s.end(record{kind: done, left: id, sure: true}); err != nil {
		return err
	}
	s.report.Completed += len(s.t.open)
	return nil
}

// atRest settles a file that is not the one which the last mutation left.
func (s *subject) atRest() error {
	switch {
	case s.found == s.want:
		return s.record(record{kind: seen, left: s.id, sure: true})
	case !readableText(s.found):
		return s.heal("not-utf8", true)
	case s.t.doubt:
		return s.heal("refused", false)
	case s.sameBoot: // SQ was not writing: it was a person
		return s.keep()
	case torn(s.found, s.want), holed(s.found, s.want):
		return s.heal("torn", false)
	}
	if done, err := s.afterPowerCut(); done {
		return err
	}
	return s.keep()
}

// afterPowerCut heals what only a power cut leaves; done says whether it was that.
func (s *subject) afterPowerCut() (done bool, err error) {
	older, err := s.older()
	switch {
	case err != nil:
		return true, s.withoutCheckpoint(err)
	case older:
		return true, s.heal("outdated", false)
	case !s.sameBoot && holes(s.found, s.want):
		return true, s.heal("torn", true)
	}
	return false, nil
}

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
