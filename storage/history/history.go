// Package history is what phexts were: what was done to them, and how to make
// them so again, from the journal or from a backup. Restoring is a change like
// any other: it is journalled, and can be undone by restoring again.
//
// It knows nothing of HTTP or of SQ: a file is replaced whole, and SQ reads it
// again before its next write.
package history

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Service reads and restores the history of tenants' phexts.
type Service struct {
	Dirs   *datadir.Dirs
	Ledger *quota.Ledger
	// SpoolDir is where backups are received, before they are restored. They have
	// no names there.
	SpoolDir string
}

// Target says what is to be as it was.
type Target struct {
	At         time.Time
	Phext      *string // nil = all of the tenant's
	Coordinate string  // of one scroll, a name or nine numbers; "" = the whole phext
	To         *string // under this name instead; nil = in its place
	DryRun     bool
	From       string // for a backup: the other tenant, or the earlier one with this id, that it may be of
	Key        string // fingerprint of the key of whoever asks for it
}

// Restored is what became of one phext.
type Restored struct {
	Phext   string `json:"phext"`
	Bytes   int64  `json:"bytes"`
	Changed bool   `json:"changed"`
	Created bool   `json:"created,omitempty"` // it does not exist before the restore
	Removed bool   `json:"removed,omitempty"` // it did not exist then
}

// Removed are the names of the phexts that a restore removes.
func Removed(done []Restored) []string {
	names := []string{}
	for _, one := range done {
		if one.Removed && one.Changed {
			names = append(names, one.Phext)
		}
	}
	return names
}

var (
	errScrollAlone = apierror.New(apierror.BadRequest,
		"one scroll is restored into its own phext: name the phext, and leave the other name out")
	errBeforeTenant = apierror.New(apierror.NotFound,
		"this tenant was added later than that: what an earlier one with its id had is not its own")
	errFuture = apierror.New(apierror.BadRequest,
		"the moment to go back to is in the future")
	errNameTaken = apierror.New(apierror.Conflict,
		"the coordinate that had this name then is another scroll's now: restore the whole phext under another name, and copy the scroll from there")
	errOtherName = apierror.New(apierror.Conflict,
		"the scroll at this coordinate has a name that the one of then did not have: restore the whole phext under another name, and copy the scroll from there")
)

func errNoPhext(name string) error {
	return apierror.New(apierror.NotFound, "there is no phext %.80q, and there was none as far back as the history goes", name)
}

func errNotThen(name string) error {
	return apierror.New(apierror.NotFound, "there was no phext %.80q then, so nothing was changed", name)
}

// mustKnow is the error for a phext that the tenant neither has nor had.
func (s *Service) mustKnow(ctx context.Context, t *tenants.Tenant, j *journal.Journal, call *rewrite.Call, turn *fairqueue.Turn) error {
	now, err := s.Dirs.Links.Identify(filepath.Join(s.Dirs.Of(t.DataDir).Path, call.FileName()))
	if err != nil || now.Exists() {
		return err
	}
	had, err := j.History(journal.Query{File: call.FileName(), Limit: 1, Turn: turn, Context: ctx, Wanted: func(e journal.Event) bool { return t.WasHere(e.Tenant, e.Time) }})
	if err != nil || len(had) > 0 {
		return err
	}
	knew, err := s.everKnew(ctx, s.Dirs.Of(t.DataDir), t, call.FileName())
	if err == nil && !knew {
		err = cmp.Or(s.Dirs.Of(t.DataDir).CheckPresent(), errNoPhext(call.Phext))
	}
	return err
}

// locate understands a phext and a coordinate as if the tenant had sent them. A
// name that is not one is an error of package rewrite.
func locate(t *tenants.Tenant, name, coordinate string) (*rewrite.Call, error) {
	query := "p=" + rewrite.Escape(name)
	if coordinate != "" {
		query += "&c=" + rewrite.Escape(coordinate)
	}
	head, err := rewrite.ParseHead("GET", "/select", query, datadir.RewriteTenant(t))
	if err != nil {
		return nil, err
	}
	return head.Call(nil)
}

// phextName is the name that the tenant knows a file by.
func phextName(t *tenants.Tenant, file string) string {
	name := strings.TrimSuffix(file, phext.Extension)
	if t.SharedDataDir {
		name = strings.TrimPrefix(name, t.ID+".")
	}
	return name
}

// turn is one for work of the operator, which has its own among those of the tenants.
func (s *Service) turn() *fairqueue.Turn { return s.Dirs.Turns.Turn(fairqueue.Operator) }

