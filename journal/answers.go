package journal

import (
	"errors"
	"os"
	"time"

	"mirrorborn.us/sqgate/internal/disk"
)

// answersFile keeps what requests with an Idempotency-Key were answered: it
// must last a day, whatever becomes of the segments.
const answersFile = "answers"

// How long an answer is kept, and how many are.
const (
	answerAge   = 24 * time.Hour
	mostAnswers = 100_000
)

type answerKey struct{ tenant, key string }

type answered struct {
	at             time.Time
	answer, digest string
}

// answers are those of one journal.
type answers struct {
	path string
	file *os.File
	size int64
	all  map[answerKey]answered
}

// open reads the file and, if much of it is past, writes it anew.
func (a *answers) open(path string, now time.Time) error {
	a.path, a.all = path, map[answerKey]answered{}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	count := 0
	for len(b) > 0 {
		r, n, err := unframe(b)
		if err != nil {
			break // the end of a write that a crash cut off
		}
		count++
		if now.Sub(r.time) < answerAge {
			a.remember(r.time, r.m)
		}
		a.size += int64(n)
		b = b[n:]
	}
	if count > 2*len(a.all)+1000 || len(b) > 0 {
		return a.rewrite()
	}
	return nil
}

func (a *answers) rewrite() error {
	var b []byte
	for k, v := range a.all {
		b = frame(b, &record{kind: kindAnswer, time: v.at, m: Mutation{Op: Update, Tenant: k.tenant, Idempotency: k.key, Digest: v.digest, Answer: v.answer}})
	}
	a.size = int64(len(b))
	return disk.Replace(a.path, string(b), 0o600, true)
}

func (a *answers) remember(at time.Time, m Mutation) {
	if len(a.all) >= mostAnswers {
		a.forget(at)
	}
	a.all[answerKey{m.Tenant, m.Idempotency}] = answered{at: at, answer: m.Answer, digest: m.Digest}
}

// forget makes room: what is past goes, and if that is nothing, any one goes.
func (a *answers) forget(now time.Time) {
	for k, v := range a.all {
		if now.Sub(v.at) >= answerAge {
			delete(a.all, k)
		}
	}
	for k := range a.all {
		if len(a.all) < mostAnswers {
			return
		}
		delete(a.all, k)
	}
}

func (a *answers) close() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}

// answer keeps the answer to m. What is lost of the file in a crash stands in
// the newest segment too.
func (j *Journal) answer(at time.Time, m Mutation) error {
	a := &j.answers
	a.remember(at, m)
	if a.file == nil {
		f, err := os.OpenFile(a.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		a.file = f
	}
	m.Text, m.File = "", ""
	b := frame(nil, &record{kind: kindAnswer, time: at, m: m})
	if _, err := j.set.write(a.file, b, a.size); err != nil {
		return errors.Join(err, a.file.Truncate(a.size))
	}
	a.size += int64(len(b))
	return nil
}

// Answered is what a tenant's request with this Idempotency-Key was answered
// within the last day, and the digest of that request.
func (j *Journal) Answered(tenant, key string) (answer, digest string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v, ok := j.answers.all[answerKey{tenant, key}]
	if !ok || j.set.config.Now().Sub(v.at) >= answerAge {
		return "", "", false
	}
	return v.answer, v.digest, true
}
