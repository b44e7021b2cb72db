package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// restore is one restore under way. Its directory is frozen.
type restore struct {
	*Service
	tenant  *tenants.Tenant
	dir     *datadir.Dir
	journal *journal.Journal
	then    *then
	target  Target
	note    string          // for the history
	turn    *fairqueue.Turn // for its work; it is not held, since the disk is waited for again and again
}

func (s *Service) begin(ctx context.Context, t *tenants.Tenant, target Target, note string) (r *restore, release func(), err error) {
	release, err = s.Dirs.LockExclusive(ctx, t.DataDir)
	if err != nil {
		return nil, nil, err
	}
	j, err := s.journalOf(t)
	if err != nil {
		release()
		return nil, nil, err
	}
	return &restore{Service: s, tenant: t, dir: s.Dirs.Of(t.DataDir), journal: j, target: target, note: note, turn: s.turn()}, release, nil
}

// Restore makes phexts what they were at a moment. If it fails, what it has
// restored by then is returned with the error.
func (s *Service) Restore(ctx context.Context, t *tenants.Tenant, target Target) ([]Restored, error) {
	r, release, err := s.begin(ctx, t, target, "restored to "+target.At.UTC().Format(time.RFC3339Nano))
	if err != nil {
		return nil, err
	}
	defer release()
	switch {
	case target.At.Before(t.Incarnation):
		return nil, errBeforeTenant
	case target.At.After(time.Now()):
		return nil, errFuture
	}
	if r.then, err = s.then(ctx, r.dir, r.journal, target.At); err != nil {
		return nil, err
	}
	if target.Coordinate != "" {
		return r.scroll(ctx)
	}
	return r.phexts(ctx)
}

// phexts restores one phext with its names, or all of the tenant's.
func (r *restore) phexts(ctx context.Context) (done []Restored, err error) {
	from, to, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	for i := range from {
		one, err := r.putThen(ctx, from[i], to[i], i == 0 && r.target.To != nil)
		if err != nil {
			return done, err
		}
		if one.Changed || !strings.HasSuffix(one.Phext, rewrite.NamesSuffix) {
			done = append(done, one)
		}
	}
	return done, nil
}

// putThen makes a file what another, or itself, was then. If it is a copy, the other one
// must have existed: what has its name now is nothing to remove.
func (r *restore) putThen(ctx context.Context, from, to string, isCopy bool) (Restored, error) {
	charge := r.dir.NewCharge()
	defer charge.Release()
	state, err := r.then.state(ctx, from, charge)
	if err != nil {
		return Restored{Phext: phextName(r.tenant, to)}, err
	}
	if isCopy && !state.Exists {
		return Restored{}, errNotThen(*r.target.Phext)
	}
	return r.put(to, state)
}

// stateAt is what a file held at a moment. charge has its text.
func stateAt(j *journal.Journal, file string, at time.Time, charge *datadir.Charge) (journal.State, error) {
	state, err := j.AtWithin(file, at, charge)
	if state.Source == nil { // else it is made of what was read
		charge.KeepText(state.Size())
	}
	return state, err
}

// files are the files to look up in the history, and those that they become.
func (r *restore) files(ctx context.Context) (from, to []string, err error) {
	if r.target.Phext == nil {
		from, err = r.allFiles()
		return from, from, err
	}
	call, err := locate(r.tenant, *r.target.Phext, "")
	if err != nil {
		return nil, nil, err
	}
	if err := r.mustKnow(ctx, call); err != nil {
		return nil, nil, err
	}
	becomes := call
	if r.target.To != nil {
		if becomes, err = locate(r.tenant, *r.target.To, ""); err != nil {
			return nil, nil, err
		}
	}
	return []string{call.FileName(), call.NamesFileName()}, []string{becomes.FileName(), becomes.NamesFileName()}, nil
}

// mustKnow is the error for a phext that the tenant neither has nor had.
func (r *restore) mustKnow(ctx context.Context, call *rewrite.Call) error {
	if r.then.knew(call.FileName()) {
		return nil
	}
	return r.Service.mustKnow(ctx, r.tenant, r.journal, call)
}

