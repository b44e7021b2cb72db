package host

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/replica"
)

// routes are the directories that other hosts serve, as this one knows.
type routes struct {
	mu        sync.Mutex
	known     map[*datadir.Dir]route
	looking   map[*datadir.Dir]chan struct{} // closed when a look at the owner has ended
	forgotten time.Duration                  // when a route was found to be wrong last
}

// route leads to a process of another host.
type route struct {
	host, incarnation string
	placed            bool // it owns the directory only when it has been asked
}

// askWithin is how long it may take to find out who owns a directory.
const askWithin = 5 * time.Second

// Route says who serves a data directory. here: this host does, or shall take it over.
// It waits while the directory is handed over. The error is datadir.ErrMoved if nobody can
// serve it now. Whoever then finds that it is not so (the owner refuses, or serving here
// ends in datadir.ErrMoved, with nothing changed) calls Forget, and Route again.
func (ds *Directories) Route(ctx context.Context, dir string) (to Peer, here bool, err error) {
	if !ds.Many {
		return ds.self(), true, nil
	}
	d := ds.Dirs.Of(dir)
	for {
		if err := d.AwaitHandOver(ctx); err != nil {
			return Peer{}, false, err
		}
		if d.Owned() {
			return ds.self(), true, nil
		}
		if to, ok := ds.known(d); ok {
			return to, false, nil
		}
		done, wait := ds.claimLook(d)
		if wait != nil { // another request looks at the owner
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return Peer{}, false, ctx.Err()
			}
		}
		r, err := ds.find(ctx, d)
		if err == nil && r.host != ds.Name {
			ds.remember(d, r)
		}
		done()
		switch to, ok := ds.live(r); {
		case err != nil:
			return Peer{}, false, err
		case r.host == ds.Name:
			return ds.self(), true, nil
		case ok:
			return to, false, nil
		}
		return Peer{}, false, datadir.ErrMoved
	}
}

// Accepts says whether this host serves a request that another one has sent here: it owns
// the directory, or nobody does and it may take it over. It is Route for a request that
// must not be sent on.
func (ds *Directories) Accepts(ctx context.Context, dir string) (bool, error) {
	if !ds.Many {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	d := ds.Dirs.Of(dir)
	if err := d.AwaitHandOver(ctx); err != nil || d.Owned() {
		return err == nil, err
	}
	name, o, err := ds.owner(ctx, d)
	if err != nil {
		return false, err
	}
	w, known := ds.view.of(o.Host)
	if !ds.mayClaim(o) || o.Host != "" && o.Host != ds.Name && known && w.alive() {
		return false, nil
	}
	_, passed := ds.pass(ctx, d, name)
	return !passed, nil
}

// Forget has the next Route of a directory look into the bucket: its owner said that it is
// not his.
func (ds *Directories) Forget(dir string) {
	if !ds.Many {
		return
	}
	d := ds.Dirs.Of(dir)
	ds.routes.mu.Lock()
	defer ds.routes.mu.Unlock()
	delete(ds.routes.known, d)
	ds.routes.forgotten = ds.clock()
}

func (ds *Directories) known(d *datadir.Dir) (to Peer, ok bool) {
	ds.routes.mu.Lock()
	r, ok := ds.routes.known[d]
	ds.routes.mu.Unlock()
	if !ok {
		return to, false
	}
	return ds.live(r)
}

// live is the process that a route leads to, if that lives, as far as this host has seen.
func (ds *Directories) live(r route) (to Peer, ok bool) {
	w, ok := ds.view.of(r.host)
	if !ok || w.seen.Incarnation == "" || w.seen.Incarnation != r.incarnation || !w.alive() || r.placed && !ds.takes(w) {
		return to, false
	}
	return ds.peer(w), true
}

func (ds *Directories) remember(d *datadir.Dir, r route) {
	ds.routes.mu.Lock()
	defer ds.routes.mu.Unlock()
	if ds.routes.known == nil {
		ds.routes.known = map[*datadir.Dir]route{}
	}
	ds.routes.known[d] = r
}

// claimLook lets one request at a time look at the owner of a directory. The others wait.
func (ds *Directories) claimLook(d *datadir.Dir) (done func(), wait <-chan struct{}) {
	rs := &ds.routes
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if wait := rs.looking[d]; wait != nil {
		return nil, wait
	}
	if rs.looking == nil {
		rs.looking = map[*datadir.Dir]chan struct{}{}
	}
	ended := make(chan struct{})
	rs.looking[d] = ended
	return func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.looking, d)
		close(ended)
	}, nil
}

