package journal

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// Answers to Idempotency-Keys are on the disk: in the records of their mutations in the
// newest segment, and in answersFile. Only where each of them is, is in memory.

// AnswerAge is how long a repeated request gets the first answer.
const AnswerAge = 24 * time.Hour

// answersFile holds the answers of all segments but the newest.
const answersFile = "answers"

// mostAnswerBytes is how many bytes all answers to Idempotency-Keys of a data_dir may have
// together. It is the answers to batches that are long, and those are forgotten first.
const (
	mostAnswerBytes = 16 << 20
	shortAnswer     = 256
)

// What is known of an answer takes about 128 bytes of memory. So these are 8 MiB for a
// data_dir and, for all of them, 64 MiB and 136 KiB each.
const (
	mostAnswers    = 1 << 16 // of a data_dir
	mostAnswersAll = 1 << 19 // of all data_dirs; above that, one that has more than its sureAnswers forgets some
	sureAnswers    = 1 << 10
)

// fewer is how many are kept of the most that there may be, once there are more. Which ones
// takes a look at all of them, so that many are forgotten at a time.
func fewer(most int) int { return most - most/16 }

// AnswerWriter tells apart whose answers are counted together: those of one key of a tenant.
type AnswerWriter uint64

// AnswerWriterOf is whose the answer to an Idempotency-Key is.
func AnswerWriterOf(tenant, idempotency string) AnswerWriter {
	return AnswerWriter(xxh3.HashString(tenant + "\x00" + idempotency[:strings.LastIndexByte(idempotency, 0)+1]))
}

// AnswersFit says whether a data_dir keeps so many answers, which have so many bytes.
func AnswersFit(n, bytes int) bool { return n <= mostAnswers && bytes <= mostAnswerBytes }

// AnswersToForget says which of n answers, oldest first, are forgotten where AnswersFit says
// no: always the next one of the key that has the most, by number and then by bytes. So nobody
// has the answers of others forgotten, whose repeats would be made again. The next one is the
// oldest, but long ones come before short ones where bytes count. size is in bytes.
func AnswersToForget(n int, answer func(i int) (of AnswerWriter, size int)) []bool {
	keep := n
	if n > mostAnswers {
		keep = fewer(mostAnswers)
	}
	return answersToForget(n, keep, answer)
}

// answersToForget is AnswersToForget of which at most keep are left.
func answersToForget(n, keep int, answer func(i int) (of AnswerWriter, size int)) []bool {
	writer, sizes, newest := make([]AnswerWriter, n), make([]int, n), make([]int, n)
	for i := range n {
		writer[i], sizes[i] = answer(i)
		newest[i] = n - 1 - i
	}
	forget := make([]bool, n)
	forgetOfMost(forget, newest, n-keep, writer, func(int) int { return 1 })
	var short, long []int
	bytes := 0
	for _, i := range newest {
		switch {
		case forget[i]:
			continue
		case sizes[i] > shortAnswer:
			long = append(long, i)
		default:
			short = append(short, i)
		}
		bytes += sizes[i]
	}
	if bytes > mostAnswerBytes {
		forgetOfMost(forget, append(short, long...), bytes-fewer(mostAnswerBytes), writer, func(i int) int { return sizes[i] })
	}
	return forget
}

// forgetOfMost forgets answers that weigh as much as there is too much, each time the next
// one of the writer whose answers weigh the most. last are all answers, a writer's next one
// last.
func forgetOfMost(forget []bool, last []int, tooMuch int, writer []AnswerWriter, weight func(i int) int) {
	type turn struct{ most, i int } // an answer is the next one when those of its writer weigh most
	turns, weights := make([]turn, len(last)), map[AnswerWriter]int{}
	for k, i := range last {
		weights[writer[i]] += weight(i)
		turns[k] = turn{weights[writer[i]], i}
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Or(cmp.Compare(b.most, a.most), cmp.Compare(a.i, b.i)) })
	for _, t := range turns {
		if tooMuch <= 0 {
			return
		}
		forget[t.i] = true
		tooMuch -= weight(t.i)
	}
}

// answers are where the first answers to each Idempotency-Key are. When there are too many, or
// they are too long, those of AnswersToForget are forgotten.
type answers struct {
	limit int
	all   *memlimit.Budget // number of answers of all data_dirs
	bytes int              // of their texts
	byKey map[answerKey]*answer
	queue []*answer // oldest first
}

// answerKey stands for a tenant and an Idempotency-Key.
type answerKey [16]byte

func keyOf(tenant, idempotency string) answerKey {
	sum := sha256.Sum256([]byte(tenant + "\x00" + idempotency))
	return answerKey(sum[:16])
}

type answer struct {
	key     answerKey
	of      AnswerWriter
	sum     uint64 // of the digest and the text
	time    int64
	end     uint64 // value of written after the record; 0 = it is on disk
	offset  int64  // of the record with the answer
	size    int32  // of the text, in bytes
	settled bool   // the record is in answersFile, not in the newest segment
}

