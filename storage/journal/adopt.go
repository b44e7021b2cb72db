package journal

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A directory in a bucket is what the log there says, whatever the journal knows. The
// journal takes that down as any other change, so that its history goes on.

// Adopt makes a file what the log in a bucket says, durably, and returns its identity
// then. now is what it holds. The path at leads to the data_dir. The caller has recovered
// the directory, and nobody else changes it meanwhile.
func (j *Journal) Adopt(at, file string, now, want State, note string) (id fsutil.FileID, err error) {
	path := filepath.Join(at, file)
	if id, err = j.cfg.Links.Identify(path); err != nil {
		return id, err
	}
	if last, known := j.LastSeen(file); known && last != id {
		if err := j.RecordEdit(file, now, id); err != nil {
			return id, err
		}
	}
	m := Mutation{File: file, Op: Replace, Text: want.Text, Note: note}
	if !want.Exists {
		m.Op = Remove
	}
	p, err := j.Begin(m, func() (State, error) { return now, nil })
	if err != nil {
		return id, err
	}
	if err = fsutil.MakeDir(at, 0o700); err == nil { // a new machine has not even what it is in
		err = j.writeState(path, want)
	}
	if err == nil {
		id, err = j.cfg.Links.Identify(path)
	}
	if err != nil {
		return id, errors.Join(err, p.LeaveToRecovery())
	}
	return id, errors.Join(p.Done(id), p.Sync())
}

// SetAside copies a file that is ahead of the log in a bucket to the quarantine, and
// returns the path of the copy.
func (j *Journal) SetAside(file string, now State) (path string, err error) {
	return j.quarantine(strings.NewReader(now.Text), "not-in-bucket", file)
}

// Began is when the journal began, as far back as it goes; false = it is empty.
func (j *Journal) Began() (at time.Time, begun bool, err error) {
	v, err := j.view(false)
	if err != nil {
		return at, false, err
	}
	defer v.close()
	for _, o := range v.segments {
		f, err := v.file(o)
		if err != nil {
			return at, false, err
		}
		head, whole, err := readHeader(f)
		if err = errors.Join(err, f.Close()); err != nil || whole {
			return time.Unix(0, head.time), true, err
		}
	}
	return at, false, nil
}

// Answer is the first answer to an Idempotency-Key.
type Answer struct {
	Time                              time.Time
	Tenant, Idempotency, Digest, Text string
}

// Answers are the answers to Idempotency-Keys, oldest first.
func (j *Journal) Answers() (all []Answer, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return nil, err
	}
	err = j.readAnswersLocked(func(l *answer, m Mutation) error {
		all = append(all, Answer{time.Unix(0, l.time), m.Tenant, m.Idempotency, m.Digest, m.Answer})
		return nil
	})
	return all, err
}

// SetAnswers replaces all answers to Idempotency-Keys: a write that is not in the log in
// a bucket was not made, and must not be answered as if it were.
func (j *Journal) SetAnswers(all []Answer) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	want := j.cfg.newAnswers()
	for i, a := range all {
		n := answerOf(a.mutation(), a.Time.UnixNano())
		n.offset = int64(i) // in all, until it is written
		want.add(n)
	}
	now := j.cfg.Now().UnixNano()
	want.trim(now)
	if j.answers.trim(now); j.answers.equals(want) {
		want.free()
		return nil
	}
	if err := j.rotateLocked(); err != nil { // or the newest segment would bring its answers back
		want.free()
		return err
	}
	err := j.replaceAnswersLocked(want, func(visit func(*answer, Mutation) error) error {
		for _, l := range want.queue {
			if err := visit(l, all[l.offset].mutation()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		want.free()
		return err
	}
	j.answers.free()
	j.answers = want
	return nil
}

func (a Answer) mutation() Mutation {
	return Mutation{Op: Update, Tenant: a.Tenant, Idempotency: a.Idempotency, Digest: a.Digest, Answer: a.Text}
}

// equals says whether repeated requests get the same answers.
func (a *answers) equals(b *answers) bool {
	if len(a.byKey) != len(b.byKey) {
		return false
	}
	for k, v := range a.byKey {
		if w := b.byKey[k]; w == nil || w.sum != v.sum {
			return false
		}
	}
	return true
}
