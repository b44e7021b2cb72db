package writer

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// A client's batch is a list of reads and writes of one phext that happen all or not at
// all. Its operations are worked out one after the other, each on what those before it
// leave. What they write together is one record in the journal and one group in the
// bucket. The file is written beside the old one and renamed into its place, so there is
// no moment at which it holds a part of them. SQ reads it again before its next write, as
// after an edit by hand.
//
// Names of coordinates are in a file of their own, so those that come are written before
// the phext, and those that go are removed after it. In between, a name has no scroll,
// which reads as if it were not there.

// What the answer to a batch may have, in bytes; one with an Idempotency-Key is kept for a
// day.
const (
	largestAnswer     = 10 << 20
	largestKeptAnswer = 1 << 20
)

// operations is a batch while it is worked out.
type operations struct {
	tx      *transaction
	scrolls map[phext.Coordinate]*scrollNow
	names   map[phext.Coordinate]string // where they are not as before; "" = none
	at      map[string]phext.Coordinate // of new names
	highest phext.Coordinate            // that was written or given away, from FirstNamed on
	results []operationResult
	size    int      // of the answer until now, in bytes
	held    []func() // memory
}

// scrollNow is a scroll as the operations so far leave it.
type scrollNow struct {
	text    string
	own     []byte // the same, with room behind it for further inserts; nil = it is another's
	tag     string // "" = it was not asked for since the text is this one
	written bool
}

// operationResult is what the answer says of an operation.
type operationResult struct {
	op     rewrite.Operation
	answer string     // of a write, as SQ says it
	text   string     // of a select
	scroll *scrollNow // that has the tag in the end; nil = there is none
}

// isBatch says whether the transaction is a client's batch.
func (tx *transaction) isBatch() bool { return tx.lead.Call.Batch != nil }

// applyBatch works out what the file is to hold after a batch, and the answer. answered
// says that nothing is to be written.
func (tx *transaction) applyBatch() (answered bool, err error) {
	b := &operations{tx: tx, scrolls: map[phext.Coordinate]*scrollNow{}, names: map[phext.Coordinate]string{}, at: map[string]phext.Coordinate{}}
	tx.giveBack = func() {
		for _, release := range b.held {
			release()
		}
	}
	tx.members = nil
	for i, op := range tx.lead.Call.Batch {
		if err := b.add(op); err != nil {
			if e := apierror.From(err); e != nil && e.Status < 500 {
				err = apierror.OfOperation(i, err)
			}
			return false, err
		}
	}
	if err := b.finish(); err != nil {
		return false, err
	}
	if err := b.render(); err != nil || len(tx.members) == 0 {
		return true, err
	}
	return false, tx.checkLimits()
}

// add makes one operation.
func (b *operations) add(op rewrite.Operation) error {
	call := op.Call
	known, err := b.resolve(call)
	if err != nil {
		return err
	}
	name, s := "", &scrollNow{}
	if known {
		name, s = b.name(call.At), b.scroll(call.At)
	}
	if call.Op == rewrite.Select {
		if call.Name == "" && name != "" && !call.Shows(call.At, name) {
			s = &scrollNow{}
		}
		if err := s.check(op.IfMatch, b.tx.pace); err != nil {
			return err
		}
		return b.answer(operationResult{op: op, text: s.text, scroll: &scrollNow{text: s.text, tag: s.tag}})
	}
	if err := call.CheckChange(name, s.text != ""); err != nil {
		return err
	}
	if err := s.check(op.IfMatch, b.tx.pace); err != nil {
		return err
	}
	result := operationResult{op: op, answer: answerTo(call, s.text)}
	if known && (b.tx.before.Phext.Exists() || len(b.tx.members) > 0 || call.Op != rewrite.Delete) {
		if call.Name == "" && name != "" && s.text == "" && !empties(call) {
			b.dropStaleName(call.At)
			name = b.name(call.At)
		}
		if err := b.write(s, call); err != nil {
			return err
		}
		result.scroll = s
		m := b.tx.lead.with(call)
		m.name = cmp.Or(call.Name, name)
		b.tx.members = append(b.tx.members, m)
	}
	return b.answer(result)
}

// answer adds a result, unless there are too many. Not more is read than can be answered.
func (b *operations) answer(r operationResult) error {
	if b.size += r.size(b.tx.pace); b.size > largestAnswer {
		return errAnswerTooLarge(largestAnswer, false)
	}
	b.results = append(b.results, r)
	return nil
}

