package history

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
)

// then is what the files of a directory were at a moment: as the journal here knows it
// or, of the time before this machine had the directory, as the bucket does.
type then struct {
	at      time.Time
	dir     string // the path by which the directory is held
	links   fsutil.Links
	journal *journal.Journal
	turn    *fairqueue.Turn // for its work
	bucket  *replica.State  // nil = the journal knows
	early   map[string]early
}

// early is what the journal knew of a file before the directory was locked. It stays
// true: what was done since was done later. If nothing was known, the file counts as it is
// now, unless it was written to meanwhile.
type early struct {
	state journal.State
	known bool
}

// then finds out who knows what a directory was. The caller has it locked.
func (s *Service) then(ctx context.Context, d *datadir.Dir, held string, j *journal.Journal, turn *fairqueue.Turn, at time.Time) (*then, error) {
	t := &then{at: at, dir: held, links: s.Dirs.Links, journal: j, turn: turn}
	r, err := d.Replica()
	if r == nil || r.Past == nil || err != nil {
		return t, err
	}
	reaches, err := j.Reaches(at)
	if err != nil || reaches && !at.Before(r.Since) {
		return t, err
	}
	if t.bucket, err = r.Past.StateThen(ctx, at); err == nil {
		t.bucket.Belongs(r.Of) // what an earlier tenant had is not this one's
	}
	if !errors.Is(err, replica.ErrBeyond) {
		return t, err
	}
	// Before the directory was put into the bucket, only the journal here knew it.
	began, begun, err := j.Began()
	if err == nil && !(begun && reaches && !at.Before(began)) {
		err = errBeyondBucket(at)
	}
	return t, err
}

func errBeyondBucket(at time.Time) error {
	return apierror.New(apierror.NotFound, "what there was at %s is further back than the journal and the bucket go", at.UTC().Format(time.RFC3339Nano))
}

// state is what a file held. charge has its text.
func (t *then) state(ctx context.Context, file string, charge *datadir.Charge) (state journal.State, err error) {
	if t.bucket == nil {
		return t.inJournal(file, charge)
	}
	if f := t.bucket.Files[file]; f != nil {
		if err := charge.Texts(2*f.Size() + f.Memory()); err != nil { // compressed, and as it is
			return state, err
		}
		state, err = t.bucket.Content(ctx, file)
	}
	charge.KeepText(int64(len(state.Text)))
	return state, err
}

func (t *then) inJournal(file string, charge *datadir.Charge) (state journal.State, err error) {
	e, looked := t.early[file]
	if looked && !e.known {
		_, written := t.journal.LastSeen(file)
		looked = !written
	}
	edited := t.wasEdited(file)
	if !looked && !edited {
		e.state, e.known, err = t.journal.KnownAt(file, t.at, t.turn, charge)
	}
	switch {
	case err == nil && (edited || !e.known):
		state, err = t.journal.Current(t.dir, file, charge)
	case looked:
		return e.state, nil // it is charged already
	default:
		state = e.state
	}
	if state.Source == nil { // else it is made of what was read
		charge.KeepText(state.Size())
	}
	return state, err
}

// wasEdited says whether a file was already what it is now, and somebody else has made it
// that, which the journal does not know yet. The time is that of the last change of the file
// or its attributes, which nobody can set. A file that is older than what the journal knows
// is from an earlier state of its whole file system, and was not there at the time.
func (t *then) wasEdited(file string) bool {
	id, err := t.links.Identify(filepath.Join(t.dir, file))
	if err != nil || !id.Exists() || time.Unix(0, id.Ctime).After(t.at) {
		return false
	}
	last, _ := t.journal.LastSeen(file)
	return last != id && last.Ctime <= id.Ctime
}

// files are the names of those that there were.
func (t *then) files() (files []string, err error) {
	if t.bucket == nil {
		return t.journal.FilesAt(t.dir, t.at)
	}
	for name, f := range t.bucket.Files {
		if f.Exists() {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files, nil
}

// knew says whether the bucket had a file then.
func (t *then) knew(file string) bool {
	return t.bucket != nil && t.bucket.Files[file] != nil && t.bucket.Files[file].Exists()
}

// eventsOf are what the journal here says and, of the time before this machine had the
// directory, what the bucket does.
func (s *Service) eventsOf(ctx context.Context, d *datadir.Dir, j *journal.Journal, q journal.Query) ([]journal.Event, error) {
	past, since, err := pastOf(ctx, d)
	if err != nil {
		return nil, err
	}
	var events []journal.Event
	if past != nil && q.After.Before(since) {
		if events, err = before(ctx, past, since, q); err != nil || len(events) == q.Limit {
			return events, err
		}
		q.After = since.Add(-1)
	}
	q.Limit -= len(events)
	later, err := j.History(q)
	return append(events, later...), err
}

// pastOf is the directory in the bucket, and until when it is to be asked; nil = never.
func pastOf(ctx context.Context, d *datadir.Dir) (*replica.Directory, time.Time, error) {
	if !d.InBucket() {
		return nil, time.Time{}, nil
	}
	if err := d.Recover(ctx); err != nil {
		return nil, time.Time{}, err
	}
	r, err := d.Replica()
	if r == nil || err != nil || r.Since.IsZero() {
		return nil, time.Time{}, err
	}
	return r.Past, r.Since, nil
}

// before are the events up to a time, as the bucket has them.
func before(ctx context.Context, past *replica.Directory, until time.Time, q journal.Query) (events []journal.Event, err error) {
	for g, err := range past.GroupsAfter(ctx, q.After) {
		if err != nil {
			return nil, err
		}
		if g.Time >= until.UnixNano() {
			break
		}
		if q.File != "" && g.File() != q.File {
			continue
		}
		for i, m := range g.Mutations {
			at := time.Unix(0, g.Time-int64(len(g.Mutations)-1-i)) // as journal.Pending.Time
			e := journal.Event{Time: at, File: m.File, Op: m.Op.String(), At: m.At, Bytes: len(m.Text), Tenant: m.Tenant, Key: m.Key, Note: m.Note}
			if m.At.Valid() {
				if outermost := phext.Pace(nil).Outermost(m.Text); outermost >= 0 {
					e.UpTo = m.At.LastWith(outermost)
				}
			}
			if m.Tenant == "" && !m.At.Valid() {
				e.Op = "edited" // by somebody else, or taken over from an earlier host
			}
			if at.After(q.After) && (q.Wanted == nil || q.Wanted(e)) {
				if events = append(events, e); len(events) == q.Limit {
					return events, nil
				}
			}
		}
	}
	return events, nil
}

// everKnew says whether the bucket knows anything of a file of the tenant.
func (s *Service) everKnew(ctx context.Context, d *datadir.Dir, t *tenants.Tenant, file string) (bool, error) {
	past, _, err := pastOf(ctx, d)
	if past == nil || err != nil {
		return false, err
	}
	r, err := d.Replica()
	if err != nil || slices.Contains(r.Files(), file) {
		return err == nil, err
	}
	had, err := before(ctx, past, time.Now(), journal.Query{File: file, Limit: 1, Wanted: func(e journal.Event) bool { return t.WasHere(e.Tenant, e.Time) }})
	return len(had) > 0, err
}
