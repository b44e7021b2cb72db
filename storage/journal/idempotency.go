package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// answerAge is how long a repeated request gets the first answer.
const answerAge = 24 * time.Hour

// answersFile holds the answers of all segments but the newest.
const answersFile = "answers"

// MostAnswerBytes is how long all answers to Idempotency-Keys of a data_dir may be
// together. Those of single writes never are: it is the answers to batches that are long.
const MostAnswerBytes = 16 << 20

// answers are the first answers to each Idempotency-Key. When there are more
// than limit, or more than MostAnswerBytes, the oldest are forgotten.
type answers struct {
	limit int
	bytes int // of their texts
	byKey map[answerKey]answer
	queue []arrival // oldest first
}

type answerKey struct{ tenant, idempotency string }

type answer struct {
	text, digest string
	time         int64
	end          uint64 // value of written after the record; 0 = it is on disk
}

type arrival struct {
	key  answerKey
	time int64
}

func (a *answers) add(m Mutation, now int64, end uint64) {
	if m.Idempotency == "" {
		return
	}
	k := answerKey{m.Tenant, m.Idempotency}
	if _, ok := a.find(k, now); ok {
		return
	}
	k = answerKey{strings.Clone(k.tenant), strings.Clone(k.idempotency)}
	a.bytes += len(m.Answer) - len(a.byKey[k].text)
	a.byKey[k] = answer{strings.Clone(m.Answer), strings.Clone(m.Digest), now, end}
	a.queue = append(a.queue, arrival{k, now})
	a.trim(now)
}

func (a *answers) find(k answerKey, now int64) (answer, bool) {
	got, ok := a.byKey[k]
	return got, ok && now-got.time < int64(answerAge)
}

func (a *answers) trim(now int64) {
	for len(a.queue) > 0 && (len(a.queue) > a.limit || a.bytes > MostAnswerBytes || now-a.queue[0].time >= int64(answerAge)) {
		first := a.queue[0]
		if a.byKey[first.key].time == first.time {
			a.bytes -= len(a.byKey[first.key].text)
			delete(a.byKey, first.key)
		}
		a.queue = a.queue[1:]
	}
}

// Answered returns the answer to the first request of a tenant with an
// Idempotency-Key, and the digest of that request. An answer is kept for 24
// hours, or until there are 65,536 or MostAnswerBytes of newer ones in the data_dir. It waits
// until the first request is as durable as the policy wants.
func (j *Journal) Answered(tenant, idempotency string) (text, digest string, ok bool, err error) {
	got, ok, err := j.findAnswer(answerKey{tenant, idempotency})
	if ok && j.cfg.Sync != Off {
		err = j.syncUpTo(got.end)
	}
	return got.text, got.digest, ok, err
}

func (j *Journal) findAnswer(k answerKey) (got answer, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return answer{}, false, err
	}
	if got, ok = j.answers.find(k, j.cfg.Now().UnixNano()); !ok {
		return answer{}, false, nil
	}
	return got, true, nil
}

func (j *Journal) loadAnswers() (*answers, error) {
	a := &answers{limit: j.cfg.answersMax, byKey: map[answerKey]answer{}}
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
	good, err := walkRecords(f, info.Size(), func(r record) error {
		if r.kind == answered {
			a.add(r.m, r.time, 0)
		}
		return nil
	})
	if good < info.Size() {
		j.cfg.Logger.Warn("answers to Idempotency-Keys are lost", "path", f.Name(), "bytes", info.Size()-good)
	}
	return a, errors.Join(err, f.Close())
}

// saveAnswersLocked writes all answers to answersFile, because the newest
// segment is about to end.
func (j *Journal) saveAnswersLocked() error {
	j.answers.trim(j.lastTime)
	path := filepath.Join(j.dir, answersFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(j.answers.queue) == 0 {
		return nil
	}
	var b []byte
	var err error
	for _, l := range j.answers.queue {
		if b, err = j.answers.frame(b, l); err != nil {
			return err
		}
	}
	if err := j.cfg.replace(path, bytes.NewReader(b), 0o600, j.cfg.Sync != Off); err != nil {
		return fmt.Errorf("keeping the answers of %s: %w", j.dataDir, err)
	}
	return nil
}

func (a *answers) frame(b []byte, l arrival) ([]byte, error) {
	got := a.byKey[l.key]
	if got.time != l.time {
		return b, nil // the key was used again after a day
	}
	m := Mutation{Op: Update, Tenant: l.key.tenant, Idempotency: l.key.idempotency, Digest: got.digest, Answer: got.text}
	return frame(b, record{kind: answered, time: l.time, m: m})
}
