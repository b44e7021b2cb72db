package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// answerAge is how long a repeat gets the first answer.
const answerAge = 24 * time.Hour

// answersFile holds the answers of all segments but the newest, which has its own.
const answersFile = "answers"

// answers are the first ones to each Idempotency-Key, up to most of them; the
// oldest go first.
type answers struct {
	most int
	of   map[answerKey]answer
	line []arrival // oldest first
}

type answerKey struct{ tenant, idempotency string }

type answer struct {
	text, digest string
	time         int64
}

type arrival struct {
	key  answerKey
	time int64
}

func (a *answers) add(m Mutation, now int64) {
	if m.Idempotency == "" {
		return
	}
	k := answerKey{m.Tenant, m.Idempotency}
	if _, ok := a.find(k, now); ok {
		return
	}
	k = answerKey{strings.Clone(k.tenant), strings.Clone(k.idempotency)}
	a.of[k] = answer{strings.Clone(m.Answer), strings.Clone(m.Digest), now}
	a.line = append(a.line, arrival{k, now})
	a.trim(now)
}

func (a *answers) find(k answerKey, now int64) (answer, bool) {
	got, ok := a.of[k]
	return got, ok && now-got.time < int64(answerAge)
}

func (a *answers) trim(now int64) {
	for len(a.line) > 0 && (len(a.line) > a.most || now-a.line[0].time >= int64(answerAge)) {
		first := a.line[0]
		if a.of[first.key].time == first.time {
			delete(a.of, first.key)
		}
		a.line = a.line[1:]
	}
}

// Answered finds the first answer to an Idempotency-Key of the tenant within 24
// hours, and the digest of the request that was answered. Of more than 65,536
// in a data_dir the oldest are forgotten sooner.
func (j *Journal) Answered(tenant, idempotency string) (text, digest string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		j.cfg.Logger.Error("opening the journal", "data_dir", j.data, "error", err)
		return "", "", false
	}
	got, ok := j.answers.find(answerKey{tenant, idempotency}, j.cfg.Now().UnixNano())
	if !ok {
		return "", "", false
	}
	return got.text, got.digest, true
}

func (j *Journal) loadAnswers() (*answers, error) {
	a := &answers{most: j.cfg.answers, of: map[answerKey]answer{}}
	f, err := os.Open(filepath.Join(j.dir, answersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	good, err := walk(f, info.Size(), func(r record) error {
		if r.kind == answered {
			a.add(r.m, r.time)
		}
		return nil
	})
	if good < info.Size() {
		j.cfg.Logger.Warn("answers to Idempotency-Keys are lost", "path", f.Name(), "bytes", info.Size()-good)
	}
	return a, errors.Join(err, f.Close())
}

// saveAnswers writes down what the newest segment knew, before it ends.
func (j *Journal) saveAnswers() error {
	j.answers.trim(j.last)
	path := filepath.Join(j.dir, answersFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(j.answers.line) == 0 {
		return nil
	}
	var b []byte
	var err error
	for _, l := range j.answers.line {
		if b, err = j.answers.frame(b, l); err != nil {
			return err
		}
	}
	if err := fsutil.Replace(path, string(b), 0o600, j.cfg.Sync != Off); err != nil {
		return fmt.Errorf("keeping the answers of %s: %w", j.data, err)
	}
	return nil
}

func (a *answers) frame(b []byte, l arrival) ([]byte, error) {
	got := a.of[l.key]
	if got.time != l.time {
		return b, nil // it came again after a day
	}
	m := Mutation{Op: Update, Tenant: l.key.tenant, Idempotency: l.key.idempotency, Digest: got.digest, Answer: got.text}
	return frame(b, record{kind: answered, time: l.time, m: m})
}
