package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
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
	at      string // the path by which dir is written
	journal *journal.Journal
	then    *then
	target  Target
	note    string          // for the history
	turn    *fairqueue.Turn // for its work; it is not held, since the disk is waited for again and again
	own     *Own            // nil = the operator asks for it
	result  *OwnResult      // of own
	began   bool            // a file is not what it was, or may not be
	early   map[string]early
}

func (s *Service) begin(ctx context.Context, t *tenants.Tenant, target Target, note string) (r *restore, release func(), err error) {
	release, err = s.Dirs.LockExclusive(ctx, t.DataDir)
	if err != nil {
		return nil, nil, err
	}
	dir := s.Dirs.Of(t.DataDir)
	j, err := s.journalOf(t)
	if err != nil {
		release()
		return nil, nil, err
	}
	at, letGo, err := dir.Hold()
	if err != nil {
		release()
		return nil, nil, err
	}
	unlock := release
	release = func() { letGo(); unlock() }
	return &restore{Service: s, tenant: t, dir: dir, at: at, journal: j, target: target, note: note, turn: s.turn()}, release, nil
}

func noteOf(target Target) string { return "restored to " + target.At.UTC().Format(time.RFC3339Nano) }

// Restore makes phexts what they were at a moment. If it fails, what it has
// restored by then is returned with the error.
func (s *Service) Restore(ctx context.Context, t *tenants.Tenant, target Target) ([]Restored, error) {
	r, release, err := s.begin(ctx, t, target, noteOf(target))
	if err != nil {
		return nil, err
	}
	defer release()
	done, err := r.restore(ctx)
	return done, r.explain(err, done)
}

// explain is the error of a restore, with what it has restored by then.
func (r *restore) explain(err error, done []Restored) error {
	err = fsutil.Named(err, r.at, r.dir.Path)
	switch {
	case err == nil:
	case r.began:
		return apierror.Partly(err, "%s", r.unfinished(done))
	case r.own == nil, errors.Is(err, datadir.ErrMoved):
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", errDiskFull, err)
	}
	return err
}

