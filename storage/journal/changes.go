package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// Position is a place in a journal between two changes. It stays valid as long as the
// history has it, also across restarts. The zero Position is before all changes.
type Position struct {
	Segment uint64
	Created int64  // when the segment was begun, in nanoseconds since 1970; 0 = whenever it is
	Offset  int64  // of a record in it: the changes that end before it are passed
	Seq     uint64 // of the last change that is passed, which ends behind Offset; 0 = there is none
}

// Change is an Event with its place.
type Change struct {
	Event
	Position
	ETag string // of the scroll afterwards; "" = there is none, or it is not known
	Size int64  // of the scroll or, if there is an UpTo or no scroll, of the file afterwards, in bytes
}

// place is the end of records in a segment.
type place struct {
	segment uint64
	created int64
	end     int64
}

func (s *segment) place() place { return place{s.number, s.created, s.end} }

// start is the Position behind the records.
func (p place) start() Position {
	return Position{Segment: p.segment, Created: p.created, Offset: p.end}
}

// changesState is what a journal has for those who listen.
type changesState struct {
	announced place         // what is behind it is shown to nobody
	last      Position      // of the change announced last
	rotated   place         // the end of the segment before the newest one
	floor     Position      // changes before it are not what became of the files
	news      chan struct{} // closed when more is announced; nil = nobody has asked
}

// Announce shows the mutation, and all that ended before it, to Changes. It is for a
// mutation that was acknowledged. Of one that has not ended it shows nothing.
func (p *Pending) Announce() {
	p.mu.Lock()
	end := p.end
	p.mu.Unlock()
	if end == 0 {
		return
	}
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	p.j.announceLocked(place{p.segment, p.created, end}, Position{p.segment, p.created, p.offset, p.first + uint64(p.count) - 1})
}

// AnnounceAll shows all that has ended to Changes. The caller has the directory
// recovered, and all of that is durable.
func (j *Journal) AnnounceAll() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil || j.seg == nil {
		return err
	}
	now := j.seg.place()
	j.announceLocked(now, now.start())
	return nil
}

func (j *Journal) announceLocked(upTo place, last Position) {
	c := &j.changes
	if upTo.segment < c.announced.segment || upTo.segment == c.announced.segment && upTo.end <= c.announced.end {
		return
	}
	c.announced, c.last = upTo, last
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}

// News is closed when there may be more changes than now.
func (j *Journal) News() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.changes.news == nil {
		j.changes.news = make(chan struct{})
	}
	return j.changes.news
}

// End is where the changes of a moment end. Its Position is behind all of them.
type End struct {
	Position
	upTo place
}

// End is where the changes end that are announced.
func (j *Journal) End() End {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := End{j.changes.last, j.changes.announced}
	if now.Segment == 0 {
		now.Position = Position{Segment: 1} // whenever that is begun
		return now
	}
	if j.seg == nil || j.seg.number != now.Segment {
		return now
	}
	for _, t := range j.files { // one that waits for room may end later
		for _, r := range t.pending {
			now.Offset = min(now.Offset, r.offset)
		}
	}
	return now
}

// floorFile says from which Position on there are changes.
const floorFile = "changes-from"

// ForgetChanges makes all positions until now invalid, durably: what was done until now
// is not all that became of the files, or not what became of them.
func (j *Journal) ForgetChanges() error {
	return j.forgetChanges(func(Position) error { return nil })
}

// forgetChanges calls note with the Position from which on there are changes.
func (j *Journal) forgetChanges(note func(from Position) error) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	if err := j.rotateLocked(); err != nil { // a Position until now must be before that from now on
		return err
	}
	p := j.seg.place().start()
	text := fmt.Sprintf("%d %d %d\n", p.Segment, p.Created, p.Offset)
	if err := j.cfg.replace(filepath.Join(j.dir, floorFile), strings.NewReader(text), 0o600, true); err != nil {
		return fmt.Errorf("noting from when on there are changes: %w", err)
	}
	j.changes.floor, j.changes.rotated = p, place{}
	j.announceLocked(j.seg.place(), p)
	return note(p)
}