// owner asks the bucket who owns a directory, and what its name is there.
func (ds *Directories) owner(ctx context.Context, d *datadir.Dir) (name string, o object.Owner, err error) {
	name, _, err = ds.nameOf(d)
	if err != nil {
		return "", o, err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	ds.routes.mu.Lock()
	forgotten := ds.routes.forgotten
	ds.routes.mu.Unlock()
	if err = ds.lookAfter(ctx, forgotten); err == nil {
		o, _, err = (&replica.Directory{Bucket: ds.Bucket, Name: name}).Owner(ctx)
	}
	if err != nil {
		return "", o, fmt.Errorf("%w (%w)", datadir.ErrMoved, err)
	}
	return name, o, nil
}

// find finds who is to serve a directory that this host does not own.
func (ds *Directories) find(ctx context.Context, d *datadir.Dir) (route, error) {
	before := d.Ownership()
	name, o, err := ds.owner(ctx, d)
	if err != nil {
		return route{}, err
	}
	r := ds.choose(name, o)
	if r.host == ds.Name {
		if to, passed := ds.pass(ctx, d, name); passed {
			r = to
		}
	}
	if r.host != ds.Name {
		before.Lose(replica.ErrDeposed) // of before a gap in the lease
	}
	if r.host == "" {
		return r, datadir.ErrMoved
	}
	return r, nil
}

// choose says which host is to serve a directory that had this owner: the one that owns it,
// as long as it lives; else the one that it was handed over to; else the one that
// rendezvous hashing prefers.
func (ds *Directories) choose(name string, o object.Owner) route {
	if o.Host == ds.Name {
		return route{host: ds.Name}
	}
	if w, ok := ds.view.of(o.Host); ok && w.alive() {
		return route{host: o.Host, incarnation: w.seen.Incarnation}
	}
	if w, ok := ds.view.of(o.Next); ok && ds.takes(w) {
		return route{host: o.Next, incarnation: w.seen.Incarnation, placed: true}
	}
	best, highest := ds.prefer(name)
	mine := ds.Holds() && (!ds.draining.Load() || best.host == "")
	if mine && (best.host == "" || o.Next == ds.Name || weightOf(ds.Name, name) >= highest) {
		return route{host: ds.Name}
	}
	return best
}

// prefer is the other host that rendezvous hashing prefers; "" = there is none.
func (ds *Directories) prefer(name string) (best route, highest uint64) {
	for host, w := range ds.candidates() {
		if weight := weightOf(host, name); best.host == "" || weight > highest {
			best, highest = route{host, w.seen.Incarnation, true}, weight
		}
	}
	return best, highest
}

// weightOf is what rendezvous hashing gives a host for a directory: the host with the
// highest weight is preferred, and if that goes, only its directories move.
func weightOf(host, dir string) uint64 { return xxh3.HashString(host + "\x00" + dir) }

// mayClaim says whether this host may take a directory over that had this owner, when the
// lease of that has ended: it was not handed over to another, and this host is not drained.
func (ds *Directories) mayClaim(o object.Owner) bool {
	if !ds.Many || o.Host == ds.Name {
		return true
	}
	if w, ok := ds.view.of(o.Next); ok && ds.takes(w) {
		return false
	}
	return !ds.draining.Load() || len(ds.candidates()) == 0
}