// with is a mutation of the same request with another call.
func (m *mutation) with(call *rewrite.Call) *mutation {
	r := m.Request
	r.Call, r.IfMatch, r.IdempotencyKey = call, nil, ""
	return &mutation{Request: r, alone: true}
}

// resolve finds the coordinate of a call, or gives a new name one. known is false if the
// call changes nothing, since there is no such name.
func (b *operations) resolve(call *rewrite.Call) (known bool, err error) {
	if call.Name == "" {
		return true, nil
	}
	at, known := b.at[call.Name]
	if !known {
		at, known = b.tx.before.Names.Find(call.Name, b.tx.pace)
	}
	if known && b.name(at) == call.Name {
		call.Resolve(at)
		return true, nil
	}
	if call.Op == rewrite.Select || empties(call) || len(call.Scroll) == 0 {
		return false, nil
	}
	if at, err = nextFree(b.tx.before); err != nil {
		return false, err
	}
	if b.highest.Compare(at) >= 0 {
		next, ok := b.highest.Next()
		if !ok {
			return false, errNoRoomForNames
		}
		at = next
	}
	call.Resolve(at)
	b.names[at], b.at[call.Name] = call.Name, at
	return true, nil
}

// name is the name of a coordinate, or "".
func (b *operations) name(at phext.Coordinate) string {
	if name, changed := b.names[at]; changed {
		return name
	}
	name, _ := b.tx.before.Names.Phext.Select(at)
	return name
}

// dropStaleName removes a name that has no scroll, before its coordinate gets one by its
// number. If the batch itself has removed the scroll, the name stays for the new one: what
// is between the operations of a batch nobody sees.
func (b *operations) dropStaleName(at phext.Coordinate) {
	if _, exists := b.tx.before.Phext.Phext.Select(at); !exists {
		b.names[at] = ""
	}
}

func (b *operations) scroll(at phext.Coordinate) *scrollNow {
	s := b.scrolls[at]
	if s == nil {
		s = &scrollNow{}
		s.text, _ = b.tx.before.Phext.Phext.Select(at)
		b.scrolls[at] = s
	}
	return s
}

// write makes what a call makes of a scroll.
func (b *operations) write(s *scrollNow, call *rewrite.Call) error {
	if call.At.Compare(rewrite.FirstNamed()) >= 0 && call.At.Compare(b.highest) > 0 {
		b.highest = call.At
	}
	s.written, s.tag = true, ""
	if call.Op != rewrite.Insert || s.text == "" {
		s.text, s.own = textOf(call), nil
		if empties(call) {
			s.text = ""
		}
		return nil
	}
	if cap(s.own) < len(s.text)+len(call.Scroll) {
		release, err := b.tx.admit(2*int64(len(s.text)+len(call.Scroll)), b.tx.before)
		if err != nil {
			return err
		}
		b.held = append(b.held, release)
		s.own = append(make([]byte, 0, len(s.text)+max(len(call.Scroll), len(s.text)/4)), s.text...) // of which all is kept
	}
	s.own = append(s.own, call.Scroll...) // behind the text of before, which stays what it is
	s.text = unsafe.String(unsafe.SliceData(s.own), len(s.own))
	return nil
}

// etag is the entity tag of the scroll, or "" if there is none.
func (s *scrollNow) etag(pace phext.Pace) string {
	if s.tag == "" && s.text != "" {
		s.tag = etag.Paced(s.text, pace)
	}
	return s.tag
}

func (s *scrollNow) check(ifMatch []string, pace phext.Pace) error {
	// Without a need, no tag is made: of a large scroll, that takes a while.
	if len(ifMatch) == 0 || s.text != "" && (etag.Matches(ifMatch, "*") || etag.Matches(ifMatch, s.etag(pace))) {
		return nil
	}
	return errChanged
}