// unfinished is what is said of a restore that has begun and failed.
func (r *restore) unfinished(done []Restored) string {
	if r.own != nil {
		return "it is not known whether all of this was restored, and is safe: look it up before you repeat it"
	}
	changed, again := 0, "the same backup"
	for _, one := range done {
		if one.Changed {
			changed++
		}
	}
	if !r.target.At.IsZero() {
		again = "at=" + r.target.At.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("the restore is not complete (%d phexts were restored, and the next one may be, in part): mend what follows, and repeat it, with %s", changed, again)
}

func (r *restore) restore(ctx context.Context) (done []Restored, err error) {
	defer func() { err = fsutil.Named(err, r.at, r.dir.Path) }()
	switch {
	case r.target.At.Before(r.tenant.Incarnation):
		return nil, errBeforeTenant
	case r.target.At.After(time.Now()):
		return nil, errFuture
	}
	if r.then, err = r.Service.then(ctx, r.dir, r.at, r.journal, r.turn, r.target.At); err != nil {
		return nil, err
	}
	r.then.early = r.early
	switch {
	case r.target.Coordinate != "":
		return r.scroll(ctx)
	case r.target.Phext != nil:
		return r.phext(ctx)
	}
	return r.phexts(ctx)
}

// phexts restores all of the tenant's phexts with their names, one after the other.
func (r *restore) phexts(ctx context.Context) (done []Restored, err error) {
	files, err := r.allFiles()
	if err != nil {
		return nil, err
	}
	for _, files := range withNames(files) {
		changes, release, err := r.planThen(ctx, files, files)
		if err == nil {
			err = r.apply(changes...)
		}
		release()
		if err != nil {
			return done, r.ofPhext(files[0], err)
		}
		done = append(done, shown(changes...)...)
	}
	return done, nil
}

// ofPhext is the error of one phext of several.
func (r *restore) ofPhext(file string, err error) error {
	return fmt.Errorf("phext %q: %w", phextName(r.tenant, file), err)
}

// withNames groups files: the names of a phext are right behind it.
func withNames(files []string) (groups [][]string) {
	index := map[string]int{}
	for _, file := range files {
		i, known := index[phextOf(file)]
		if !known {
			i = len(groups)
			index[phextOf(file)], groups = i, append(groups, nil)
		}
		if isNames(file) {
			groups[i] = append(groups[i], file)
		} else {
			groups[i] = append([]string{file}, groups[i]...)
		}
	}
	return groups
}

// isNames says whether a file has the names of a phext's coordinates.
func isNames(file string) bool {
	_, is := phext.FileOfNames(file)
	return is
}

// phextOf is the file of the phext whose names a file has, or the file itself.
func phextOf(file string) string {
	of, _ := phext.FileOfNames(file)
	return of
}

// phext restores one phext with its names, perhaps under another name.
func (r *restore) phext(ctx context.Context) ([]Restored, error) {
	from, to, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	changes, release, err := r.planThen(ctx, from, to)
	defer release()
	if err != nil {
		return nil, err
	}
	if r.target.To != nil && !changes[0].state.Exists { // what has its name now is nothing to remove
		return nil, errNotThen(*r.target.Phext)
	}
	return r.applied(shown(changes...), changes...)
}

// shown are the changes that an answer lists.
func shown(changes ...change) (done []Restored) {
	for _, c := range changes {
		if c.Changed || !strings.HasSuffix(c.Phext, rewrite.NamesSuffix) {
			done = append(done, c.Restored)
		}
	}
	return done
}

// planThen is plan with what files, or others, were then. release gives the memory back,
// and may always be called.
func (r *restore) planThen(ctx context.Context, from, to []string) (changes []change, release func(), err error) {
	var charges []*datadir.Charge
	release = func() {
		for _, c := range charges {
			c.Release()
		}
	}
	for i := range from {
		charge := r.dir.NewCharge()
		charges = append(charges, charge)
		state, err := r.then.state(ctx, from[i], charge)
		if err != nil {
			return nil, release, err
		}
		c, err := r.plan(to[i], state)
		if err != nil {
			return nil, release, err
		}
		changes = append(changes, c)
	}
	return changes, release, nil
}

// files are the files to look up in the history, and those that they become.
func (r *restore) files(ctx context.Context) (from, to []string, err error) {
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
	if _, known := r.early[call.FileName()]; known || r.then.knew(call.FileName()) {
		return nil
	}
	return r.Service.mustKnow(ctx, r.tenant, r.journal, call, r.turn)
}

// allFiles is every file that the tenant had then or has now.
func (r *restore) allFiles() ([]string, error) {
	then, err := r.then.files()
	if err != nil {
		return nil, err
	}
	now, err := phextFiles(r.tenant, r.at)
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
	changes, err := r.resolveName(call, text, then, now)
	if err != nil {
		return nil, err
	}
	if err := charges[2].Texts(now.Phext.WithCost(call.At, text)); err != nil {
		return nil, err
	}
	next := datadir.StateOf(now.Phext.WithPaced(call.At, text, r.turn.Pace()))
	next.Exists = true
	c := r.planFrom(call.FileName(), presentOf(now.Phext), next)
	return r.applied([]Restored{c.Restored}, append(changes, c)...)
}

// textThen is the scroll as it was. The rest of the phext of then is let go of, unless a
// tenant asks: that stays counted, since nobody but the operator has all memory collected.
func (r *restore) textThen(call *rewrite.Call, then *datadir.View, charge *datadir.Charge) (string, error) {
	at := call.At
	if call.Name != "" {
		var ok bool
		if at, ok = then.Names.Find(call.Name, r.turn.Pace()); !ok {
			return "", datadir.ErrNoName(call.Name)
		}
	}
	text, _ := then.Phext.Phext.Select(at)
	if r.own != nil {
		return text, nil
	}
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
	return r.version(state, charge)
}

// version is what a file is parsed to in a state whose text is charged.
func (r *restore) version(state journal.State, charge *datadir.Charge) (*cache.Version, error) {
	if p := state.Phext(); p != nil {
		return cache.FromPhext(p), charge.Scrolls(p.Memory())
	}
	return cache.NewVersionWithin(state.Text, fsutil.FileID{}, r.turn.Pace(), charge.Scrolls)
}

// resolveName finds the coordinate of a scroll by its name, and plans what becomes of names:
// a scroll that comes back has the name that it had, and one that goes has none.
func (r *restore) resolveName(call *rewrite.Call, text string, then, now datadir.View) ([]change, error) {
	if call.Name == "" {
		return r.nameAt(call, text, then, now)
	}
	at, ok := then.Names.Find(call.Name, r.turn.Pace())
	if !ok {
		return nil, datadir.ErrNoName(call.Name)
	}
	if current, ok := now.Names.Find(call.Name, r.turn.Pace()); ok { // perhaps another coordinate
		call.Resolve(current)
		return nil, nil
	}
	call.Resolve(at)
	_, named := now.Names.Phext.Select(at)
	if _, taken := now.Phext.Phext.Select(at); named || taken {
		return nil, errNameTaken
	}
	return r.planName(call, now, call.Name), nil
}

// nameAt plans what becomes of the name at a coordinate that is given by its number. What had
// another name then must not come under it.
func (r *restore) nameAt(call *rewrite.Call, text string, then, now datadir.View) ([]change, error) {
	name, named := now.Names.Phext.Select(call.At)
	before, _ := then.Names.Phext.Select(call.At)
	_, taken := now.Phext.Phext.Select(call.At)
	switch {
	case !named, text != "" && name == before:
		return nil, nil
	case text != "" && taken:
		return nil, errOtherName
	}
	return r.planName(call, now, ""), nil
}

// planName gives a coordinate a name; "" = none.
func (r *restore) planName(call *rewrite.Call, now datadir.View, name string) []change {
	next := journal.State{Text: now.Names.With(call.At, name).Text(), Exists: true}
	return []change{r.planFrom(call.NamesFileName(), presentOf(now.Names), next)}
}

// present is what a file holds now.
type present struct {
	version *cache.Version // nil if it is large, and was not read
	id      fsutil.FileID
	state   journal.State
}

func presentOf(v *cache.Version) present { return present{v, v.ID, datadir.StateOf(v)} }

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
	return r.newest(path)
}