func (s *Service) journalOf(t *tenants.Tenant) (*journal.Journal, error) {
	return s.Dirs.JournalOf(s.Dirs.Of(t.DataDir))
}

// Selection says which events of a tenant's history are wanted.
type Selection struct {
	Phext      *string       // only those of this one; nil = of all
	Coordinate string        // only those of one scroll, a name or nine numbers; "" = of the whole phext
	Call       *rewrite.Call // of the tenant itself, in place of these two; nil = the operator asks
	After      time.Time     // only later ones
	Limit      int           // from 1 to MostEvents
}

// Page is a part of a tenant's history, oldest first.
type Page struct {
	Events  []journal.Event
	More    bool   // there are later ones: they come after the time of the last one
	Release func() // gives the memory back

	tenant *tenants.Tenant
	call   *rewrite.Call
}

// MostEvents is how many events a Page may have. perEvent is more than one takes until it is
// answered, in bytes: the event, what is made of it, and its JSON. If its names are longer
// than shortNames, each further byte takes perByte: it is there as it is, may be two bytes in
// JSON, and the buffer of that grows by doubling.
const (
	MostEvents = 10_000
	perEvent   = 2 << 10
	shortNames = 128
	perByte    = 8
)

// perSeen is what an event that is looked at counts as work, in bytes.
const perSeen = 2 << 10

// sizeOfEvents is more than events take until they are answered, in bytes.
func sizeOfEvents(events []journal.Event) (size int64) {
	for _, e := range events {
		size += perEvent + perByte*int64(max(0, len(e.File)+len(e.Note)-shortNames))
	}
	return size
}

// Events is what was done to a tenant's phexts. What was done for an earlier tenant
// with the same id is left out. What it takes in memory does not depend on the size of
// the journal.
func (s *Service) Events(ctx context.Context, t *tenants.Tenant, sel Selection) (page Page, err error) {
	q, call, err := query(t, sel)
	if err != nil {
		return page, err
	}
	if sel.Call == nil {
		return s.events(ctx, t, sel, q, call)
	}
	d := s.Dirs.Of(t.DataDir)
	leave, err := s.enter(ctx, t)
	if err != nil {
		return page, err
	}
	defer leave()
	ctx, cancel := context.WithTimeoutCause(ctx, longestLook, errTooLong)
	defer cancel()
	turn, wanted := fairqueue.FromContext(ctx), q.Wanted
	q.Turn, q.Context = turn, ctx
	q.Wanted = func(e journal.Event) bool {
		turn.Worked(perSeen)
		return wanted(e)
	}
	page, err = s.events(ctx, t, sel, q, call)
	if why := whyEnded(ctx, d, err); why != nil {
		if err == nil {
			page.Release()
		}
		return Page{}, why
	}
	return page, nil
}

func (s *Service) events(ctx context.Context, t *tenants.Tenant, sel Selection, q journal.Query, call *rewrite.Call) (page Page, err error) {
	j, err := s.journalOf(t)
	if err != nil {
		return page, err
	}
	d := s.Dirs.Of(t.DataDir)
	if theirs, err := d.HasJournal(); err != nil || !theirs { // the tenant itself has not called since it got the path
		return Page{Release: func() {}, tenant: t, call: sel.Call}, err
	}
	held := d.Reserve()
	admit := func(bytes int64) error {
		switch {
		case !held.Fits(bytes):
			return datadir.ErrTooLarge
		case !held.Grow(bytes):
			return datadir.ErrBusy
		}
		return nil
	}
	if err := admit(int64(q.Limit) * perEvent); err != nil {
		return page, err
	}
	defer func() {
		if err != nil {
			held.Release()
		}
	}()
	if call != nil && call.ShowsAll() { // else nobody is told whether there is such a phext
		if err := s.mustKnow(ctx, t, j, call, q.Turn); err != nil {
			return page, err
		}
	}
	events, err := s.eventsOf(ctx, d, j, q)
	if err == nil {
		err = admit(sizeOfEvents(events))
	}
	if err != nil {
		return page, err
	}
	more := len(events) == q.Limit
	if more {
		events = events[:sel.Limit]
	}
	for i := range events {
		events[i].File = phextName(t, events[i].File)
	}
	return Page{events, more, held.Release, t, sel.Call}, nil
}