// finish makes the phext and its names of what the operations have left. Each member gets
// the tag and the size that its scroll has in the end: nobody ever sees another one.
func (b *operations) finish() error {
	tx := b.tx
	var changed []phext.Scroll
	for at, s := range b.scrolls {
		if s.written {
			changed = append(changed, phext.Scroll{At: at, Text: s.text})
		}
	}
	slices.SortFunc(changed, func(x, y phext.Scroll) int { return x.At.Compare(y.At) })
	for _, s := range changed {
		if s.Text == "" && b.name(s.At) != "" {
			if _, isNew := b.names[s.At]; isNew {
				delete(b.names, s.At)
			} else {
				tx.lostNames = append(tx.lostNames, phext.Scroll{At: s.At})
			}
		}
	}
	for at, name := range b.names {
		tx.newNames = append(tx.newNames, phext.Scroll{At: at, Text: strings.Clone(name)}) // as in writeNewName
	}
	slices.SortFunc(tx.newNames, func(x, y phext.Scroll) int { return x.At.Compare(y.At) })
	release, err := tx.admit(tx.next.WithAllCost(changed)+tx.before.Names.WithAllCost(tx.newNames), tx.before)
	if err != nil {
		return err
	}
	b.held = append(b.held, release)
	tx.next = tx.next.WithAll(changed, tx.pace)
	tx.largest = tx.next.Size()
	if len(tx.newNames) > 0 {
		tx.namesNext = tx.before.Names.WithAll(tx.newNames, tx.pace)
	}
	for _, m := range tx.members {
		s := b.scrolls[m.Call.At]
		m.result.ETag, m.size = s.etag(tx.pace), int64(len(s.text))
	}
	return datadir.CheckKept(tx.next)
}

// render makes the answer, of which the size is known before its memory is taken.
func (b *operations) render() error {
	most, kept := largestAnswer, b.tx.lead.IdempotencyKey != "" && len(b.tx.members) > 0
	if kept {
		most = largestKeptAnswer
	}
	size := b.size + len(`{"results":[]}`+"\n")
	if size > most {
		return errAnswerTooLarge(most, kept)
	}
	if err := b.tx.countAnswer(size); err != nil {
		return err
	}
	out := phext.Builder{Pace: b.tx.pace}
	out.Grow(size)
	out.WriteString(`{"results":[`)
	for i := range b.results {
		if i > 0 {
			out.WriteString(",")
		}
		b.results[i].write(&out, b.tx.pace)
	}
	out.WriteString("]}\n")
	text := out.String()
	b.tx.lead.result.Body = unsafe.Slice(unsafe.StringData(text), len(text)) // nobody changes it
	return nil
}

// countAnswer counts an answer of so many bytes as memory until it is sent.
func (tx *transaction) countAnswer(size int) error {
	release, ok := tx.dir.Send(tx.lead.Call.Recipient, new(byte), int64(size))
	if !ok {
		return datadir.ErrBusy
	}
	tx.lead.result.release = release
	return nil
}

// size is at least what write writes, in bytes.
func (r *operationResult) size(pace phext.Pace) int {
	const rest = len(`,{"op":"select","c":,"answer":"","exists":false,"s":,"etag":"\"00000000000000000000000000000000\""}`)
	return rest + len(r.answer) + phext.QuotedLen(r.op.Coordinate, pace) + phext.QuotedLen(r.text, pace)
}

func (r *operationResult) write(out *phext.Builder, pace phext.Pace) {
	out.WriteString(`{"op":"` + string(r.op.Op) + `","c":`)
	phext.WriteQuoted(out, r.op.Coordinate)
	if r.op.Op == rewrite.Select {
		exists := "false"
		if r.text != "" {
			exists = "true"
		}
		out.WriteString(`,"exists":` + exists + `,"s":`)
		phext.WriteQuoted(out, r.text)
	} else {
		out.WriteString(`,"answer":"` + r.answer + `"`)
	}
	if r.scroll != nil && r.scroll.text != "" {
		out.WriteString(`,"etag":`)
		phext.WriteQuoted(out, r.scroll.etag(pace))
	}
	out.WriteString("}")
}

// replaceFile writes the phext beside its file and renames it into its place. SQ has not
// seen it then.
func (tx *transaction) replaceFile() error {
	target, err := tx.dir.Replaces(tx.file)
	if err == nil {
		err = tx.w.files.replace(target, tx.next)
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		tx.log("there is no room for a batch", err)
		return errDiskFull
	case err == nil:
		tx.sent = true // what the file holds is to be looked at from now on
	}
	return err
}

// replace is fsutil.ReplaceFrom for a file that the journal can bring back.
func replace(path string, content io.WriterTo) error {
	return fsutil.ReplaceFrom(path, content, fsutil.NewFileMode, false)
}

// operationsDigest tells one batch from another. Each part has its length in front, so that
// no text reads as several parts.
func operationsDigest(call *rewrite.Call) string {
	var all strings.Builder
	put := func(part string) { all.WriteString(strconv.Itoa(len(part)) + " " + part) }
	put(string(call.Op))
	put(call.Phext)
	for _, op := range call.Batch {
		put(string(op.Op))
		put(op.Coordinate)
		put(string(op.Scroll))
		put(strconv.Itoa(len(op.IfMatch)))
		for _, tag := range op.IfMatch {
			put(tag)
		}
	}
	return phext.Checksum(all.String())
}