func (j *Journal) readFloor() (p Position, err error) {
	text, err := fsutil.ReadFile(filepath.Join(j.dir, floorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d %d %d", &p.Segment, &p.Created, &p.Offset)
	}
	return p, err
}

// LastChange is when the last mutation ended that was done for a tenant, in nanoseconds
// since 1970; 0 = there is none.
func (j *Journal) LastChange() (last int64, err error) {
	v, err := j.view(false)
	if err != nil {
		return 0, err
	}
	defer v.close()
	for i := len(v.segments) - 1; i >= 0 && last == 0; i-- {
		pending := map[string][]record{}
		err := v.walkEach(v.segments[i], func(r record) error {
			if e, ok := eventOf(r, pending); ok && e.Tenant != "" {
				last = r.time
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// mostWalked is how much of a journal one call of Changes walks past, in bytes, unless a
// mutation in it has not ended.
const mostWalked = 1 << 20

// Changes returns the changes behind a Position that are wanted, oldest first, and the
// Position behind them. There are at most so many, and fewer if there is much to walk
// past: more says that there may be others. There are none behind end; nil = none that are
// not announced. turn is told of the work.
//
// The error is ErrBeyondHistory for a Position from before what is kept, and for one that
// the journal does not have, as after a power cut that took the records there.
func (j *Journal) Changes(from Position, end *End, most int, turn *fairqueue.Turn, wanted func(Event) bool) (all []Change, next Position, more bool, err error) {
	j.pruneMu.RLock()
	defer j.endReading()
	defer turn.Give() // it removes what is too old, perhaps
	w := &changesWalk{j: j, most: most, wanted: wanted, turn: turn}
	if err := w.begin(&from, end); err != nil || from == w.upTo.start() || w.upTo.segment == 0 {
		return nil, from, false, err
	}
	for {
		next, full, err := w.segment(from)
		if err != nil || full {
			return w.found, next, err == nil, err
		}
		if from.Segment == w.upTo.segment {
			return w.found, next, false, nil
		}
		if from, err = w.following(from.Segment); err != nil {
			return nil, from, false, err
		}
	}
}

// changesWalk is one call of Changes.
type changesWalk struct {
	j      *Journal
	upTo   place
	most   int
	wanted func(Event) bool
	turn   *fairqueue.Turn
	walked int64
	found  []Change
}

// begin finds out up to where there is something to see, and where a zero Position is.
func (w *changesWalk) begin(from *Position, end *End) error {
	j := w.j
	j.mu.Lock()
	err := j.openLocked()
	c := j.changes
	j.mu.Unlock()
	if w.upTo = c.announced; err != nil {
		return err
	}
	if end != nil {
		w.upTo = end.upTo
	}
	if w.upTo.segment == 0 {
		if from.Created != 0 {
			return ErrBeyondHistory // another journal was here
		}
		return nil
	}
	if *from == (Position{}) {
		if *from, err = w.following(0); err != nil || !from.before(c.floor) {
			return err
		}
		*from = c.floor
	}
	if *from == c.rotated.start() && from.Segment < w.upTo.segment { // which may be pruned already
		if *from, err = w.following(from.Segment); err != nil {
			return err
		}
	}
	if from.before(c.floor) || from.Segment > w.upTo.segment {
		return ErrBeyondHistory
	}
	return nil
}

func (p Position) before(q Position) bool {
	return cmp.Or(cmp.Compare(p.Segment, q.Segment), cmp.Compare(p.Offset, q.Offset)) < 0
}

// following is the beginning of the segment after number.
func (w *changesWalk) following(number uint64) (Position, error) {
	numbers, _, err := segments(w.j.dir)
	if err != nil {
		return Position{}, err
	}
	for _, n := range numbers {
		if n <= number {
			continue
		}
		f, head, err := w.open(n)
		if err != nil {
			return Position{}, err
		}
		return Position{Segment: n, Created: head.time}, f.Close()
	}
	return Position{}, ErrBeyondHistory // somebody has removed it
}

func (w *changesWalk) open(number uint64) (*os.File, record, error) {
	f, err := fsutil.Open(filepath.Join(w.j.dir, segmentName(number)))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrBeyondHistory
	}
	if err != nil {
		return nil, record{}, err
	}
	head, whole, err := readHeader(f)
	if err == nil && !whole {
		err = ErrBeyondHistory
	}
	if err != nil {
		return nil, record{}, errors.Join(err, f.Close())
	}
	return f, head, nil
}

// segment walks one segment. full says that more of it, or of the next one, is for
// another call.
func (w *changesWalk) segment(from Position) (next Position, full bool, err error) {
	f, head, err := w.open(from.Segment)
	if err != nil {
		return from, false, err
	}
	defer f.Close()
	if from.Created != 0 && head.time != from.Created {
		return from, false, ErrBeyondHistory // another journal has taken the place
	}
	from.Created = head.time
	end := w.upTo.end
	if from.Segment != w.upTo.segment {
		info, err := f.Stat()
		if err != nil {
			return from, false, err
		}
		end = info.Size()
	}
	s := &segmentChanges{w: w, from: from, passing: from.Seq, pending: map[string][]record{}, next: from}
	size := end - from.Offset
	if size < 0 {
		return from, false, ErrBeyondHistory
	}
	good, err := walkRecords(w.turn.ReaderAt(io.NewSectionReader(f, from.Offset, size)), size, s.visit)
	w.walked += good
	switch {
	case errors.Is(err, errEnough):
		return s.next, true, nil
	case err != nil:
		return from, false, err
	case s.passing != 0, good == 0 && size > 0:
		return from, false, ErrBeyondHistory
	case good < size:
		return from, false, fmt.Errorf("a segment %w: %w", ErrDamaged, ErrBeyondHistory)
	case len(s.pending) == 0:
		s.next = Position{Segment: from.Segment, Created: from.Created, Offset: end}
	}
	return s.next, false, nil
}

// segmentChanges finds the changes in one segment.
type segmentChanges struct {
	w       *changesWalk
	from    Position
	passing uint64 // the change that has to end before others are of interest; 0 = it has
	pending map[string][]record
	next    Position // behind the last record that ended a mutation
}

func (s *segmentChanges) visit(r record) error {
	r.offset += s.from.Offset
	return r.each(s.visitOne)
}

func (s *segmentChanges) visitOne(r record) error {
	file := r.m.File
	switch r.kind {
	case begun:
		r.keepNoText()
		s.pending[file] = append(s.pending[file], r)
	case checkpoint, edited:
		for _, left := range s.pending[file] { // whatever became of them
			s.pass(left.seq)
		}
		delete(s.pending, strings.Clone(file))
		if r.kind == edited {
			e := Event{Time: time.Unix(0, r.time), File: strings.Clone(file), Op: "edited", Bytes: int(r.content.size)}
			return s.ended(r, e, r.content.size, true)
		}
	case done, aborted, toRollBack:
		if b, ok := endPending(s.pending, r); ok {
			size := b.textSize
			if b.m.ETag != "" || b.m.UpTo.Valid() || b.m.Op == Delete || b.m.Op == Remove {
				size = b.m.Size
			}
			return s.ended(b, eventFrom(b, r.time), size, r.kind == done)
		}
	}
	return nil
}

// pass says whether the change with number seq was passed before.
func (s *segmentChanges) pass(seq uint64) bool {
	if s.passing == 0 {
		return false
	}
	if s.passing == seq {
		s.passing = 0
	}
	return true
}

// ended takes the end of what r began into account. made says that it is a change.
func (s *segmentChanges) ended(r record, e Event, size int64, made bool) error {
	offset := r.offset
	for _, open := range s.pending {
		for _, b := range open {
			offset = min(offset, b.offset)
		}
	}
	if s.pass(r.seq) {
		return nil
	}
	s.next = Position{s.from.Segment, s.from.Created, offset, r.seq}
	if made && s.w.wanted(e) {
		s.w.found = append(s.w.found, Change{Event: e, Position: s.next, ETag: r.m.ETag, Size: size})
	}
	if len(s.w.found) >= s.w.most || len(s.pending) == 0 && s.w.walked+r.offset-s.from.Offset > mostWalked {
		return errEnough
	}
	return nil
}
