// Package registry keeps the tenants of a service in its bucket, so that they outlive
// this machine, and have the same keys and limits on every host. It brings together the
// tenants file here and what the bucket says, whichever of the two changed.
//
// The bucket decides: it is written by compare-and-swap, and nothing here is in force
// before it is there. No key is there in clear; the secrets of webhooks are. The package serves no requests, and knows
// nothing of phexts.
package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/tenants"
)

// Why a host does not use a bucket. Each tells the operator what to do.
var (
	ErrEmpty      = errors.New("the bucket has no tenants yet: put those of this host there with sqgate bucket init")
	ErrUnfinished = errors.New("sqgate bucket init was not finished: run it again on the host that has the tenants")
	ErrOther      = errors.New("the bucket has the tenants of another service: use the bucket of this one")
	ErrUnknown    = errors.New("the tenants file has tenants that the bucket does not have, or has otherwise, and was never in agreement with it: " +
		"put them into an empty bucket with sqgate bucket init, use the bucket that they are in, or move the tenants file away to have it made from the bucket")
)

// Config is what a Registry works with.
type Config struct {
	Bucket   bucket.Bucket
	File     string // the tenants file of this host
	State    string // a file for the registry itself; its directory exists
	DataRoot string // where the directories of tenants are that are new here
	// Poll is how often the bucket is asked whether somebody else changed a tenant;
	// 0 = never, for a host alone.
	Poll   time.Duration
	Logger *slog.Logger
}

// Times of calls to the bucket.
const (
	agreeWithin = 10 * time.Second
	retryFirst  = 50 * time.Millisecond
	retryMost   = 2 * time.Second
	lookAgain   = 2 * time.Second // after an error
	freshWithin = 3 * time.Second // for all shards, before an id is given away
)

// Registry is the tenants of the service.
type Registry struct {
	Config
	name string // random, among the writers of the bucket

	mu      sync.Mutex
	shards  [object.TenantShards]shard
	service string // of each of them; "" = it is not known yet
	state   state
	noted   bool             // the file has the state
	held    map[string]error // as tenants.Difference.Held
	wake    chan struct{}    // has one when the bucket has to be looked at

	looking chan struct{} // has one during a look: many requests may ask for one at once

	problems atomic.Pointer[map[string]error] // that were logged, by what has them
}

// shard is an object as it was when this host could read it last.
type shard struct {
	object.Tenants
	etag    string    // "" = it was never read, or there was none
	err     error     // an objectError if it cannot be read now
	failing time.Time // since when the bucket has not answered; zero if it did the last time
}

// objectError is an object of the bucket that cannot be what it is to be. Its tenants stay
// as they are here, and nobody writes it: others may still need what is in it.
type objectError struct {
	key string
	err error
}

func (e *objectError) Error() string {
	return fmt.Sprintf("the bucket's %s %v", e.key, e.err)
}

func (e *objectError) Unwrap() error { return e.err }

func isOfObject(err error) bool {
	var object *objectError
	return errors.As(err, &object)
}

func shardKey(n int) string { return fmt.Sprintf("tenants/%x", n) }

// Open reads what the bucket has and, if there is no tenants file here, makes it from
// that. Nothing is in force yet: give Agree to the tenants.Store. The error is one of
// those above if this host must not use the bucket.
func Open(ctx context.Context, c Config) (*Registry, error) {
	r := &Registry{Config: c, name: rand.Text(), wake: make(chan struct{}, 1), looking: make(chan struct{}, 1)}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	switch there := r.there(); {
	case there == 0:
		return nil, ErrEmpty
	case there < len(r.shards):
		return nil, ErrUnfinished
	}
	r.state.Filling = false
	file, err := tenants.ReadDocument(c.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := r.unread(); err != nil {
			return nil, fmt.Errorf("there is no tenants file here, which would say what is in it: %w", err)
		}
		return r, r.makeFile()
	case err == nil:
		_, _, err = r.merge(file, r.state.Tenants)
		return r, err
	}
	return r, nil // the store says what is wrong with the file
}

