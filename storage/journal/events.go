package journal

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Event is a mutation that was done, or an edit by somebody else.
type Event struct {
	Time              time.Time // when it was done or noticed
	File              string
	Op                string           // insert, update, delete, replace, remove or edited
	At                phext.Coordinate // not valid if the whole file was changed
	UpTo              phext.Coordinate // as in Mutation
	Bytes             int              // of the text of the mutation, or of the edited file
	Tenant, Key, Note string
}

// IsTold says whether tenants are told of the event. They are not told of names, which come
// and go with their scrolls, nor that a file was made what the bucket has.
func (e Event) IsTold() bool {
	_, isNames := phext.FileOfNames(e.File)
	return !isNames && (e.Tenant != "" || e.Op == "edited")
}

// Told is what a tenant is told of the event: what was done, and to which scroll, by its
// name if it has one. A text with delimiters is several scrolls, so it changes the phext as
// a whole, which is "".
func (e Event) Told() (op, scroll string) {
	switch {
	case e.UpTo.Valid():
		return Replace.String(), ""
	case e.At.Valid():
		return e.Op, cmp.Or(e.Note, e.At.String())
	}
	return e.Op, ""
}

// Query says which events History returns.
type Query struct {
	File   string           // only those of this file; "" = of all files
	After  time.Time        // only later ones
	Limit  int              // at most so many; 0 = all
	Wanted func(Event) bool // only those that it wants; nil = all

	Turn    *fairqueue.Turn // in which they are looked for; nil = one of the operator's
	Context context.Context // ends that; nil = nothing does
}

// History returns what happened, oldest first. No two events have the same time, so
// the time of the last one is the After of the next page. Besides the events, it
// keeps one record at a time in memory, without a long text.
func (j *Journal) History(q Query) (events []Event, err error) {
	v, err := j.past(q.Turn)
	if err != nil {
		return nil, err
	}
	defer v.close()
	after := unixNano(q.After)
	for i, o := range v.segments {
		if over, err := v.endsBefore(i, after); over || err != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		pending := map[string][]record{}
		err := v.walkEach(o, func(r record) error {
			if q.Context != nil && q.Context.Err() != nil {
				return q.Context.Err()
			}
			if q.File != "" && r.m.File != q.File {
				return nil
			}
			e, ok := eventOf(r, pending)
			if !ok || r.time <= after || q.Wanted != nil && !q.Wanted(e) {
				return nil
			}
			events = append(events, e)
			if len(events) == q.Limit {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// endsBefore says whether all records of segment i are at most as late as t, because
// the next segment begins no later.
func (v *view) endsBefore(i int, t int64) (bool, error) {
	if i+1 == len(v.segments) {
		return false, nil
	}
	f, err := v.file(v.segments[i+1])
	if err != nil {
		return false, err
	}
	head, whole, err := readHeader(f)
	return whole && head.time <= t, errors.Join(err, f.Close())
}

// eventOf returns the event that r completes, if any. pending has the mutations
// that have not ended.
func eventOf(r record, pending map[string][]record) (Event, bool) {
	switch r.kind {
	case begun:
		r.keepNoText()
		pending[r.m.File] = append(pending[r.m.File], r)
	case edited:
		delete(pending, r.m.File)
		return Event{Time: time.Unix(0, r.time), File: strings.Clone(r.m.File), Op: "edited", Bytes: int(r.content.size)}, true
	case checkpoint:
		delete(pending, r.m.File)
	case done, aborted, toRollBack:
		b, ok := endPending(pending, r)
		return eventFrom(b, r.time), ok && r.kind == done
	}
	return Event{}, false
}

// endPending removes the mutation that r ends from those that are pending.
func endPending(pending map[string][]record, r record) (record, bool) {
	open := pending[r.m.File]
	b, ok := takePending(&open, r.seq)
	if len(open) > 0 {
		pending[r.m.File] = open
	} else {
		delete(pending, r.m.File)
	}
	return b, ok
}

// eventFrom is the mutation of b, which ended at a time.
func eventFrom(b record, at int64) Event {
	m := b.m
	return Event{Time: time.Unix(0, at), File: m.File, Op: m.Op.String(), At: m.At, UpTo: m.UpTo, Bytes: int(b.textSize), Tenant: m.Tenant, Key: m.Key, Note: m.Note}
}

// FilesAt returns the names of the files that existed at t, sorted: those of
// which the journal knows that, and those in the data_dir that it does not
// know. The path at leads to that. The error is ErrBeyondHistory if t is before what is kept.
func (j *Journal) FilesAt(at string, t time.Time) (files []string, err error) {
	v, err := j.past(nil)
	if err != nil {
		return nil, err
	}
	defer v.close()
	if err := v.within("the files", t); err != nil {
		return nil, err
	}
	there, err := v.existed(unixNano(t))
	if err != nil {
		return nil, err
	}
	if err := addPresent(there, at, j.cfg.Links); err != nil {
		return nil, err
	}
	for file, exists := range there {
		if exists {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files, nil
}

// existed says for each file that the journal knows whether it existed at t.
func (v *view) existed(t int64) (map[string]bool, error) {
	there := map[string]bool{}
	for _, o := range v.segments {
		pending := map[string][]record{}
		err := v.walkEach(o, func(r record) error {
			noteExistence(there, pending, r, t)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return there, nil
}

func noteExistence(there map[string]bool, pending map[string][]record, r record, t int64) {
	file := r.m.File
	_, known := there[file]
	switch r.kind {
	case checkpoint, edited:
		if r.time <= t || !known {
			there[strings.Clone(file)] = r.content.exists
		}
	case begun:
		r.keepNoText()
		pending[file] = append(pending[file], r)
	case done, aborted, toRollBack:
		if b, ok := endPending(pending, r); ok && r.kind == done && r.time <= t {
			there[strings.Clone(file)] = b.m.Op != Remove
		}
	}
}

// addPresent adds the phexts in the data_dir that are not in there.
func addPresent(there map[string]bool, data string, links fsutil.Links) error {
	entries, err := os.ReadDir(data)
	if fsutil.IgnoreMissing(err) != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if _, known := there[name]; known || !strings.HasSuffix(name, phext.Extension) || strings.HasPrefix(name, fsutil.Temporary) {
			continue
		}
		id, err := links.Identify(filepath.Join(data, name))
		if errors.Is(err, fsutil.ErrNotRegular) {
			continue
		}
		if err != nil {
			return err
		}
		if id.Exists() {
			there[name] = true
		}
	}
	return nil
}