// allFiles is every file that the tenant had then or has now.
func (r *restore) allFiles() ([]string, error) {
	then, err := r.then.files()
	if err != nil {
		return nil, err
	}
	now, err := phextFiles(r.tenant)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var all []string
	for _, name := range append(then, now...) {
		if r.tenant.OwnFile(name) && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	return all, nil
}

// scroll restores one scroll into the phext as it is now.
func (r *restore) scroll(ctx context.Context) ([]Restored, error) {
	if r.target.Phext == nil || r.target.To != nil {
		return nil, errScrollAlone
	}
	call, err := locate(r.tenant, *r.target.Phext, r.target.Coordinate)
	if err != nil {
		return nil, err
	}
	if err := r.mustKnow(ctx, call); err != nil {
		return nil, err
	}
	charges := [...]*datadir.Charge{r.dir.NewCharge(), r.dir.NewCharge(), r.dir.NewCharge()}
	for _, c := range charges {
		defer c.Release()
	}
	then, err := r.viewThen(ctx, call, charges[0], charges[1])
	if err != nil {
		return nil, err
	}
	text, err := r.textThen(call, &then, charges[0])
	if err != nil {
		return nil, err
	}
	now, err := r.dir.NewestView(call)
	if err != nil {
		return nil, err
	}
	done, err := r.dir.Use(now)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := datadir.CheckKept(now.Phext); err != nil {
		return nil, err
	}
	if err := r.resolveName(call, then, now); err != nil {
		return nil, err
	}
	if err := charges[2].Texts(now.Phext.WithCost(call.At, text)); err != nil {
		return nil, err
	}
	next := datadir.StateOf(now.Phext.WithPaced(call.At, text, r.turn.Pace()))
	next.Exists = true
	one, err := r.replace(call.FileName(), present{now.Phext, now.Phext.ID, datadir.StateOf(now.Phext)}, next)
	return []Restored{one}, err
}

// textThen is the scroll as it was. The rest of the phext of then is let go of.
func (r *restore) textThen(call *rewrite.Call, then *datadir.View, charge *datadir.Charge) (string, error) {
	at := call.At
	if call.Name != "" {
		var ok bool
		if at, ok = then.Names.Find(call.Name); !ok {
			return "", datadir.ErrNoName(call.Name)
		}
	}
	text, _ := then.Phext.Phext.Select(at)
	text = strings.Clone(text)
	large := then.Phext.Size() > journal.Small
	then.Phext = nil
	if large {
		runtime.GC() // or the phext as it is now would be in memory beside it
	}
	charge.KeepText(int64(len(text)))
	return text, nil
}

// viewThen is the phext and its names as they were.
func (r *restore) viewThen(ctx context.Context, call *rewrite.Call, forPhext, forNames *datadir.Charge) (v datadir.View, err error) {
	if v.Phext, err = r.versionThen(ctx, call.FileName(), forPhext); err != nil {
		return v, err
	}
	v.Names, err = r.versionThen(ctx, call.NamesFileName(), forNames)
	return v, err
}

func (r *restore) versionThen(ctx context.Context, file string, charge *datadir.Charge) (*cache.Version, error) {
	state, err := r.then.state(ctx, file, charge)
	if err != nil {
		return nil, err
	}
	if p := state.Phext(); p != nil {
		return cache.FromPhext(p), charge.Scrolls(p.Memory())
	}
	return cache.NewVersionWithin(state.Text, fsutil.FileID{}, r.turn.Pace(), charge.Scrolls)
}

// resolveName finds the coordinate that a name had then, which must not have
// become another's, and gives the name back to it.
func (r *restore) resolveName(call *rewrite.Call, then, now datadir.View) error {
	if call.Name == "" {
		return nil
	}
	at, ok := then.Names.Find(call.Name)
	if !ok {
		return datadir.ErrNoName(call.Name)
	}
	call.Resolve(at)
	if current, ok := now.Names.Find(call.Name); ok && current == at {
		return nil
	}
	_, named := now.Names.Phext.Select(at)
	if _, taken := now.Phext.Phext.Select(at); named || taken {
		return errNameTaken
	}
	_, err := r.put(call.NamesFileName(), journal.State{Text: now.Names.With(at, call.Name).Text(), Exists: true})
	return err
}

// put makes a file what state is, unless it is that already.
func (r *restore) put(file string, state journal.State) (Restored, error) {
	now, err := r.now(file)
	if err != nil {
		return Restored{Phext: phextName(r.tenant, file)}, err
	}
	return r.replace(file, now, state)
}

// present is what a file holds now.
type present struct {
	version *cache.Version // nil if it is large, and was not read
	id      fsutil.FileID
	state   journal.State
}

// now is what a file holds now. The text of a large one stays there, unless it may have to
// go to a bucket.
func (r *restore) now(file string) (now present, err error) {
	path := filepath.Join(r.dir.Path, file)
	replica, err := r.dir.Replica()
	if err != nil {
		return now, err
	}
	if now.id, _, err = r.dir.CheckForSQ(path); err != nil {
		return now, err
	}
	if replica == nil && now.id.Size > journal.Small {
		now.state, err = journal.OpenState(r.Dirs.Links, path)
		return now, err
	}
	now.version, err = r.Dirs.NewestFile(path)
	if err != nil {
		return now, err
	}
	now.id, now.state = now.version.ID, datadir.StateOf(now.version)
	return now, nil
}

// replace makes a file what state is, unless it is that already.
func (r *restore) replace(file string, now present, state journal.State) (Restored, error) {
	one := Restored{Phext: phextName(r.tenant, file), Bytes: state.Size(), Removed: !state.Exists}
	one.Changed = !now.state.Equals(state)
	one.Created = state.Exists && !now.id.Exists()
	if !one.Changed || r.target.DryRun {
		return one, nil
	}
	return one, r.write(file, filepath.Join(r.dir.Path, file), now, state)
}

// write journals the change and replaces the file. It returns when both are as
// durable as the journal's policy wants.
func (r *restore) write(file, path string, now present, state journal.State) error {
	if err := datadir.RecordEditOf(r.journal, file, now.state, now.id); err != nil {
		return err
	}
	if err := r.dir.Upload(func(b *datadir.Replica) error {
		err := errors.Join(b.RecordEdit(file, now.version), b.Fits(state.Size()))
		state = state.Whole()
		return err
	}); err != nil {
		return err
	}
	// The operator may exceed a quota. A phext that is too large to be written is
	// refused before anything of it is.
	reserved, err := r.Ledger.Reserve(r.tenant, quota.Write{File: file, Size: sizeOf(now.id), Removes: true})
	if err != nil {
		return err
	}
	defer reserved.Release()
	m := journal.Mutation{File: file, Op: journal.Replace, Text: state.Text, Source: state.Source, Tenant: r.tenant.UniqueID(), Key: r.target.Key, Note: r.note}
	if !state.Exists {
		m.Op = journal.Remove
	}
	pending, err := r.journal.Begin(m, func() (journal.State, error) { return now.state, nil })
	if err != nil {
		return err
	}
	if now.version != nil {
		frozen := r.Dirs.Cache.Freeze(map[string]*cache.Version{path: now.version})
		defer frozen.Publish(nil)
	}
	failed := r.replaceFile(path, state)
	id, err := r.Dirs.Links.Identify(path)
	switch {
	case failed == nil && err == nil:
		r.dir.MarkWritten()
		err := errors.Join(pending.Done(id), pending.Sync(), r.dir.Upload(func(b *datadir.Replica) error {
			b.Add([]journal.Mutation{m}, datadir.KnownFile{ID: id, State: replica.FileState(state)}, pending.Time())
			return nil
		}))
		if err == nil {
			pending.Announce()
		}
		return err
	case err == nil && id == now.id:
		return errors.Join(failed, pending.Abort())
	}
	r.dir.MarkUnrecovered() // which puts the file back as it was
	return errors.Join(failed, err, pending.LeaveToRecovery())
}

// sizeOf is the size of a file in bytes, or -1 if there is none.
func sizeOf(id fsutil.FileID) int64 {
	if !id.Exists() {
		return -1
	}
	return id.Size
}

// replaceFile makes the file at path what state is. A link that is followed stays
// where the phext has a file. A tenant of a copied tenants file may have no
// directory yet.
func (r *restore) replaceFile(path string, state journal.State) error {
	if state.Exists {
		target, err := r.Dirs.Links.Target(path)
		if err != nil {
			return err
		}
		if err := fsutil.MakeDir(r.dir.Path, 0o700); err != nil {
			return err
		}
		return fsutil.ReplaceFrom(target, state, fsutil.NewFileMode, true)
	}
	return errors.Join(fsutil.IgnoreMissing(os.Remove(path)), fsutil.SyncDir(filepath.Dir(path)))
}