func answerOf(m Mutation, now int64) *answer {
	return &answer{
		key: keyOf(m.Tenant, m.Idempotency), of: AnswerWriterOf(m.Tenant, m.Idempotency),
		sum: xxh3.HashString(m.Digest + "\x00" + m.Answer), time: now, size: int32(len(m.Answer)),
	}
}

func (s *settings) newAnswers() *answers {
	return &answers{limit: s.answersMax, all: s.answersAll, byKey: map[answerKey]*answer{}}
}

func (a *answers) add(n *answer) {
	if _, ok := a.find(n.key, n.time); ok {
		return
	}
	if old := a.byKey[n.key]; old != nil { // the key is used again after a day
		a.queue = slices.DeleteFunc(a.queue, func(l *answer) bool { return l == old })
		a.forget(old)
	}
	a.byKey[n.key] = n
	a.queue = append(a.queue, n)
	a.bytes += int(n.size)
	a.all.TakeAnyway(1)
	a.trim(n.time)
}

func (a *answers) find(k answerKey, now int64) (*answer, bool) {
	got := a.byKey[k]
	return got, got != nil && now-got.time < int64(AnswerAge)
}

// trim forgets answers that are too old, and then those that are too many or too long.
func (a *answers) trim(now int64) {
	for len(a.queue) > 0 && now-a.queue[0].time >= int64(AnswerAge) {
		a.forget(a.queue[0])
		a.queue = a.queue[1:]
	}
	keep := a.keep()
	if keep == len(a.queue) && a.bytes <= mostAnswerBytes {
		return
	}
	forget := answersToForget(len(a.queue), keep, func(i int) (AnswerWriter, int) {
		return a.queue[i].of, int(a.queue[i].size)
	})
	i := -1
	a.queue = slices.DeleteFunc(a.queue, func(l *answer) bool {
		if i++; forget[i] {
			a.forget(l)
		}
		return forget[i]
	})
}

// keep is how many of the answers may be kept.
func (a *answers) keep() int {
	n := len(a.queue)
	switch {
	case n > a.limit:
		return fewer(a.limit)
	case n > sureAnswers+sureAnswers/16 && a.all.Above(a.all.Limit()) > 0:
		return max(fewer(n), sureAnswers)
	}
	return n
}

// forget drops an answer, which the caller takes out of the queue.
func (a *answers) forget(l *answer) {
	a.bytes -= int(l.size)
	a.all.Give(1)
	delete(a.byKey, l.key)
}

// free is called when the answers are not used any more; nil = there were none.
func (a *answers) free() {
	if a != nil {
		a.all.Give(int64(len(a.queue)))
	}
}

// noteAnswersLocked adds the answers to mutations that were done, which begin records.
func (j *Journal) noteAnswersLocked(begin record, now int64) {
	for _, m := range begin.mutations() {
		if m.Idempotency != "" {
			n := answerOf(m, now)
			n.offset, n.end = begin.offset, j.written
			j.answers.add(n)
		}
	}
}

// ErrAnswer is an answer of Answered that cannot be read.
var ErrAnswer = errors.New("what a request with this Idempotency-Key was answered cannot be read")