// newest is what a file at a path holds now, in memory.
func (r *restore) newest(path string) (now present, err error) {
	v, err := r.Dirs.NewestFile(path)
	if err != nil {
		return now, err
	}
	return presentOf(v), nil
}

// change is what is to become of a file.
type change struct {
	Restored
	file  string
	now   present
	state journal.State
}

// plan looks at what a file is now, and at what it is to be.
func (r *restore) plan(file string, state journal.State) (change, error) {
	now, err := r.now(file)
	if err != nil {
		return change{Restored: Restored{Phext: phextName(r.tenant, file)}}, err
	}
	return r.planFrom(file, now, state), nil
}

func (r *restore) planFrom(file string, now present, state journal.State) change {
	one := Restored{Phext: phextName(r.tenant, file), Bytes: state.Size(), Removed: !state.Exists}
	one.Changed = !now.state.Equals(state)
	one.Created = state.Exists && !now.id.Exists()
	return change{one, file, now, state}
}

// apply makes changes, those that there are, in their order. It finds out first whether there
// is room for all of them. Readers see them all at once if they fit into memory.
func (r *restore) apply(changes ...change) error {
	answer := ""
	if r.own != nil {
		answer = r.own.Answer(shown(changes...))
		r.result.Answer = answer
	}
	if err := r.dir.Holds(r.at); err != nil { // a phext that vanished with its disk is no change
		return err
	}
	changes = slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return !c.Changed })
	switch {
	case r.target.DryRun:
		return nil
	case len(changes) == 0:
		return r.remember(answer)
	}
	release, err := r.reserve(changes)
	if err != nil {
		return err
	}
	defer release()
	charge := r.dir.NewCharge()
	defer charge.Release()
	if changes, err = r.withFewerNames(changes, charge); err != nil {
		return err
	}
	defer r.freeze(changes)()
	began := r.began
	all := stepsOf(changes)
	for i, step := range all {
		if step.again {
			if step.now, err = r.now(step.file); err != nil {
				return err
			}
		}
		m := r.mutation(step.change, r.note)
		if r.own != nil && i == len(all)-1 { // only then is it all done
			r.own.remember(&m, answer)
		}
		changed, err := r.write(m, step.change)
		r.began = r.began || changed
		switch {
		case err == nil:
		case step.namesBefore != nil && !changed:
			failed := r.takeBack(*step.namesBefore)
			r.began = began || failed != nil
			return errors.Join(err, failed)
		default:
			return err
		}
	}
	return nil
}