// load reads the state and all shards. The error is ErrOther if this host has been in
// another bucket, or if the shards are not of one service. If it has been in this one, it
// goes on without a shard that cannot be read within agreeWithin.
func (r *Registry) load(ctx context.Context) (err error) {
	if r.state, err = readState(r.State); err != nil {
		return err
	}
	was := r.state.Service != "" && !r.state.Filling // else this host was never in agreement with any bucket
	isKnown := func() bool {
		return was && slices.ContainsFunc(r.shards[:], func(s shard) bool { return s.etag != "" && s.Service == r.state.Service })
	}
	begun, cancel := context.WithTimeout(ctx, agreeWithin)
	defer cancel()
	unknown := func(s *shard) bool { return s.etag == "" && s.err == nil }
	errs := r.readAll(begun, unknown)
	if err = first(errs); err != nil && !isKnown() && begun.Err() != nil && ctx.Err() == nil {
		r.Logger.Warn("the bucket does not answer: sqgate waits until it can be asked for the tenants", logkey.Error, err)
		errs = r.readAll(ctx, unknown)
		err = first(errs)
	}
	known := isKnown()
	for n := range r.shards {
		s := &r.shards[n]
		switch missing := errors.Is(s.err, bucket.ErrNotFound); {
		case s.etag != "" && s.Service == r.state.Service:
		case s.etag != "" && known:
			*s = shard{err: &objectError{shardKey(n), errOtherService}}
		case s.etag != "" && was:
			return ErrOther
		case s.etag != "":
			r.state, was = state{Service: s.Service}, true
		case known && s.err == nil:
			s.err = errs[n]
		case missing && !known:
			s.err = nil
		case !known && err == nil:
			err = s.err
		}
	}
	if known {
		err = nil
	}
	r.service = r.state.Service
	return err
}

// readAll reads the shards that are wanted. Each is retried by itself: in a bucket that is
// busy, one of all often fails. The caller has locked the registry, or is alone.
func (r *Registry) readAll(ctx context.Context, wanted func(*shard) bool) (errs [object.TenantShards]error) {
	var group errgroup.Group
	for n := range r.shards {
		if !wanted(&r.shards[n]) {
			continue
		}
		group.Go(func() error {
			errs[n] = retry(ctx, func() error { return r.read(ctx, n) })
			return nil
		})
	}
	_ = group.Wait() // there are no errors
	return errs
}