// Answered returns the answer to the first request of a tenant with an
// Idempotency-Key, and the digest of that request. An answer is kept for AnswerAge, unless
// there are too many or they are too long: see AnswersToForget, and mostAnswersAll for those
// of all data_dirs. Answered waits until the first request is as durable as the policy
// wants; no mutation may be pending. If ok, that request was made, also if there is an error.
func (j *Journal) Answered(tenant, idempotency string) (text, digest string, ok bool, err error) {
	_ = j.leaveFailed() // if that fails, so does the sync below
	got, f, ok, err := j.findAnswer(keyOf(tenant, idempotency))
	if err != nil || !ok {
		return "", "", ok, err
	}
	defer f.Close() // it was only read
	var m Mutation
	from, err := newRecordReader(f)
	if err == nil {
		m, err = got.in(from.read(got.offset))
	}
	if err != nil {
		return "", "", true, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if j.cfg.Sync != Off {
		err = j.syncUpTo(got.end)
	}
	return m.Answer, m.Digest, true, err
}

// findAnswer returns an answer and the file with it, which stays as it is whatever becomes
// of the journal.
func (j *Journal) findAnswer(k answerKey) (got answer, f *os.File, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return answer{}, nil, false, err
	}
	l, ok := j.answers.find(k, j.cfg.Now().UnixNano())
	if !ok {
		return answer{}, nil, false, nil
	}
	name := answersFile
	if !l.settled {
		name = segmentName(j.seg.number)
	}
	if f, err = fsutil.Open(filepath.Join(j.dir, name)); err != nil {
		err = fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return *l, f, true, err
}

// in returns the mutation with the answer, which is in r.
func (l *answer) in(r record, err error) (Mutation, error) {
	if err != nil {
		return Mutation{}, err
	}
	for _, m := range r.mutations() {
		if keyOf(m.Tenant, m.Idempotency) == l.key {
			return Mutation{Op: Update, Tenant: m.Tenant, Idempotency: m.Idempotency, Digest: m.Digest, Answer: m.Answer}, nil
		}
	}
	return Mutation{}, fmt.Errorf("the record at %d of the journal, with an answer, %w", l.offset, ErrDamaged)
}

func (j *Journal) loadAnswers() (*answers, error) {
	a := j.cfg.newAnswers()
	f, err := fsutil.Open(filepath.Join(j.dir, answersFile))
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
	lost, err := walkAnswers(f, info.Size(), func(r record) {
		n := answerOf(r.m, r.time)
		n.offset, n.settled = r.offset, true
		a.add(n)
	})
	if lost > 0 {
		j.cfg.Logger.Warn("answers to Idempotency-Keys are lost", "path", f.Name(), "bytes", lost)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		a.free()
		return nil, err
	}
	return a, nil
}

// walkAnswers calls visit with each answer in the first size bytes of r that is whole, and
// returns how many bytes are not.
func walkAnswers(r io.ReaderAt, size int64, visit func(record)) (lost int64, err error) {
	for from := int64(0); from < size; {
		good, err := walkRecords(io.NewSectionReader(r, from, size-from), size-from, func(rec record) error {
			if rec.offset += from; rec.kind == answered {
				visit(rec)
			}
			return nil
		})
		damage := from + good
		if err != nil || damage == size {
			return lost, err
		}
		if from, err = nextIntact(r, damage, size, answered); err != nil {
			return lost, err
		}
		lost += from - damage
	}
	return lost, nil
}

// readAnswersLocked calls visit with each answer, oldest first. One that is damaged, or was
// taken away, is left out.
func (j *Journal) readAnswersLocked(visit func(*answer, Mutation) error) error {
	settled, newest := &recordReader{}, &recordReader{} // of nothing
	if j.seg != nil {
		newest.file, newest.size = j.seg.f, j.seg.end
	}
	f, err := fsutil.Open(filepath.Join(j.dir, answersFile))
	if err == nil {
		defer f.Close() // it was only read
		settled, err = newRecordReader(f)
	}
	if fsutil.IgnoreMissing(err) != nil {
		return err
	}
	lost := 0
	for _, l := range j.answers.queue {
		from := newest
		if l.settled {
			from = settled
		}
		m, err := l.in(from.read(l.offset))
		if errors.Is(err, ErrDamaged) {
			lost++
			continue
		}
		if err != nil {
			return err
		}
		if err := visit(l, m); err != nil {
			return err
		}
	}
	if lost > 0 {
		j.cfg.Logger.Warn("answers to Idempotency-Keys are lost", "data_dir", j.dataDir, "answers", lost)
	}
	return nil
}

// saveAnswersLocked writes all answers to answersFile, because the newest
// segment is about to end.
func (j *Journal) saveAnswersLocked() error {
	j.answers.trim(j.lastTime)
	return j.replaceAnswersLocked(j.answers, j.readAnswersLocked)
}

// replaceAnswersLocked makes answersFile hold a, whose answers each passes on, oldest first.
// One that it leaves out is forgotten. It is on the disk then with Off, too, since the writes
// are, and a repeat of one must not be made again.
func (j *Journal) replaceAnswersLocked(a *answers, each func(visit func(*answer, Mutation) error) error) error {
	path := filepath.Join(j.dir, answersFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(a.queue) == 0 {
		return nil
	}
	w := &answersWriter{each: each}
	if err := j.cfg.replace(path, w, 0o600, true); err != nil {
		return errors.Join(fmt.Errorf("keeping the answers of %s: %w", j.dataDir, err), j.findSettled(a))
	}
	written := map[*answer]bool{}
	for i, l := range w.written {
		l.offset, l.end, l.settled, written[l] = w.offsets[i], 0, true, true
	}
	a.queue = slices.DeleteFunc(a.queue, func(l *answer) bool {
		if !written[l] {
			a.forget(l)
		}
		return !written[l]
	})
	return nil
}

// findSettled finds the answers in answersFile again, of which it is not known whether it
// was replaced.
func (j *Journal) findSettled(a *answers) error {
	now, err := j.loadAnswers()
	defer now.free()
	if err != nil {
		return err
	}
	for _, l := range a.queue {
		if there := now.byKey[l.key]; l.settled && there != nil {
			l.offset = there.offset
		}
	}
	return nil
}

// answersWriter writes answersFile.
type answersWriter struct {
	each    func(visit func(*answer, Mutation) error) error
	written []*answer
	offsets []int64
}

func (w *answersWriter) WriteTo(to io.Writer) (size int64, err error) {
	out := bufio.NewWriterSize(to, edge)
	var b []byte
	err = w.each(func(l *answer, m Mutation) error {
		if b, err = frame(b[:0], record{kind: answered, time: l.time, m: m}); err != nil {
			return err
		}
		w.written, w.offsets = append(w.written, l), append(w.offsets, size)
		n, err := out.Write(b)
		size += int64(n)
		return err
	})
	if err != nil {
		return size, err
	}
	return size, out.Flush()
}
