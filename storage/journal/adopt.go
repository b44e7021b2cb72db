package journal

import (
	"errors"
	"fmt"
	"iter"
	"os"
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
	if err = j.MakeDataDir(at); err == nil { // a new machine has not even what it is in
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
// a bucket was not made, and must not be answered as if it were. It has one of them in memory
// at a time, and keeps nobody from the journal while it asks for the next one. It may ask for
// all of them twice, so that nothing is written if they are there.
func (j *Journal) SetAnswers(all iter.Seq2[Answer, error]) error {
	if same, err := j.hasAnswers(all); same || err != nil {
		return err
	}
	want := j.cfg.newAnswers()
	if err := j.setAnswers(all, want); err != nil {
		want.free()
		return err
	}
	return nil
}

// hasAnswers says whether these are the answers that there are, if there are any.
func (j *Journal) hasAnswers(all iter.Seq2[Answer, error]) (same bool, err error) {
	j.mu.Lock()
	err = j.openLocked()
	none := err == nil && len(j.answers.queue) == 0
	j.mu.Unlock()
	if none || err != nil {
		return false, err
	}
	want := j.cfg.newAnswers()
	defer want.free()
	for a, err := range all {
		if err != nil {
			return false, j.notTakenOver(err)
		}
		want.add(answerOf(a.mutation(), a.Time.UnixNano()))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return false, err
	}
	return j.isAnswersLocked(want), nil
}

// isAnswersLocked says whether repeated requests get the same answers now.
func (j *Journal) isAnswersLocked(want *answers) bool {
	now := j.cfg.Now().UnixNano()
	want.trim(now)
	j.answers.trim(now)
	return j.answers.equals(want)
}

func (j *Journal) notTakenOver(err error) error {
	return fmt.Errorf("taking over the answers of %s: %w", j.dataDir, err)
}

// setAnswers is SetAnswers, which makes want what is wanted. The caller frees it after an
// error.
func (j *Journal) setAnswers(all iter.Seq2[Answer, error], want *answers) error {
	read, done, err := j.spoolAnswers(all, want)
	defer done()
	if err != nil {
		return err
	}
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	if j.isAnswersLocked(want) {
		want.free()
		return nil
	}
	if err := j.rotateLocked(); err != nil { // or the newest segment would bring its answers back
		return err
	}
	err = j.replaceAnswersLocked(want, func(visit func(*answer, Mutation) error) error {
		for _, l := range want.queue {
			m, err := l.in(read(l.offset))
			if err == nil {
				err = visit(l, m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.answers.free()
	j.answers = want
	return nil
}

// spoolAnswers adds answers to want, with their offsets in a file that has no name any more,
// which read reads until done is called.
func (j *Journal) spoolAnswers(all iter.Seq2[Answer, error], want *answers) (read func(offset int64) (record, error), done func(), err error) {
	var f *os.File
	done = func() {
		if f != nil {
			_ = f.Close() // and nobody else has it
		}
	}
	var b []byte
	var size int64
	for a, err := range all {
		if err == nil && f == nil {
			f, err = j.unnamedFile()
		}
		if err == nil {
			b, err = frame(b[:0], record{kind: answered, time: a.Time.UnixNano(), m: a.mutation()})
		}
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil {
			return nil, done, j.notTakenOver(err)
		}
		n := answerOf(a.mutation(), a.Time.UnixNano())
		n.offset = size
		want.add(n)
		size += int64(len(b))
	}
	from := &recordReader{file: f, size: size}
	return from.read, done, nil
}

// unnamedFile makes a file beside the journal, which is gone when it is closed.
func (j *Journal) unnamedFile() (*os.File, error) {
	j.mu.Lock()
	err := j.openLocked()
	if err == nil {
		err = j.establishDir(false)
	}
	j.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(j.dir, fsutil.Temporary+"*")
	if err != nil {
		return nil, err
	}
	if err := fsutil.IgnoreMissing(os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