func first(errs [object.TenantShards]error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// there counts the shards that there are.
func (r *Registry) there() (n int) {
	for _, s := range r.shards {
		if s.etag != "" || s.err != nil {
			n++
		}
	}
	return n
}

// unread is an error if not all shards can be read.
func (r *Registry) unread() error {
	for _, s := range r.shards {
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

var (
	errLost         = errors.New("is lost: put that object back, from a copy of the bucket")
	errForeign      = errors.New("has a tenant who belongs to another object: put back what was there")
	errOtherService = errors.New("has the tenants of another service: put back what was there")
)

// read reads a shard, if it has changed. An object that cannot be believed is no error: the
// shard says so, and else stays as it is. The caller has locked the registry, or is alone.
func (r *Registry) read(ctx context.Context, n int) error {
	begun := time.Now()
	found, err := r.Bucket.Get(ctx, shardKey(n), r.shards[n].etag)
	return r.take(n, begun, found, err)
}

// lookAt is read without the lock: nobody else waits for a bucket that does not answer.
func (r *Registry) lookAt(ctx context.Context, n int, begun time.Time) (changed bool, err error) {
	for {
		r.mu.Lock()
		etag := r.shards[n].etag
		r.mu.Unlock()
		found, err := r.Bucket.Get(ctx, shardKey(n), etag)
		r.mu.Lock()
		if r.shards[n].etag == etag { // else it was read or written meanwhile, and that may be newer
			defer r.mu.Unlock()
			err = r.take(n, begun, found, err)
			return r.shards[n].etag != etag, err
		}
		r.mu.Unlock()
	}
}

// take makes a shard what a Get has found.
func (r *Registry) take(n int, begun time.Time, found bucket.Object, err error) error {
	s := &r.shards[n]
	var t object.Tenants
	switch {
	case errors.Is(err, bucket.ErrNotModified):
		s.err, s.failing = nil, time.Time{}
		return nil
	case errors.Is(err, bucket.ErrNotFound):
		err = fmt.Errorf("%w (%w)", errLost, err)
	case err != nil:
		if s.failing.IsZero() {
			s.failing = begun
		}
		return &objectError{shardKey(n), fmt.Errorf("cannot be read: %w", err)}
	default:
		t, err = r.decode(n, found.Body)
	}
	if err != nil {
		s.err, s.failing = &objectError{shardKey(n), err}, time.Time{}
		return nil
	}
	*s = shard{Tenants: t, etag: found.ETag}
	return nil
}

// decode refuses an object that cannot be shard n.
func (r *Registry) decode(n int, body []byte) (t object.Tenants, err error) {
	if t, err = object.Decode[object.Tenants](body); err != nil {
		return t, fmt.Errorf("cannot be read: %w (if it is damaged, put that object back, from a copy of the bucket)", err)
	}
	for id := range t.ByID {
		if object.TenantShard(id) != n {
			return t, fmt.Errorf("%w (%s)", errForeign, id)
		}
	}
	if r.service != "" && t.Service != r.service {
		return t, errOtherService
	}
	return t, nil
}

// all is every tenant in the bucket.
func (r *Registry) all() tenants.Portable {
	all := tenants.Portable{}
	for _, s := range r.shards {
		maps.Copy(all, s.ByID)
	}
	return all
}

// makeFile makes the tenants file of a new machine.
func (r *Registry) makeFile() error {
	d, _, err := r.merge(&tenants.Document{}, tenants.Sums{})
	if err != nil {
		return err
	}
	if err := d.Create(r.File); err != nil {
		return err
	}
	sums, err := sumsOf(d)
	if err != nil {
		return err
	}
	r.remember(sums)
	r.Logger.Info("the tenants file was made from the bucket; keys are there as their SHA-256", "file", r.File, "tenants", len(sums))
	return nil
}

func sumsOf(d *tenants.Document) (tenants.Sums, error) {
	p, err := d.Portable()
	return p.Sums(), err
}

// merge brings the file together with what the bucket says, which was the same when the
// tenants had the sums agreed. The error is ErrUnknown if the file has tenants that the
// bucket does not know, and nobody can tell which of the two is right.
func (r *Registry) merge(file *tenants.Document, agreed tenants.Sums) (d *tenants.Document, diff tenants.Difference, err error) {
	there := r.all()
	if err := r.recall(there, file, agreed); err != nil {
		return nil, diff, err
	}
	d, diff, err = file.Merge(there, agreed, r.DataRoot)
	if err == nil && agreed == nil && len(diff.Refused) > 0 {
		err = fmt.Errorf("%w (%s)", ErrUnknown, some(diff.Refused))
	}
	if err == nil {
		r.held = diff.Held
		r.report()
	}
	return d, diff, err
}

// recall adds the tenants of objects that this process could not read yet, as they were when
// file and bucket were last the same.
func (r *Registry) recall(there tenants.Portable, file *tenants.Document, agreed tenants.Sums) error {
	if r.unread() == nil {
		return nil
	}
	ours, err := file.Portable()
	if err != nil {
		return err
	}
	all := ours.Sums()
	maps.Copy(all, agreed)
	for id := range all {
		s := r.shards[object.TenantShard(id)]
		switch {
		case s.etag != "" || s.err == nil:
		case tenants.SumOf(ours[id]) != agreed[id]:
			return fmt.Errorf("tenant %q is not in the tenants file as the bucket had it last, and that cannot be put there: undo the change, or mend the bucket: %w", id, s.err)
		default:
			there[id] = ours[id]
		}
	}
	return nil
}

// report logs what of the bucket cannot be taken here, and that it can again.
func (r *Registry) report() {
	now := map[string]error{}
	for n, s := range r.shards {
		if s.err != nil {
			now[shardKey(n)] = s.err
		}
	}
	for id, err := range r.held {
		now["tenant "+id] = err
	}
	before := r.reported()
	for _, what := range slices.Sorted(maps.Keys(now)) {
		if was := before[what]; was != nil && was.Error() == now[what].Error() {
			continue
		}
		said := "a tenant in the bucket cannot be taken: it stays as it is in the tenants file or, if it is not there, is not served here; all others are followed"
		if isOfObject(now[what]) {
			said = "an object of the bucket cannot be read: its tenants stay as they are in the tenants file, and cannot be changed; all others are followed"
		}
		r.Logger.Error(said, "object", what, logkey.Error, now[what])
	}
	for what := range before {
		if now[what] == nil {
			r.Logger.Info("what could not be taken from the bucket is as it should be", "object", what)
		}
	}
	r.problems.Store(&now)
}

func (r *Registry) reported() map[string]error {
	if p := r.problems.Load(); p != nil {
		return *p
	}
	return nil
}

// Problems says what of the bucket this host cannot take.
func (r *Registry) Problems() (all []string) {
	now := r.reported()
	for _, what := range slices.Sorted(maps.Keys(now)) {
		all = append(all, fmt.Sprintf("%s: %v", what, now[what]))
	}
	return all
}

// some is a list of ids that fits into a line.
func some(ids []string) string {
	const most = 5
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
}

// Agree is for tenants.Options.
func (r *Registry) Agree(file *tenants.Document, edit bool) (agreed *tenants.Document, done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), agreeWithin)
	defer cancel()
	w := writer{Registry: r}
	agreed, diff, err := w.agree(ctx, file, edit)
	if err != nil {
		if !errors.Is(err, tenants.ErrMeanwhile) {
			r.lookAgain()
		}
		return nil, nil, w.explain(err)
	}
	sums, err := sumsOf(agreed)
	if err != nil {
		return nil, nil, err
	}
	return agreed, func() {
		if len(diff.Refused) > 0 {
			r.Logger.Error("a change in the tenants file was refused, because somebody else has changed the same tenant in the bucket meanwhile; the file has that now: make the change again if it is still wanted",
				"file", r.File, "tenants", some(diff.Refused))
		}
		for _, id := range slices.Sorted(maps.Keys(diff.Placed)) {
			r.Logger.Warn("the directory that a tenant would have on this host is another tenant's, so it has another one here, which the tenants file names",
				"file", r.File, "tenant", id, "other", diff.Placed[id])
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.remember(sums)
	}, nil
}

func (r *Registry) lookAgain() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run looks for what others changed and calls follow, which is that of the tenants.Store,
// until ctx ends. It does so at the poll interval, after each value of gained, and after an
// error of Agree until the bucket can be read again, all of it. gained has a value when this host
// got a lease after a gap, in which others may have served its tenants.
func (r *Registry) Run(ctx context.Context, follow func() error, gained <-chan struct{}) {
	var poll <-chan time.Time
	if r.Poll > 0 {
		ticker := time.NewTicker(r.Poll)
		defer ticker.Stop()
		poll = ticker.C
	}
	said, failed := false, false
	for {
		var again <-chan time.Time
		if failed || r.incomplete() {
			again = time.After(lookAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-poll:
		case <-gained:
		case <-r.wake:
			failed = true // whatever it was, it has just failed
			continue
		case <-again:
		}
		changed, err := r.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if changed || err == nil && failed {
			_ = follow() // the store logs the error; if it is the bucket's, wake has a value
		}
		if failed = err != nil; failed && !said {
			r.Logger.Warn("the bucket could not be asked for the tenants; those that were loaded before stay", logkey.Error, err)
		}
		said = failed
	}
}

// Refresh looks for what others changed now, and calls follow if there is anything.
func (r *Registry) Refresh(ctx context.Context, follow func() error) {
	if changed, _ := r.look(ctx); changed { // Run logs the error
		_ = follow() // the store logs the error
	}
}

// look reads the shards that have changed. One that fails keeps no other from being read. One
// that the bucket has not given for a time, while it gives others, counts as one that cannot
// be read.
func (r *Registry) look(ctx context.Context) (changed bool, err error) {
	select {
	case r.looking <- struct{}{}:
		defer func() { <-r.looking }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, agreeWithin)
	defer cancel()
	var group errgroup.Group
	var news [object.TenantShards]bool
	var errs [object.TenantShards]error
	for n := range r.shards {
		group.Go(func() error {
			news[n], errs[n] = r.lookAt(ctx, n, begun)
			return errs[n]
		})
	}
	err = group.Wait()
	answers := slices.Contains(errs[:], nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.shards {
		s := &r.shards[n]
		if answers && errs[n] != nil && s.err == nil && !s.failing.IsZero() && time.Since(s.failing) >= agreeWithin {
			s.err = errs[n]
		}
	}
	r.report()
	return slices.Contains(news[:], true), err
}

// incomplete says whether not all objects could be read at the last look.
func (r *Registry) incomplete() bool {
	for _, err := range r.reported() {
		if isOfObject(err) {
			return true
		}
	}
	return false
}

// PutAll puts the tenants of this host into an empty bucket, and returns how many they
// are. It can be repeated if it was interrupted, and does nothing when all are there. The
// error is ErrOther if the bucket has tenants of somebody else.
func PutAll(ctx context.Context, c Config) (int, error) {
	r := &Registry{Config: c, name: rand.Text(), wake: make(chan struct{}, 1)}
	if err := cmp.Or(r.load(ctx), r.unread()); err != nil {
		return 0, err
	}
	file, err := tenants.ReadDocument(c.File)
	if err != nil {
		return 0, err
	}
	ours, err := file.Portable()
	if err != nil {
		return 0, err
	}
	_, diff, err := (&tenants.Document{}).Merge(ours, tenants.Sums{}, c.DataRoot)
	if err = errors.Join(append(slices.Collect(maps.Values(diff.Held)), err)...); err != nil {
		return 0, fmt.Errorf("no new machine could take these tenants: %w: %w", tenants.ErrInvalid, err)
	}
	there := r.there()
	switch {
	case there == len(r.shards) && r.state.Filling:
		r.state.Filling = false // the last time, all went well but the end
		return len(ours), r.state.write(r.State)
	case there == len(r.shards):
		_, _, err := r.merge(file, r.state.Tenants)
		return len(ours), err
	case there > 0 && !r.state.Filling:
		return 0, ErrOther // of a host that has not put all there yet
	}
	// The bucket is known as this host's before it has anything, so that this can be
	// repeated.
	r.state = state{Service: cmp.Or(r.state.Service, rand.Text()), Tenants: ours.Sums(), Filling: true}
	r.service = r.state.Service
	if err := r.state.write(r.State); err != nil {
		return 0, err
	}
	w := writer{Registry: r}
	for n := range r.shards {
		mine, _ := (&shard{}).with(n, ours)
		again, err := w.put(ctx, n, mine)
		for again && err == nil { // an answer was lost, say
			again, err = w.put(ctx, n, mine)
		}
		if err != nil {
			return 0, err
		}
	}
	r.state.Filling = false
	return len(ours), r.state.write(r.State)
}
