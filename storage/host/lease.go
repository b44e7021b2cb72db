package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// A host renews its lease every renewEvery, and has it until leaseFor after the
// beginning of the last renewal that succeeded, by its own clock. Another host, or this
// one after a new start, may take its directories over when it has itself seen the
// lease stand still for stillFor.
const (
	renewEvery = 2 * time.Second
	leaseFor   = 8 * time.Second
	stillFor   = 12 * time.Second
)

// ErrNameTaken is returned by Host.Run if another sqgate uses the same name.
var ErrNameTaken = errors.New("another sqgate with this host name uses the bucket: give each a --host-name of its own")

// Host is this process in the bucket.
type Host struct {
	Bucket bucket.Bucket
	Name   string // unique in the bucket
	// Incarnation is random, and of this process only.
	Incarnation string
	// Predecessors are the incarnations of earlier processes with this name that are known
	// to have ended, oldest first.
	Predecessors []string
	Version      string // of sqgate
	// Many says that others share the bucket at the same time, which reach this one at URL,
	// where it shows a certificate with this fingerprint.
	Many             bool
	URL, Fingerprint string
	Logger           *slog.Logger
	// Gained, if it is not nil and has room, gets a value when this host has a lease again
	// after a gap.
	Gained chan struct{}
	// Clock goes on while this process or the machine is stopped; nil = CLOCK_BOOTTIME.
	Clock func() time.Duration

	renewing gate // for these
	counter  uint64
	etag     string      // of this host's object
	previous object.Host // what was there before the first renewal
	replaces bool        // the next renewal replaces an object of which it is not known who wrote it

	held     atomic.Int64 // directories that it has
	draining atomic.Bool
	view     view

	mu    sync.Mutex
	lease *lease
	alone time.Duration // when no earlier process with this name has a lease any more
}

// lease is held without a gap. A new one begins after a gap, in which others may have
// taken directories over.
type lease struct {
	ctx   context.Context // ends with the lease, or a moment later
	end   context.CancelFunc
	timer *time.Timer
	until atomic.Int64 // by the clock of the host
	clock func() time.Duration
}

// holds is exact also if the process was stopped, and timers are late.
func (l *lease) holds() bool { return l.ctx.Err() == nil && int64(l.clock()) < l.until.Load() }

func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return math.MaxInt64 // no lease holds
	}
	return time.Duration(t.Nano())
}

func (h *Host) clock() time.Duration {
	if h.Clock != nil {
		return h.Clock()
	}
	return bootTime()
}

func hostKey(name string) string { return "hosts/" + name }

// Run renews the lease until ctx ends, and then gives it up, so that nobody has to wait
// for its end. The error is ErrNameTaken.
func (h *Host) Run(ctx context.Context) error {
	if h.Many {
		var looking sync.WaitGroup
		defer looking.Wait()
		ctx, end := context.WithCancel(ctx)
		defer end()
		looking.Go(func() { h.keepLooking(ctx) })
	}
	for {
		pause := renewEvery
		switch err := h.renew(ctx); {
		case errors.Is(err, ErrNameTaken):
			h.endLease()
			return err
		case err != nil && ctx.Err() == nil:
			h.Logger.Warn("the lease could not be renewed", logkey.Error, err)
			pause /= 4
		}
		select {
		case <-ctx.Done():
			h.giveUp()
			return nil
		case <-time.After(pause):
		}
	}
}

// Acquire takes the lease before Run does, so that the first request need not be refused.
func (h *Host) Acquire(ctx context.Context) error { return h.renew(ctx) }

// renew writes this host's object once.
func (h *Host) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseFor/2)
	defer cancel()
	if err := h.renewing.enter(ctx); err != nil {
		return err
	}
	defer h.renewing.leave()
	begun := h.clock()
	if h.etag == "" {
		there, etag, err := h.read(ctx, h.Name)
		damaged := object.IsDamaged(err)
		if err != nil && !damaged {
			return err
		}
		switch {
		case damaged: // the name is this host's, and so is the object
			h.replaces = true
			h.Logger.Warn("this host's object in the bucket cannot be understood, and is replaced", logkey.Error, err)
		case h.counter == 0:
			h.previous = there
		case there.Incarnation == h.Incarnation:
		case h.everHeld() || !h.mayBeBefore(there):
			return ErrNameTaken
		}
		h.etag = etag
	}
	h.counter++
	condition := bucket.IfMatch(h.etag)
	if h.etag == "" {
		condition = bucket.IfAbsent()
	}
	etag, err := h.put(ctx, h.object(), condition)
	if err != nil {
		h.etag = "" // an answer may have been lost: the next time looks first
		return err
	}
	h.etag = etag
	if h.replaces {
		h.replaces = false
		h.awaitOthers()
	}
	h.extend(begun + leaseFor)
	return nil
}

// awaitOthers has this host wait for the lease of whoever else may have had its name until now,
// and cannot renew it from now on.
func (h *Host) awaitOthers() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alone = h.clock() + leaseFor
}

