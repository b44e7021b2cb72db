package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// view is for reading a journal while others append to it. Nothing in it is
// pruned until it is closed.
type view struct {
	j        *Journal
	segments []*segmentView
	oldest   uint64          // number of the first segment that may be read; those before it are of others
	turn     *fairqueue.Turn // held, except while the disk is waited for; nil = there is none
	memory   Memory
	scrolls  int64 // bytes that memory.Scrolls has granted
}

// segmentView is one segment of a view.
type segmentView struct {
	number uint64
	end    int64 // bytes that may be read; 0 = all of them
}

// Memory is asked before memory is taken, with the bytes. An error ends what needs it.
type Memory interface {
	Texts(bytes int64) error
	Scrolls(bytes int64) error // lists of scrolls, without their texts
}

// view returns a view of all segments, oldest first, or only of the newest.
func (j *Journal) view(newestOnly bool) (*view, error) {
	j.pruneMu.RLock()
	v := &view{j: j}
	newest, end, err := v.extent()
	if err == nil {
		err = v.open(newest, end, newestOnly)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// past is view of all segments for what takes long, in turns. A nil turn is one of the
// operator's.
func (j *Journal) past(turn *fairqueue.Turn) (*view, error) {
	v, err := j.view(false)
	if err == nil {
		if v.turn = turn; turn == nil {
			v.turn = j.cfg.Turn()
		}
		err = v.turn.Take(context.Background())
	}
	return v, err
}

// extent returns the number of the newest segment, and the bytes of its
// records.
func (v *view) extent() (number uint64, end int64, err error) {
	j := v.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil || j.seg == nil {
		return 0, 0, err
	}
	v.oldest = j.from
	return j.seg.number, j.seg.end, nil
}

func (v *view) open(newest uint64, end int64, newestOnly bool) error {
	numbers, _, err := segments(v.j.dir)
	for _, n := range numbers {
		switch {
		case n == newest:
			v.segments = append(v.segments, &segmentView{n, end})
		case n >= v.oldest && n < newest && !newestOnly:
			v.segments = append(v.segments, &segmentView{number: n})
		}
	}
	return err
}

func (v *view) close() {
	v.turn.Give()
	v.j.endReading()
}

// walk calls visit with each record of a segment that can be read.
func (v *view) walk(o *segmentView, visit func(record) error) error {
	f, err := v.file(o)
	if err != nil {
		return err
	}
	_, err = walkRecords(v.turn.ReaderAt(f), o.end, visit)
	return errors.Join(err, f.Close())
}

// walkEach is walk with a record for each mutation; see record.each.
func (v *view) walkEach(o *segmentView, visit func(record) error) error {
	return v.walk(o, func(r record) error { return r.each(visit) })
}

func (v *view) file(o *segmentView) (*os.File, error) {
	f, err := fsutil.Open(filepath.Join(v.j.dir, segmentName(o.number)))
	if err != nil || o.end > 0 {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o.end = info.Size()
	return f, nil
}

// beyond says whether the state at t is not known: its segment was pruned, or t
// is before the first segment and further back than the history. Shortly before
// the first segment the state is known from its checkpoints.
func (v *view) beyond(t int64) (bool, error) {
	for i, o := range v.segments {
		f, err := v.file(o)
		if err != nil {
			return false, err
		}
		head, whole, err := readHeader(f)
		if err = errors.Join(err, f.Close()); err != nil || whole {
			pruned := i > 0 || o.number > max(1, v.oldest)
			return t < head.time && (pruned || t < v.j.cfg.Now().UnixNano()-int64(v.j.cfg.History)), err
		}
	}
	return false, nil
}

// Reaches says whether the journal goes back as far as t.
func (j *Journal) Reaches(t time.Time) (bool, error) {
	v, err := j.view(false)
	if err != nil {
		return false, err
	}
	defer v.close()
	gone, err := v.beyond(unixNano(t))
	return !gone, err
}

// At is KnownAt and, if the journal knows of no change at all, the file in the data_dir.
func (j *Journal) At(file string, t time.Time) (State, error) {
	state, known, err := j.KnownAt(file, t, nil, nil)
	if err == nil && !known {
		return j.Current(j.dataDir, file, nil)
	}
	return state.Whole(), err
}

// KnownAt returns the state of a file at t, after all mutations that were done by
// then. The error is ErrBeyondHistory if t is before what is kept.
//
// If the journal knows of no change before t, the state is that of the first
// checkpoint after t. If known is false, it has no change of the file at all. It does not
// look at the file: nobody has to keep others from writing to it.
//
// The memory is asked for at least what it takes. Only the text of the state stays in use
// afterwards. A nil turn is one of the operator's.
func (j *Journal) KnownAt(file string, t time.Time, turn *fairqueue.Turn, memory Memory) (state State, known bool, err error) {
	if err := checkName(file); err != nil {
		return State{}, false, err
	}
	v, err := j.past(turn)
	if err != nil {
		return State{}, false, err
	}
	defer v.close()
	v.memory = memory
	if err := v.within(file, t); err != nil {
		return State{}, false, err
	}
	return v.at(file, unixNano(t))
}

// Moment is a time that is later than everything that is recorded, and earlier than
// everything that will be, also if somebody has set the clock back.
func (j *Journal) Moment() (time.Time, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, j.tickLocked()), nil
}

// Current is the file as it is now, within some memory. The path at leads to the data_dir.
func (j *Journal) Current(at, file string, memory Memory) (State, error) {
	path := filepath.Join(at, file)
	if memory != nil {
		id, err := j.cfg.Links.Identify(path)
		if err = errors.Join(err, memory.Texts(id.Size)); err != nil {
			return State{}, err
		}
	}
	return ReadState(j.cfg.Links, path)
}

// beyondError is ErrBeyondHistory for what somebody wanted to see at a moment.
type beyondError struct {
	what string
	at   time.Time
}

func (e *beyondError) Error() string {
	return fmt.Sprintf("%s at that moment: %s %v", e.what, e.at.UTC().Format(time.RFC3339Nano), ErrBeyondHistory)
}

// Is says that the error is ErrBeyondHistory. It does not wrap it, because the
// caller would then be told of that one alone.
func (e *beyondError) Is(target error) bool { return target == ErrBeyondHistory }

// APIError is what a caller is told.
func (e *beyondError) APIError() *apierror.Error {
	return apierror.New(apierror.NotFound, "%s", e.Error())
}

// within returns an error if t is before what is kept.
func (v *view) within(what string, t time.Time) error {
	gone, err := v.beyond(unixNano(t))
	if err != nil {
		return fmt.Errorf("%s at that moment: %w", what, err)
	}
	if gone {
		return &beyondError{what, t}
	}
	return nil
}

func (v *view) at(file string, t int64) (state State, known bool, err error) {
	var later *segmentView
	var first, size int64
	for i := len(v.segments) - 1; i >= 0; i-- {
		o := v.segments[i]
		tr, err := v.fileLogOf(o, file, t)
		if err != nil {
			return State{}, false, err
		}
		if len(tr.applied) > 0 {
			state, err = v.stateAfter(o, &tr)
			return state, true, err
		}
		if tr.first != 0 {
			later, first, size = o, tr.first, tr.firstSize
		}
	}
	if later == nil {
		return State{}, false, nil
	}
	state, err = v.stateAfter(later, &fileLog{applied: []step{{offset: first, size: size}}})
	return state, true, err
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// fileLogOf returns the log of one file up to t.
func (v *view) fileLogOf(o *segmentView, file string, t int64) (tr fileLog, err error) {
	err = v.walk(o, func(r record) error {
		if r.kind == header || r.m.File != file {
			return nil
		}
		tr.add(r, t)
		if tr.first != 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return tr, err
}

func (v *view) stateAfter(o *segmentView, tr *fileLog) (State, error) {
	if v.memory != nil {
		size := int64(0)
		for _, s := range tr.applied[tr.base:] {
			size += s.size
		}
		resume := v.turn.Suspend()                     // the memory may have to be waited for
		err := v.memory.Texts(size + min(size, Small)) // the texts, and what is made of them
		if resume(); err != nil {
			return State{}, err
		}
	}
	d, err := v.replay(o, tr)
	if err != nil {
		return State{}, err
	}
	return d.state(), nil
}
