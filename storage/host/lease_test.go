package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// run runs a host until the end of the test, or until end is called.
func run(t *testing.T, h *Host) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = end() })
	synctest.Wait()
	return end
}

// everywhere lets every call of a bucket fail in one way, which can be changed at any time.
func everywhere(b *bucket.Memory) *atomic.Pointer[bucket.Fault] {
	now := &atomic.Pointer[bucket.Fault]{}
	now.Store(&bucket.Fault{})
	b.Fault = func(bucket.Op, string) bucket.Fault { return *now.Load() }
	return now
}

// TestALease is held as long as it is renewed, and ends 8 s after the beginning of the
// last renewal, also while one is under way. After a gap it is another one.
func TestALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		fault := everywhere(b)
		h := newHost(b, "a")
		run(t, h)
		first := h.current()
		time.Sleep(time.Minute)
		if h.current() != first || first.ctx.Err() != nil {
			t.Fatal("a lease that is renewed is not the same")
		}
		time.Sleep(renewEvery / 2)
		fault.Store(&bucket.Fault{Delay: time.Hour})
		time.Sleep(leaseFor - renewEvery/2 - time.Millisecond)
		synctest.Wait()
		if !first.holds() || first.ctx.Err() != nil {
			t.Error("it has ended too early")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if first.holds() || first.ctx.Err() == nil || h.Holds() {
			t.Error("it has not ended")
		}
		fault.Store(&bucket.Fault{})
		time.Sleep(leaseFor)
		if next := h.current(); next == nil || next == first || first.holds() {
			t.Error("after a gap, the lease is not another one")
		}
	})
}

// TestAStoppedProcess finds its lease gone before any timer says so.
func TestAStoppedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(bucket.NewMemory(), "a")
		var stopped atomic.Int64
		running := h.Clock
		h.Clock = func() time.Duration { return running() + time.Duration(stopped.Load()) }
		run(t, h)
		l := h.current()
		stopped.Store(int64(leaseFor))
		if l.holds() || h.Holds() {
			t.Error("it has a lease from before")
		}
	})
}

// TestLostAnswersOfRenewals do not end the lease.
func TestLostAnswersOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		n := 0
		b.Fault = func(op bucket.Op, _ string) bucket.Fault {
			if op != bucket.OpPut {
				return bucket.Fault{}
			}
			n++
			return []bucket.Fault{{}, {Lose: bucket.ErrUnknownOutcome}, {Refuse: bucket.ErrTemporary}, {Twice: true}}[n%4]
		}
		h := newHost(b, "a")
		run(t, h)
		time.Sleep(renewEvery)
		l := h.current()
		for range 60 {
			time.Sleep(renewEvery)
			if h.current() != l || l == nil {
				t.Fatal("the lease has ended")
			}
		}
	})
}

// TestANameThatIsTaken ends the earlier one of two hosts. It cannot come back.
func TestANameThatIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		first, second := newHost(b, "a"), newHost(b, "a")
		done := make(chan error, 1)
		go func() { done <- first.Run(t.Context()) }()
		synctest.Wait()
		time.Sleep(renewEvery / 2)
		run(t, second)
		if err := <-done; !errors.Is(err, ErrNameTaken) || first.Holds() {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if !second.Holds() {
			t.Error("the second has no lease")
		}
	})
}

// TestAPredecessorThatIsKnownToHaveEnded is not waited for.
func TestAPredecessorThatIsKnownToHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		first, second := newHost(b, "a"), newHost(b, "a")
		if err := first.renew(t.Context()); err != nil { // and it is killed
			t.Fatal(err)
		}
		first.endLease()
		second.Predecessors = []string{first.Incarnation}
		run(t, second)
		if second.alone != 0 {
			t.Error("it is waited for")
		}
	})
}

// TestAGapIsTold to those who have to look what others did in it. The first lease comes
// after none.
func TestAGapIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		fault := everywhere(b)
		h := newHost(b, "a")
		h.Gained = make(chan struct{}, 1)
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = h.Run(ctx) }) // nobody else has the name
		defer running.Wait()
		defer stop()
		time.Sleep(time.Minute)
		if len(h.Gained) > 0 || !h.Holds() {
			t.Error("there was no gap")
		}
		fault.Store(&bucket.Fault{Refuse: bucket.ErrTemporary})
		time.Sleep(leaseFor + time.Second)
		fault.Store(&bucket.Fault{})
		time.Sleep(2 * renewEvery)
		if len(h.Gained) != 1 || !h.Holds() {
			t.Error("nobody was told of the gap")
		}
	})
}

