package host

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// Peer is a host as the bucket has it.
type Peer struct {
	Name        string
	URL         string // where other hosts reach it; "" = they do not
	Fingerprint string // of its certificate
	Incarnation string
	Version     string        // of its sqgate
	Draining    bool          // it takes no directory over
	Directories int           // that it has
	Alive       bool          // its lease may hold, or not have ended for long enough
	SeenAgo     time.Duration // since its heartbeat was last seen to move
}

// view is what this host has seen of the others. All times are by its own clock.
type view struct {
	looking gate // one look at a time

	mu      sync.Mutex
	watched map[string]*watch
	looked  time.Duration    // when the last look at all of them began; 0 = there was none
	unread  map[string]error // of those whose objects could not be had then
}

// gate lets one at a time through. Others wait as long as their context allows.
type gate struct {
	once sync.Once
	free chan struct{}
}

func (g *gate) enter(ctx context.Context) error {
	g.once.Do(func() { g.free = make(chan struct{}, 1) })
	select {
	case g.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) leave() { <-g.free }

// watch is what this host has seen of another one: it stood still from since, when the
// answer came that showed it first, until looked, when the last question was asked.
// What this process does not see, because it is stopped, does not count.
type watch struct {
	seen          object.Host
	etag          string
	damaged       bool // what is there now: seen is what was there before, or has only a name
	since, looked time.Duration
	lives         time.Duration // since when it has this incarnation
	unreachable   time.Duration // when a connection to it failed; 0 = none has
	listed        bucket.Entry  // of a host that has ended, as it was listed last
}

func (w *watch) still() time.Duration { return w.looked - w.since }

// alive says whether the directories of the host are not to be taken over yet.
func (w *watch) alive() bool { return w.mayLive() && w.still() < stillFor }

// mayLive says whether the host has not said that it has no lease.
func (w *watch) mayLive() bool { return w.damaged || w.seen.Incarnation != "" }

// leased says whether the host may have a lease.
func (w *watch) leased() bool { return w.mayLive() && w.still() < leaseFor }

// ended says whether the lease of an incarnation of the host has ended.
func (w *watch) ended(incarnation string) bool {
	switch {
	case w.damaged: // whoever wrote it: nobody has renewed a lease since
		return w.still() >= stillFor
	case w.seen.Incarnation == "":
		return true
	case w.seen.Incarnation == incarnation:
		return w.still() >= stillFor
	}
	return w.looked-w.lives >= stillFor // its object is another's now, so it could not be renewed since
}

// observe notes what a host's object was. begun is when it was asked for. It returns what
// is known of the host then.
func (v *view) observe(name string, now object.Host, etag string, begun time.Duration, clock func() time.Duration) watch {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.watched[name]
	if w == nil || w.damaged || w.seen != now {
		w = v.changedLocked(name, now, clock())
	}
	w.etag, w.looked = etag, max(w.looked, begun)
	return *w
}

// observeDamaged is observe for an object that cannot be understood. Each renewal of a lease
// makes another one of it, so as long as it is the same, the host stands still.
func (v *view) observeDamaged(name, etag string, begun time.Duration, clock func() time.Duration) watch {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.watched[name]
	if w == nil || !w.damaged || w.etag != etag {
		seen, at := object.Host{Name: name}, clock() // it may have been renewed until then
		if w != nil {
			seen = w.seen
		}
		w = v.setLocked(name, &watch{seen: seen, damaged: true, since: at, looked: at, lives: at})
	}
	w.etag, w.looked = etag, max(w.looked, begun)
	return *w
}

func (v *view) changedLocked(name string, now object.Host, at time.Duration) *watch {
	next := &watch{seen: now, since: at, looked: at, lives: at}
	if before := v.watched[name]; before != nil && before.seen.Incarnation == now.Incarnation && !before.damaged {
		next.lives, next.unreachable = before.lives, before.unreachable
		if before.seen.Counter == now.Counter {
			next.since, next.looked = before.since, before.looked
		}
	}
	return v.setLocked(name, next)
}

func (v *view) setLocked(name string, w *watch) *watch {
	if v.watched == nil {
		v.watched = map[string]*watch{}
	}
	v.watched[name] = w
	return w
}

// of is what is known of a host.
func (v *view) of(name string) (w watch, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if one := v.watched[name]; one != nil {
		return *one, true
	}
	return w, false
}

// noteEnded notes how a host is listed that was seen after that, if it has ended.
func (v *view) noteEnded(name string, e bucket.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w := v.watched[name]; w != nil && !w.mayLive() {
		w.listed = e
	}
}

// all is what is known of all hosts.
func (v *view) all() (all []watch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.watched {
		all = append(all, *w)
	}
	return all
}

// keepLooking looks at the other hosts until ctx ends.
func (h *Host) keepLooking(ctx context.Context) {
	for {
		if err := h.lookAfter(ctx, h.clock()); err != nil && ctx.Err() == nil {
			h.Logger.Warn("the other hosts could not be looked at", logkey.Error, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(renewEvery):
		}
	}
}

// looksAtOnce is how many hosts are looked at at a time.
const looksAtOnce = 16

// lookAfter looks at all other hosts, unless a look has begun after that time already. It
// takes a LIST and a conditional GET for each, but for those that have ended and are listed as
// before: their objects stay for ever. Of a host whose object cannot be had, nothing
// new is known: it does not stand still, and keeps no other from being seen.
func (h *Host) lookAfter(ctx context.Context, after time.Duration) error {
	v := &h.view
	if err := v.looking.enter(ctx); err != nil {
		return err
	}
	defer v.looking.leave()
	v.mu.Lock()
	etags := map[string]string{}
	for name, w := range v.watched { // also those that a list does not have
		etags[name] = w.etag
	}
	done := v.looked > after
	v.mu.Unlock()
	if done {
		return nil
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, leaseFor/2)
	defer cancel()
	begun := h.clock()
	listed := map[string]bucket.Entry{}
	for e, err := range bucket.All(ctx, h.Bucket, hostKey(""), "") {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(e.Key, hostKey(""))
		switch w, ok := v.of(name); {
		case name == h.Name:
		case ok && w.listed == e:
			delete(etags, name)
		default:
			etags[name] += "" // it is there
			listed[name] = e
		}
	}
	var group errgroup.Group
	group.SetLimit(looksAtOnce)
	var mu sync.Mutex
	unread := map[string]error{}
	for name, etag := range etags {
		group.Go(func() error {
			if err := h.lookAt(ctx, name, etag); err != nil {
				mu.Lock()
				defer mu.Unlock()
				unread[name] = err
				return nil
			}
			v.noteEnded(name, listed[name])
			return nil
		})
	}
	_ = group.Wait() // there are no errors
	if err := asked.Err(); err != nil {
		return err
	}
	v.mu.Lock()
	before := v.unread
	v.looked, v.unread = max(begun, 1), unread
	v.mu.Unlock()
	h.reportUnread(before, unread)
	return nil
}

// reportUnread logs which hosts cannot be looked at, and which can again.
func (h *Host) reportUnread(before, now map[string]error) {
	without := func(all, others map[string]error) (names []string) {
		for name := range all {
			if others[name] == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	if names := without(now, before); len(names) > 0 {
		h.Logger.Warn("the objects of hosts in the bucket cannot be read: whether those hosts live is not known, and nothing is taken over from them",
			slog.Any("hosts", names[:min(len(names), mostNames)]), slog.Int("all", len(now)), slog.Any(logkey.Error, now[names[0]]))
	}
	if names := without(before, now); len(names) > 0 {
		h.Logger.Info("the objects of hosts in the bucket can be read again", slog.Any("hosts", names[:min(len(names), mostNames)]), slog.Int("still not", len(now)))
	}
}

// mostNames is how many hosts a line of the log names.
const mostNames = 5

func (h *Host) lookAt(ctx context.Context, name, etag string) error {
	begun := h.clock()
	found, err := h.Bucket.Get(ctx, hostKey(name), etag)
	switch {
	case errors.Is(err, bucket.ErrNotModified):
		switch w, ok := h.view.of(name); {
		case !ok || w.etag != etag: // another look was later
		case w.damaged:
			h.view.observeDamaged(name, etag, begun, h.clock)
		default:
			h.view.observe(name, w.seen, etag, begun, h.clock)
		}
		return nil
	case errors.Is(err, bucket.ErrNotFound):
		h.view.mu.Lock()
		defer h.view.mu.Unlock()
		delete(h.view.watched, name)
		return nil
	case err != nil:
		return err
	}
	now, err := object.Decode[object.Host](found.Body)
	if err != nil {
		h.Logger.Warn("a host of the bucket cannot be understood", slog.String("host", name), slog.Any(logkey.Error, err))
	}
	switch {
	case object.IsDamaged(err):
		h.view.observeDamaged(name, found.ETag, begun, h.clock)
		return nil
	case err != nil: // of a newer sqgate: this host cannot know how long its lease is
		return nil
	}
	h.view.observe(name, now, found.ETag, begun, h.clock)
	return nil
}

// Peers is the last view of the hosts of the bucket, this one among them, sorted by name.
func (h *Host) Peers() []Peer {
	all := []Peer{h.self()}
	for _, w := range h.view.all() {
		all = append(all, h.peer(w))
	}
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (h *Host) peer(w watch) Peer {
	return Peer{Name: w.seen.Name, URL: w.seen.URL, Fingerprint: w.seen.Fingerprint, Incarnation: w.seen.Incarnation, Version: w.seen.Version,
		Draining: w.seen.Draining, Directories: w.seen.Load, Alive: w.alive(), SeenAgo: h.clock() - w.since}
}

func (h *Host) self() Peer {
	p := Peer{Name: h.Name, URL: h.URL, Fingerprint: h.Fingerprint, Incarnation: h.Incarnation, Version: h.Version,
		Draining: h.draining.Load(), Directories: int(h.held.Load())}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.lease; l != nil {
		p.Alive, p.SeenAgo = l.holds(), h.clock()-time.Duration(l.until.Load())+leaseFor
	}
	return p
}

// Unreachable notes that this host could not connect to another one. What nobody owns is
// not placed there for a while.
func (h *Host) Unreachable(name string) {
	h.view.mu.Lock()
	defer h.view.mu.Unlock()
	if w := h.view.watched[name]; w != nil {
		w.unreachable = max(h.clock(), 1)
	}
}

// takes says whether a host may be given a directory: it was seen to live lately, is not
// drained, and can be reached.
func (h *Host) takes(w watch) bool {
	return w.leased() && h.clock()-w.looked < leaseFor && !w.damaged && !w.seen.Draining && w.seen.URL != "" && (w.unreachable == 0 || h.clock()-w.unreachable >= stillFor)
}

// candidates are the other hosts that may be given a directory, by name.
func (h *Host) candidates() map[string]watch {
	all := map[string]watch{}
	for _, w := range h.view.all() {
		if h.takes(w) {
			all[w.seen.Name] = w
		}
	}
	return all
}