// applied is done, if the changes of which it tells could be made.
func (r *restore) applied(done []Restored, changes ...change) ([]Restored, error) {
	if err := r.apply(changes...); err != nil {
		return nil, err
	}
	return done, nil
}

// remember keeps the answer to a restore that has nothing to change. What has left nothing to
// change may not be on the disk yet.
func (r *restore) remember(answer string) error {
	if r.own == nil || r.own.IdempotencyKey == "" {
		return r.journal.Written()()
	}
	m := journal.Mutation{Tenant: r.tenant.UniqueID(), Key: r.target.Key}
	r.own.remember(&m, answer)
	m, pending, err := datadir.Remember(r.journal, m)
	if err != nil {
		return err
	}
	return errors.Join(pending.Sync(), r.dir.Upload(func(b *datadir.Replica) error {
		b.Add([]journal.Mutation{m}, datadir.KnownFile{}, pending.Time())
		return nil
	}))
}

// step is a change among those that belong together.
type step struct {
	change
	again       bool    // its file was changed by a step before
	namesBefore *change // of the phext of this step, made by the step before; nil = none
}

// stepsOf are the steps that make changes of a phext and its names, in their order.
func stepsOf(changes []change) (all []step) {
	var names *change
	for _, c := range changes {
		one := step{change: c}
		switch {
		case !isNames(c.file):
			one.namesBefore = names
		case names != nil:
			one.again = true
		default:
			names = &c
		}
		all = append(all, one)
	}
	return all
}

// withFewerNames sees to it that a name never has another's scroll, whenever a restore is
// cut off and whoever reads meanwhile. Where a phext and its names, behind it, both change,
// names that are wrong before or after are removed first, and written last. That a name is
// missing does no harm.
func (r *restore) withFewerNames(changes []change, charge *datadir.Charge) ([]change, error) {
	if len(changes) != 2 || !isNames(changes[1].file) {
		return changes, nil
	}
	of, names := changes[0], changes[1]
	var err error
	if names.now, err = r.newest(r.path(names.file)); err != nil { // takeBack may need it
		return nil, err
	}
	fewer := names
	if fewer.state, err = r.inBoth(names, charge); err != nil {
		return nil, err
	}
	switch {
	case fewer.state.Equals(names.now.state):
		return changes, nil
	case fewer.state.Equals(names.state):
		return []change{names, of}, nil
	}
	return []change{fewer, of, names}, nil
}

// inBoth are the names that have the same coordinate before a change and after it.
func (r *restore) inBoth(names change, charge *datadir.Charge) (journal.State, error) {
	if names.state.Source != nil && names.state.Phext() == nil {
		if err := charge.Texts(names.state.Size()); err != nil {
			return journal.State{}, err
		}
		names.state = names.state.Whole()
	}
	after, err := r.version(names.state, charge)
	if err != nil {
		return journal.State{}, err
	}
	before, find := names.now.version.Phext, after.Phext.InOrder()
	if err := charge.Scrolls(before.Memory()); err != nil {
		return journal.State{}, err
	}
	kept := phext.Ordered(before.Len(), func(yield func(phext.Scroll) bool) {
		for s := range before.All() {
			if name, _ := find(s.At); name == s.Text && !yield(s) {
				return
			}
		}
	}, r.turn.Pace())
	both := datadir.StateOf(cache.FromPhext(kept))
	both.Exists = names.state.Exists || kept.Len() > 0
	return both, nil
}

// freeze has readers see the files as they are now until thaw. A large file is not in memory:
// then they see one change after the other.
func (r *restore) freeze(changes []change) (thaw func()) {
	now := map[string]*cache.Version{}
	for _, c := range changes {
		if c.now.version == nil {
			return func() {}
		}
		now[r.path(c.file)] = c.now.version
	}
	frozen := r.Dirs.Cache.Freeze(now)
	return func() { frozen.Publish(nil) }
}

// takeBack makes names what they were before a change, since their phext has not changed.
func (r *restore) takeBack(c change) error {
	back, err := r.plan(c.file, c.now.state)
	if err == nil {
		_, err = r.write(r.mutation(back, "a restore failed"), back)
	}
	return err
}