// TestAFirstRenewalThatFails is tried again, whatever became of it: the object of the
// process before is not another host with the same name. A third one is.
func TestAFirstRenewalThatFails(t *testing.T) {
	for name, fault := range map[string]bucket.Fault{
		"refused":     {Refuse: bucket.ErrTemporary},
		"answer lost": {Lose: bucket.ErrUnknownOutcome},
	} {
		for _, third := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				before, h := newHost(b, "a"), newHost(b, "a")
				if err := before.renew(t.Context()); err != nil { // and it is killed
					t.Fatal(err)
				}
				before.endLease()
				now := everywhere(b)
				b.Fault = func(op bucket.Op, _ string) bucket.Fault {
					if op != bucket.OpPut {
						return bucket.Fault{}
					}
					return *now.Load()
				}
				now.Store(&fault)
				if err := h.renew(t.Context()); !bucket.ShouldRetry(err) {
					t.Error(name, err)
				}
				now.Store(&bucket.Fault{})
				if third {
					other := newHost(b, "a")
					if err := other.renew(t.Context()); err != nil {
						t.Fatal(name, err)
					}
					defer other.endLease()
				}
				err := h.renew(t.Context())
				if third != errors.Is(err, ErrNameTaken) || !third && err != nil || h.Holds() == third {
					t.Errorf("%s, third %v: %v", name, third, err)
				}
				h.endLease()
			})
		}
	}
}

// TestALateAnswerIsNoWatch: what a host is told of another one is as old as its question,
// also if this process was stopped meanwhile.
func TestALateAnswerIsNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		owner := newHost(b, "a")
		run(t, owner)
		answers := &lateAnswers{Bucket: b}
		h := newHost(answers, "b")
		for _, answers.late = range []time.Duration{0, stillFor, 0, time.Minute} {
			over, err := h.ended(t.Context(), object.Owner{Host: "a", Incarnation: owner.Incarnation})
			if over || err != nil || !owner.Holds() {
				t.Errorf("with an answer after %v: %v, %v", answers.late, over, err)
			}
		}
	})
}

type lateAnswers struct {
	bucket.Bucket
	late time.Duration
}

func (l *lateAnswers) Get(ctx context.Context, key, unlessETag string) (bucket.Object, error) {
	o, err := l.Bucket.Get(ctx, key, unlessETag)
	time.Sleep(l.late)
	return o, err
}

// TestAPredecessorThatWritesLate is not another host with the same name: it may have died
// while its last renewal, or the end of its lease, was on the way.
func TestAPredecessorThatWritesLate(t *testing.T) {
	for name, late := range map[string]func(before, last *Host) error{
		"renewal": func(_, last *Host) error { return last.renew(context.Background()) },
		"end":     func(before, _ *Host) error { before.giveUp(); return nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			before, last, h := newHost(b, "a"), newHost(b, "a"), newHost(b, "a")
			if err := before.renew(t.Context()); err != nil {
				t.Fatal(name, err)
			}
			h.Predecessors = []string{before.Incarnation, last.Incarnation}
			b.Fault = func(op bucket.Op, _ string) bucket.Fault {
				if op == bucket.OpPut {
					return bucket.Fault{Refuse: bucket.ErrTemporary}
				}
				return bucket.Fault{}
			}
			if err := h.renew(t.Context()); !bucket.ShouldRetry(err) {
				t.Error(name, err)
			}
			b.Fault = nil
			if err := late(before, last); err != nil {
				t.Error(name, err)
			}
			if err := h.renew(t.Context()); err != nil || !h.Holds() {
				t.Errorf("%s: %v", name, err)
			}
			for _, one := range []*Host{before, last, h} {
				one.endLease()
			}
		})
	}
}

// flipped is an object of a host with one bit changed.
func flipped(t *testing.T, b bucket.Bucket, name string) []byte {
	t.Helper()
	o, err := b.Get(t.Context(), hostKey(name), "")
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Clone(o.Body)
	body[len(body)-1] ^= 1
	return body
}

func overwrite(t *testing.T, b bucket.Bucket, name string, body []byte) {
	t.Helper()
	if _, err := b.Put(t.Context(), hostKey(name), body, bucket.Condition{}); err != nil {
		t.Fatal(err)
	}
}

// ofNewer is an object of a host that a newer sqgate has written.
func ofNewer(t *testing.T, name string) []byte {
	t.Helper()
	body, err := object.Encode(&object.Host{Name: name, Incarnation: "newer"})
	if err != nil {
		t.Fatal(err)
	}
	body[len("SQB")] = 99
	return body
}

// TestADamagedObjectOfAHost is replaced by that host, which keeps its lease. One that a newer
// sqgate has written is not.
func TestADamagedObjectOfAHost(t *testing.T) {
	for name, damaged := range map[string]func(t *testing.T, b bucket.Bucket) []byte{
		"a bit":   func(t *testing.T, b bucket.Bucket) []byte { return flipped(t, b, "a") },
		"empty":   func(*testing.T, bucket.Bucket) []byte { return nil },
		"garbage": func(*testing.T, bucket.Bucket) []byte { return []byte("garbage") },
		"another kind": func(t *testing.T, _ bucket.Bucket) []byte {
			body, err := object.Encode(&object.Owner{Host: "a"})
			if err != nil {
				t.Fatal(err)
			}
			return body
		},
		"newer": func(t *testing.T, _ bucket.Bucket) []byte { return ofNewer(t, "a") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				h := newHost(b, "a")
				log := &lines{}
				h.Logger = slog.New(slog.NewTextHandler(log, nil))
				run(t, h)
				l := h.current()
				for range 3 {
					overwrite(t, b, "a", damaged(t, b))
					time.Sleep(time.Minute)
				}
				if kept := h.current() == l && l != nil; kept == (name == "newer") {
					t.Errorf("its lease is kept: %v", kept)
				}
				if n := strings.Count(log.String(), "cannot be understood, and is replaced"); name != "newer" && n != 3 || name == "newer" && n != 0 {
					t.Errorf("it is told %d times:\n%s", n, log.String())
				}
			})
		})
	}
}