// query asks for one event more than is wanted, to see whether there are more. call
// locates the phext, if one is selected. What happened to the whole phext happened to
// each of its scrolls.
func query(t *tenants.Tenant, sel Selection) (q journal.Query, call *rewrite.Call, err error) {
	q = journal.Query{After: sel.After, Limit: sel.Limit + 1}
	here, ofScroll := func(journal.Event) bool { return true }, sel.Coordinate != ""
	switch {
	case sel.Call != nil && !sel.Call.History.Everywhere:
		call, ofScroll = sel.Call, sel.Call.History.OfScroll
	case sel.Phext != nil:
		if call, err = locate(t, *sel.Phext, sel.Coordinate); err != nil {
			return q, nil, err
		}
	}
	if call != nil {
		q.File = call.FileName()
		if ofScroll {
			here = func(e journal.Event) bool { return concerns(call, e) }
		}
	}
	q.Wanted = func(e journal.Event) bool {
		return t.OwnFile(e.File) && here(e) && t.WasHere(e.Tenant, e.Time) && (sel.Call == nil || shows(sel.Call, phextName(t, e.File), e))
	}
	return q, call, nil
}

// FilesReplaced journals that files of a tenant were taken out of its directory,
// or put into it, while the caller had it locked, and held it as at. Otherwise recovery
// would take the first for lost, and the others for what a power cut left. key is the
// fingerprint of the key of whoever asked for it, and note says what was done. Files
// that the journal does not know are left out.
func (s *Service) FilesReplaced(t *tenants.Tenant, at string, files []string, key, note string) error {
	j, err := s.journalOf(t)
	if err != nil {
		return err
	}
	j.Stamp(at) // an archive may have made it
	for _, file := range files {
		if last, known := j.LastSeen(file); known {
			err = errors.Join(err, s.fileReplaced(t, j, at, last, journal.Mutation{File: file, Tenant: t.UniqueID(), Key: key, Note: note}))
		}
	}
	if err := errors.Join(err, j.Suspend(), s.upload(t, at, files)); err != nil {
		return err
	}
	return j.AnnounceAll()
}

// upload has the bucket know what became of files, and of those that somebody removed
// before. So many bytes of them are in memory at a time, and one file more.
func (s *Service) upload(t *tenants.Tenant, at string, files []string) error {
	const atOnce = 8 << 20
	dir := s.Dirs.Of(t.DataDir)
	return dir.Upload(func(r *datadir.Replica) (err error) {
		for _, file := range r.Files() {
			if t.OwnFile(file) {
				files = append(files, file)
			}
		}
		for _, file := range files {
			now, failed := s.newestIn(dir, at, file)
			if failed == nil {
				failed = r.RecordEdit(file, now)
			}
			if r.Added() > atOnce {
				failed = errors.Join(failed, r.Uploaded().Wait())
			}
			err = errors.Join(err, failed)
		}
		return err
	})
}

// fileReplaced journals what became of a file as a mutation that is done already. If
// the segment does not know the state before, it gets the one after: earlier segments
// have what was before.
func (s *Service) fileReplaced(t *tenants.Tenant, j *journal.Journal, at string, last fsutil.FileID, m journal.Mutation) error {
	now, err := s.newestIn(s.Dirs.Of(t.DataDir), at, m.File)
	if err != nil || now.ID == last {
		return err
	}
	state := datadir.StateOf(now)
	m.Op, m.Text, m.Source = journal.Replace, state.Text, state.Source
	if !now.Exists() {
		m.Op = journal.Remove
	}
	pending, err := j.Begin(m, func() (journal.State, error) { return datadir.StateOf(now), nil })
	if err != nil {
		return err
	}
	return pending.Done(now.ID)
}

// newestIn is the newest version of a file in a directory that is held as at. If that is not
// at its path any more, its files are not gone.
func (s *Service) newestIn(dir *datadir.Dir, at, file string) (*cache.Version, error) {
	id, err := s.Dirs.Identify(filepath.Join(at, file))
	if err != nil || !id.Exists() {
		return cache.Missing(), err
	}
	now, err := s.Dirs.NewestFile(filepath.Join(dir.Path, file))
	if err == nil && now.ID != id {
		err = dir.Holds(at)
	}
	return now, err
}

// phextFiles are the tenant's phexts in its directory now, by file name. The path at leads
// to the directory: where that vanishes, they are not gone.
func phextFiles(t *tenants.Tenant, at string) ([]string, error) {
	all, err := t.OwnFilesIn(at)
	var names []string
	for _, name := range all {
		if strings.HasSuffix(name, phext.Extension) {
			names = append(names, name)
		}
	}
	return names, err
}