// object is what the others are to know of this host.
func (h *Host) object() object.Host {
	return object.Host{Name: h.Name, URL: h.URL, Fingerprint: h.Fingerprint, Incarnation: h.Incarnation, Counter: h.counter,
		Version: h.Version, Draining: h.draining.Load(), Load: int(h.held.Load())}
}

// mayBeBefore says whether a process before this one has written its object, which may
// have arrived late.
func (h *Host) mayBeBefore(o object.Host) bool {
	return o.Incarnation == "" || o.Incarnation == h.previous.Incarnation || slices.Contains(h.Predecessors, o.Incarnation)
}

// noteAloneLocked is called at the first renewal that succeeded: no earlier process can renew
// its lease from then on.
func (h *Host) noteAloneLocked() {
	if before := h.previous.Incarnation; before != "" && !slices.Contains(h.Predecessors, before) {
		h.alone = h.clock() + leaseFor
	}
}

func (h *Host) put(ctx context.Context, o object.Host, c bucket.Condition) (etag string, err error) {
	body, err := object.Encode(&o)
	if err != nil {
		return "", err
	}
	return h.Bucket.Put(ctx, hostKey(o.Name), body, c)
}

// read returns a host's object, which is zero if there is none. If the object is damaged, the
// error says so, and the ETag is that of what is there.
func (h *Host) read(ctx context.Context, name string) (o object.Host, etag string, err error) {
	found, err := h.Bucket.Get(ctx, hostKey(name), "")
	if errors.Is(err, bucket.ErrNotFound) {
		return object.Host{}, "", nil
	}
	if err == nil {
		etag = found.ETag
		o, err = object.Decode[object.Host](found.Body)
	}
	if err != nil {
		err = fmt.Errorf("host %s: %w", name, err)
	}
	return o, etag, err
}

func (h *Host) extend(until time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lease
	if l == nil {
		h.noteAloneLocked()
	}
	if l == nil || !l.holds() {
		if l != nil {
			l.end()
			l.timer.Stop()
			select {
			case h.Gained <- struct{}{}:
			default:
			}
		}
		ctx, end := context.WithCancel(context.Background())
		l = &lease{ctx: ctx, end: end, timer: time.AfterFunc(leaseFor, end), clock: h.clock}
		h.lease = l
	}
	l.until.Store(int64(until))
	l.timer.Reset(until - h.clock())
}

// current is the lease that holds now, or nil.
func (h *Host) current() *lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lease == nil || !h.lease.holds() {
		return nil
	}
	return h.lease
}

// everHeld says whether a renewal has succeeded.
func (h *Host) everHeld() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease != nil
}

// Holds says whether this host has a lease now.
func (h *Host) Holds() bool { return h.current() != nil }

func (h *Host) endLease() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lease != nil {
		h.lease.timer.Stop()
		h.lease.end()
	}
}

// giveUp ends the lease, and says so in the bucket.
func (h *Host) giveUp() {
	h.endLease()
	ctx, cancel := context.WithTimeout(context.Background(), renewEvery)
	defer cancel()
	now, etag, err := h.read(ctx, h.Name)
	if err == nil && now.Incarnation == h.Incarnation {
		_, err = h.put(ctx, object.Host{Name: h.Name, Counter: h.counter + 1, Version: h.Version}, bucket.IfMatch(etag))
	}
	if err != nil {
		h.Logger.Warn("the lease could not be given up, so the next host has to wait for its end", logkey.Error, err)
	}
}

// awaitEnd returns when the lease has ended under which an owner had a directory. The
// error is errOwned if the owner lives, or if that cannot be found out. Where there are many
// hosts, it waits for none: a request does better to go to the owner.
func (h *Host) awaitEnd(ctx context.Context, o object.Owner) error {
	for begun := h.clock(); ; {
		over, err := h.ended(ctx, o)
		if over || err != nil && !bucket.ShouldRetry(err) {
			return err
		}
		if h.Many && o.Host != h.Name || h.clock()-begun > stillFor+2*renewEvery {
			if err != nil {
				return fmt.Errorf("%w, as far as can be known: %w", errOwned, err)
			}
			return fmt.Errorf("%w: %s", errOwned, o.Host)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(renewEvery / 4):
		}
	}
}

var errOwned = errors.New("another host has this directory, and lives")

// ended looks once. A host that has given its lease up has no incarnation.
func (h *Host) ended(ctx context.Context, o object.Owner) (bool, error) {
	switch o.Host {
	case "":
		return true, nil
	case h.Name:
		h.mu.Lock()
		defer h.mu.Unlock()
		return o.Incarnation == h.Incarnation || h.clock() >= h.alone, nil
	}
	begun := h.clock()
	now, etag, err := h.read(ctx, o.Host)
	if object.IsDamaged(err) {
		w := h.view.observeDamaged(o.Host, etag, begun, h.clock)
		return w.ended(o.Incarnation), nil
	}
	if err != nil || now.Incarnation == "" {
		return err == nil, err
	}
	w := h.view.observe(o.Host, now, etag, begun, h.clock)
	return w.ended(o.Incarnation), nil
}