func (r *restore) mutation(c change, note string) journal.Mutation {
	m := journal.Mutation{File: c.file, Op: journal.Replace, Tenant: r.tenant.UniqueID(), Key: r.target.Key, Note: note}
	if !c.state.Exists {
		m.Op = journal.Remove
	}
	return m
}

func (r *restore) path(file string) string { return filepath.Join(r.dir.Path, file) }

// reserve finds room for the growth of all changes. The operator may exceed a quota.
func (r *restore) reserve(changes []change) (release func(), err error) {
	growth := int64(0)
	for i := 1; i < len(changes); i++ {
		growth += max(0, changes[i].state.Size()-changes[i].now.state.Size())
	}
	var all []*quota.Reservation
	release = func() {
		for _, one := range all {
			used := one.Release()
			if r.own != nil {
				r.result.Changed, r.result.QuotaUsed = true, used
			}
		}
	}
	for i, c := range changes {
		w := quota.Write{File: c.file, Size: sizeOf(c.now.id), After: c.state.Size() + growth, Removes: true}
		if i == 0 && r.own != nil { // the first stands for all
			w.Removes = !c.state.Exists && growth == 0
		}
		one, err := r.Ledger.Reserve(r.tenant, w)
		if err != nil {
			release()
			return nil, err
		}
		all = append(all, one)
	}
	return release, nil
}

// write journals a mutation and replaces the file. It returns when both are as durable as
// the journal's policy wants. changed says that the file is not what it was, or may not be;
// otherwise the mutation is not made, whatever happens later.
func (r *restore) write(m journal.Mutation, c change) (changed bool, err error) {
	file, now, state := c.file, c.now, c.state
	if err := r.dir.Holds(r.at); err != nil {
		return false, err
	}
	if err := datadir.RecordEditOf(r.journal, file, now.state, now.id); err != nil {
		return false, err
	}
	if err := r.dir.Upload(func(b *datadir.Replica) error {
		err := errors.Join(b.RecordEdit(file, now.version), b.Fits(state.Size()))
		state = state.Whole()
		return err
	}); err != nil {
		return false, err
	}
	m.Text, m.Source = state.Text, state.Source
	pending, err := r.journal.Begin(m, func() (journal.State, error) { return now.state, nil })
	if errors.Is(err, journal.ErrUndecided) {
		r.dir.MarkUnrecovered()
		return true, err
	} else if err != nil {
		return false, err
	}
	path := filepath.Join(r.at, file)
	if now.version != nil {
		frozen := r.Dirs.Cache.Freeze(map[string]*cache.Version{r.path(file): now.version})
		defer frozen.Publish(nil)
	}
	failed := r.replaceFile(path, state)
	id, err := r.Dirs.Links.Identify(path)
	switch {
	case failed == nil && err == nil:
		return r.written(m, pending, id, state)
	case err == nil && id == now.id:
		if err = pending.Refuse(); err == nil {
			return false, failed
		}
	default:
		err = errors.Join(err, pending.LeaveToRecovery())
	}
	r.dir.MarkUnrecovered() // which puts the file back as it was
	return true, errors.Join(failed, err)
}

// written ends the write of a file. With a bucket, one that never gets there is not made.
func (r *restore) written(m journal.Mutation, pending *journal.Pending, id fsutil.FileID, state journal.State) (changed bool, err error) {
	r.dir.MarkWritten(r.at)
	noted := pending.Done(id)
	if noted != nil {
		r.dir.MarkUnrecovered()
	}
	err = errors.Join(noted, pending.Sync(), r.dir.Upload(func(b *datadir.Replica) error {
		b.Add([]journal.Mutation{m}, datadir.KnownFile{ID: id, State: replica.FileState(state)}, pending.Time())
		return nil
	}))
	if err == nil {
		pending.Announce()
	}
	return !errors.Is(err, datadir.ErrMoved), err
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
		target, err := r.dir.Replaces(path)
		if err != nil {
			return err
		}
		if err := r.journal.MakeDataDir(r.at); err != nil {
			return err
		}
		return fsutil.ReplaceFrom(target, state, fsutil.NewFileMode, true)
	}
	return errors.Join(fsutil.IgnoreMissing(os.Remove(path)), fsutil.SyncDir(filepath.Dir(path)))
}
