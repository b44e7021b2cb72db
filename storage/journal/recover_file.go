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
	o        *segmentView
	sameBoot bool
	report   *Report
	replace  func(path string, s State) error // as put; a full disk in tests
}

func (j *Journal) recovery(v *view, report *Report) *recovery {
	return &recovery{v: v, o: v.segments[0], sameBoot: j.sameBoot(), report: report, replace: j.writeState}
}

// fileRecovery is one file under recovery.
type fileRecovery struct {
	*recovery
	name, path   string
	t            *fileLog
	found        State
	id           fsutil.FileID
	before, want State      // before and after the mutations under way; equal if there is none
	batch        []Mutation // those under way
}

func (r *recovery) file(name string, t *fileLog) error {
	r.report.Checked++
	s := &fileRecovery{recovery: r, name: name, path: filepath.Join(r.v.j.dataDir, name), t: t}
	var err error
	if s.id, err = fsutil.Identify(s.path); err != nil {
		return err
	}
	if r.sameBoot && len(t.pending) == 0 && t.known && t.lastSeen == s.id {
		return nil
	}
	if s.found, err = readState(s.path); err != nil {
		return err
	}
	if err := s.replay(); err != nil {
		return s.checkpointDamaged(err)
	}
	if len(t.pending) > 0 {
		return s.recoverPending()
	}
	return s.recoverIdle()
}

func (s *fileRecovery) replay() error {
	f, err := s.v.file(s.o)
	if err != nil {
		return err
	}
	d, err := s.v.replayFrom(f, s.o, s.t)
	if err == nil {
		s.before = d.state()
		s.want = s.before
	}
	if err == nil && len(s.t.pending) > 0 {
		s.batch, err = s.mutations(f, s.t.pending)
		for _, m := range s.batch {
			d.apply(m)
		}
		s.want = d.state()
	}
	return errors.Join(err, f.Close())
}

// checkpointDamaged keeps what is there if nobody can say any more what should
// be, as long as SQ can read it.
func (s *fileRecovery) checkpointDamaged(err error) error {
	if !errors.Is(err, ErrDamaged) || !s.found.Exists || !isUTF8(s.found) {
		return err
	}
	s.v.j.cfg.Logger.Error("a phext cannot be checked, since its checkpoint is damaged", "path", s.path, "error", err)
	return s.keepEdit()
}

// recoverPending settles mutations of which nobody knows how far they came.
func (s *fileRecovery) recoverPending() error {
	switch {
	case s.found == s.want:
		return s.complete(s.id)
	case s.found == s.before:
		return s.carryOut()
	case !isUTF8(s.found):
		return s.repair("not-utf8", true)
	case torn(s.found, s.want), torn(s.found, s.before), holed(s.found, s.want), holed(s.found, s.before):
		return s.repair("torn", false)
	case s.holdsPartOfBatch():
		return s.completeBatch()
	case s.madeFromNothing():
		return s.repair("emptied", true)
	}
	if done, err := s.afterPowerCut(); done {
		return err
	}
	if err := s.recordEnd(record{kind: aborted}); err != nil {
		return err
	}
	return s.keepEdit()
}

// carryOut makes the mutation, or says that it did not happen if there is no room.
func (s *fileRecovery) carryOut() error {
	err := s.replace(s.path, s.want)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		s.v.j.cfg.Logger.Warn("no room to complete a mutation; it is undone", "path", s.path)
		return s.recordEnd(record{kind: aborted, id: s.id, idKnown: true})
	}
	if err != nil {
		return err
	}
	return s.completed()
}

func (s *fileRecovery) completed() error {
	id, err := fsutil.Identify(s.path)
	if err != nil {
		return err
	}
	return s.complete(id)
}

func (s *fileRecovery) complete(id fsutil.FileID) error {
	if err := s.recordEnd(record{kind: done, id: id, idKnown: true}); err != nil {
		return err
	}
	s.report.Completed += len(s.t.pending)
	return nil
}

// recoverIdle settles a file that is not the one which the last mutation left.
func (s *fileRecovery) recoverIdle() error {
	switch {
	case s.found == s.want:
		return s.record(record{kind: seen, id: s.id, idKnown: true})
	case !isUTF8(s.found):
		return s.repair("not-utf8", true)
	case s.t.mustRollBack:
		return s.repair("refused", false)
	case s.sameBoot: // SQ was not writing: it was a person
		return s.keepEdit()
	case torn(s.found, s.want), holed(s.found, s.want):
		return s.repair("torn", false)
	}
	if done, err := s.afterPowerCut(); done {
		return err
	}
	return s.keepEdit()
}

// afterPowerCut heals what only a power cut leaves; done says whether it was that.
func (s *fileRecovery) afterPowerCut() (done bool, err error) {
	older, err := s.older()
	switch {
	case err != nil:
		return true, s.checkpointDamaged(err)
	case older:
		return true, s.repair("outdated", false)
	case !s.sameBoot && holes(s.found, s.want):
		return true, s.repair("torn", true)
	}
	return false, nil
}

// repair sets the file aside and puts the right one in its place. What is unique
// in the file must be set aside, or nothing happens.
func (s *fileRecovery) repair(reason string, unique bool) error {
	aside, err := s.quarantineFound(reason)
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
	if len(s.t.pending) > 0 {
		return s.completed()
	}
	id, err := fsutil.Identify(s.path)
	if err != nil {
		return err
	}
	return s.record(record{kind: seen, id: id, idKnown: true})
}

func (s *fileRecovery) quarantineFound(reason string) (string, error) {
	if !s.found.Exists {
		return "", nil
	}
	path, err := s.v.j.quarantine(strings.NewReader(s.found.Text), reason, s.name)
	if err == nil {
		s.report.Quarantined = append(s.report.Quarantined, path)
	}
	return path, err
}

// keepEdit takes the file for what somebody else made of it.
func (s *fileRecovery) keepEdit() error {
	s.v.j.cfg.Logger.Warn("a phext was changed by somebody else and is kept", "path", s.path, "bytes", len(s.found.Text))
	s.report.Kept++
	j := s.v.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	return j.recordEditLocked(s.name, s.found, s.id)
}

// writeState makes the file at path what state says, as durably as the policy wants it.
func (j *Journal) writeState(path string, state State) error {
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

func (s *fileRecovery) record(all ...record) error {
	j := s.v.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	for i := range all {
		all[i].time, all[i].m.File = j.tickLocked(), s.name
	}
	return j.appendLocked(all...)
}

// recordEnd records the recordEnd of all that is under way.
func (s *fileRecovery) recordEnd(r record) error {
	all := make([]record, len(s.t.pending))
	for i, o := range s.t.pending {
		all[i], all[i].seq = r, o.seq
	}
	return s.record(all...)
}
