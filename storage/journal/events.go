package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Event is a mutation that was completed, or an edit from outside that was noticed.
type Event struct {
	Time              time.Time // when it was done
	File              string
	Op                string // insert, update, delete, replace, remove or edited
	At                phext.Coordinate
	Bytes             int // of the mutation's text; of the whole file if edited
	Tenant, Key, Note string
}

// History is what happened to a file, or to all if file is "", oldest first.
func (j *Journal) History(file string) (events []Event, err error) {
	v, err := j.view(false)
	if err != nil {
		return nil, err
	}
	defer v.close()
	for _, o := range v.segments {
		under := map[string][]record{}
		err := v.walk(o, func(r record) error {
			if file != "" && r.m.File != file {
				return nil
			}
			if e, ok := eventOf(r, under); ok {
				events = append(events, e)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// eventOf is the event that r completes. under has the mutations under way.
func eventOf(r record, under map[string][]record) (Event, bool) {
	switch r.kind {
	case begun:
		under[r.m.File] = append(under[r.m.File], r)
	case edited:
		delete(under, r.m.File)
		return Event{Time: time.Unix(0, r.time), File: strings.Clone(r.m.File), Op: "edited", At: phext.Origin(), Bytes: int(r.content.size)}, true
	case checkpoint:
		delete(under, r.m.File)
	case done, aborted, toRollBack:
		b, ok := endPending(under, r)
		return eventFrom(b.m, r.time), ok && r.kind == done
	}
	return Event{}, false
}

// endPending takes the mutation that r ends from those under way.
func endPending(under map[string][]record, r record) (record, bool) {
	open := under[r.m.File]
	b, ok := takePending(&open, r.seq)
	if len(open) > 0 {
		under[r.m.File] = open
	} else {
		delete(under, r.m.File)
	}
	return b, ok
}

// eventFrom has copies of all texts: the scroll beside them in memory may be long.
func eventFrom(m Mutation, at int64) Event {
	return Event{
		Time: time.Unix(0, at), File: strings.Clone(m.File), Op: m.Op.String(), At: m.At, Bytes: len(m.Text),
		Tenant: strings.Clone(m.Tenant), Key: strings.Clone(m.Key), Note: strings.Clone(m.Note),
	}
}

// FilesAt are the files that there were at t, in order: those of which the
// journal knows it, and those in the data_dir of which it knows nothing.
// ErrBeyondHistory as with At.
func (j *Journal) FilesAt(t time.Time) (files []string, err error) {
	v, err := j.view(false)
	if err != nil {
		return nil, err
	}
	defer v.close()
	if err := v.within(t); err != nil {
		return nil, fmt.Errorf("the files at that moment: %w", err)
	}
	there, err := v.existed(unixNano(t))
	if err != nil {
		return nil, err
	}
	if err := addPresent(there, j.dataDir); err != nil {
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

// existed says of each file that the journal knows whether there was one at t.
func (v *view) existed(t int64) (map[string]bool, error) {
	there := map[string]bool{}
	for _, o := range v.segments {
		under := map[string][]record{}
		err := v.walk(o, func(r record) error {
			noteExistence(there, under, r, t)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return there, nil
}

func noteExistence(there map[string]bool, under map[string][]record, r record, t int64) {
	file := r.m.File
	_, known := there[file]
	switch r.kind {
	case checkpoint, edited:
		if r.time <= t || !known {
			there[strings.Clone(file)] = r.content.exists
		}
	case begun:
		r.m.Text = ""
		under[file] = append(under[file], r)
	case done, aborted, toRollBack:
		if b, ok := endPending(under, r); ok && r.kind == done && r.time <= t {
			there[strings.Clone(file)] = b.m.Op != Remove
		}
	}
}

// addPresent adds the phexts in a data_dir that are not in there.
func addPresent(there map[string]bool, data string) error {
	entries, err := os.ReadDir(data)
	if fsutil.IgnoreMissing(err) != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if _, known := there[name]; known || !strings.HasSuffix(name, phext.Extension) || strings.HasPrefix(name, fsutil.Temporary) {
			continue
		}
		info, err := os.Stat(filepath.Join(data, name)) // through links, as SQ reads
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			there[name] = true
		}
	}
	return nil
}
