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

// mostAnswerBytes is how long all answers to Idempotency-Keys of a data_dir may be
// together. Those of single writes are short and never too many: it is the answers to
// batches that are long.
const (
	mostAnswerBytes = 16 << 20
	shortAnswer     = 256 // bytes
)

// AnswersToForget says which of n answers, oldest first, are too long to be kept together.
// They are the oldest long ones of the key that has the most. So nobody has the answers of
// others forgotten, whose repeats would be made again.
func AnswersToForget(n int, answer func(i int) (tenant, idempotency, text string)) map[int]bool {
	all, long, bytes := 0, map[string][]int{}, map[string]int{} // by tenant and key
	size := func(i int) int {
		_, _, text := answer(i)
		return len(text)
	}
	for i := range n {
		tenant, idempotency, text := answer(i)
		if all += len(text); len(text) > shortAnswer {
			key := tenant + "\x00" + idempotency[:strings.LastIndexByte(idempotency, 0)+1]
			long[key], bytes[key] = append(long[key], i), bytes[key]+len(text)
		}
	}
	forget := map[int]bool{}
	for all > mostAnswerBytes && len(long) > 0 {
		most := ""
		for key := range long {
			if bytes[key] > bytes[most] || bytes[key] == bytes[most] && key < most { // the same ones each time
				most = key
			}
		}
		first := long[most][0]
		forget[first] = true
		all, bytes[most] = all-size(first), bytes[most]-size(first)
		if long[most] = long[most][1:]; len(long[most]) == 0 {
			delete(long, most)
		}
	}
	return forget
}

// answers are the first answers to each Idempotency-Key. When there are more than limit,
// the oldest are forgotten, and when they are too long, those of AnswersToForget.
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
	for len(a.queue) > 0 && (len(a.queue) > a.limit || now-a.queue[0].time >= int64(answerAge)) {
		a.forget(a.queue[0])
		a.queue = a.queue[1:]
	}
	if a.bytes <= mostAnswerBytes {
		return
	}
	forget := AnswersToForget(len(a.queue), func(i int) (tenant, idempotency, text string) {
		l := a.queue[i]
		if got := a.byKey[l.key]; got.time == l.time {
			text = got.text
		}
		return l.key.tenant, l.key.idempotency, text
	})
	var kept []arrival
	for i, l := range a.queue {
		if forget[i] {
			a.forget(l)
		} else {
			kept = append(kept, l)
		}
	}
	a.queue = kept
}

// forget drops an answer, unless the key was used again after a day.
func (a *answers) forget(l arrival) {
	if got := a.byKey[l.key]; got.time == l.time {
		a.bytes -= len(got.text)
		delete(a.byKey, l.key)
	}
}

// Answered returns the answer to the first request of a tenant with an
// Idempotency-Key, and the digest of that request. An answer is kept for 24
// hours, or until there are 65,536 newer ones in the data_dir. A long one may be forgotten
// earlier: see AnswersToForget. Answered waits until the first request is as durable as the
// policy wants.
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