// TestAStartOverADamagedObject waits for the lease of whoever may have written it.
func TestAStartOverADamagedObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		before, h := newHost(b, "a"), newHost(b, "a")
		if err := before.renew(t.Context()); err != nil { // and it lives on, or is killed
			t.Fatal(err)
		}
		overwrite(t, b, "a", flipped(t, b, "a"))
		b.Fault = func(op bucket.Op, _ string) (f bucket.Fault) {
			if op == bucket.OpPut {
				f.Lose = bucket.ErrUnknownOutcome // so the next renewal finds what this one wrote
			}
			return f
		}
		if err := h.renew(t.Context()); !bucket.ShouldRetry(err) {
			t.Error(err)
		}
		b.Fault = nil
		run(t, h)
		begun := h.clock()
		if err := h.awaitEnd(t.Context(), object.Owner{Host: "a", Incarnation: before.Incarnation}); err != nil || h.clock()-begun < leaseFor-time.Second {
			t.Errorf("after %v: %v", h.clock()-begun, err)
		}
		if err := before.renew(t.Context()); !errors.Is(err, bucket.ErrPreconditionFailed) {
			t.Error("the one before renews its lease:", err)
		}
		if err := before.renew(t.Context()); !errors.Is(err, ErrNameTaken) {
			t.Error("the one before renews its lease:", err)
		}
		before.endLease()
	})
}

// TestADamagedObjectOfAnotherHost ends its lease when it has stood still for long enough, as one
// that is whole does, and never while it is renewed. Of a newer sqgate it is not known how
// long that would be.
func TestADamagedObjectOfAnotherHost(t *testing.T) {
	for _, knownBefore := range []bool{false, true} {
		for _, looks := range []bool{false, true} {
			t.Run(fmt.Sprintf("known before %v, looked at by the way %v", knownBefore, looks), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := bucket.NewMemory()
					owner, h := newHost(b, "a"), newHost(b, "b")
					h.Many = looks
					if err := owner.renew(t.Context()); err != nil {
						t.Fatal(err)
					}
					if knownBefore {
						run(t, h)
						time.Sleep(stillFor - renewEvery/2) // which does not count
					}
					overwrite(t, b, "a", flipped(t, b, "a"))
					if !knownBefore {
						run(t, h)
					}
					ended := func() bool {
						over, err := h.ended(t.Context(), object.Owner{Host: "a", Incarnation: owner.Incarnation})
						if err != nil {
							t.Error(err)
						}
						return over
					}
					for begun := h.clock(); h.clock()-begun < stillFor-time.Second; time.Sleep(time.Second / 2) {
						if w, _ := h.view.of("a"); ended() || looks && h.clock()-begun > renewEvery && (!w.alive() || h.takes(w)) {
							t.Fatalf("after %v, it is taken for dead, or as whole: %+v", h.clock()-begun, w)
						}
					}
					time.Sleep(time.Second)
					for range 60 { // somebody writes it, again and again
						overwrite(t, b, "a", []byte(fmt.Sprint("garbage ", h.clock())))
						if ended() {
							t.Fatal("it is taken for dead, and is renewed")
						}
						time.Sleep(renewEvery)
					}
					time.Sleep(stillFor)
					if w, _ := h.view.of("a"); !ended() || looks && w.alive() {
						t.Errorf("it is taken for alive: %+v", w)
					}
					if err := owner.renew(t.Context()); err == nil { // its ETag is another one
						t.Error("it was renewed")
					}
					if err := owner.renew(t.Context()); err != nil || ended() {
						t.Error("it is whole again, and taken for dead:", err)
					}
					owner.endLease()
					whole, err := b.Get(t.Context(), hostKey("a"), "")
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(stillFor - time.Second)
					overwrite(t, b, "a", flipped(t, b, "a"))
					time.Sleep(renewEvery)
					_ = ended()
					overwrite(t, b, "a", whole.Body) // as it was
					time.Sleep(renewEvery)
					if w, _ := h.view.of("a"); ended() || looks && !w.alive() {
						t.Errorf("it is whole again, and taken for dead: %+v", w)
					}
					overwrite(t, b, "a", ofNewer(t, "a"))
					time.Sleep(time.Minute)
					if w, _ := h.view.of("a"); looks && !w.alive() {
						t.Errorf("a newer one is taken for dead: %+v", w)
					}
					if over, err := h.ended(t.Context(), object.Owner{Host: "a", Incarnation: owner.Incarnation}); over || !errors.Is(err, object.ErrVersion) {
						t.Errorf("a newer one: %v, %v", over, err)
					}
				})
			})
		}
	}
}
