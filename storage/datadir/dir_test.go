package datadir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// TestReadsShareAndAWriteIsAlone, and whoever came first is served first: reads
// that come after a write wait for it, although other reads are under way.
func TestReadsShareAndAWriteIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWorld(t).dir
		ctx := t.Context()
		var reads []*lock
		for range ReadsAtOnce {
			reads = append(reads, acquire(ctx, d.lockForRead))
			synctest.Wait()
		}
		oneMore := acquire(ctx, d.lockForRead)
		synctest.Wait()
		write := acquire(ctx, d.lockForWrite)
		synctest.Wait()
		another := acquire(ctx, d.lockForWrite)
		synctest.Wait()
		late := acquire(ctx, d.lockForRead)
		synctest.Wait()
		for i, r := range reads {
			if !r.has() {
				t.Fatalf("read %d waits for others", i)
			}
		}
		want := func(when string, with ...*lock) {
			t.Helper()
			synctest.Wait()
			for i, l := range []*lock{oneMore, write, another, late} {
				should := false
				for _, w := range with {
					should = should || l == w
				}
				if l.has() != should {
					t.Errorf("%s: number %d has the lock: %v", when, i, l.has())
				}
			}
		}
		want("while all reads are under way")
		reads[0].unlock()
		want("after one read", oneMore)
		for _, r := range reads[1:] {
			r.unlock()
		}
		want("while one read is left", oneMore)
		oneMore.unlock()
		want("after all reads", oneMore, write)
		write.unlock()
		want("after the first write", oneMore, write, another)
		another.unlock()
		want("after both", oneMore, write, another, late)
		late.unlock()
	})
}

// TestAWaitHasALimit of its own, and ends with its context before that.
func TestAWaitHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		unlock, err := w.dir.lockForWrite(t.Context())
		w.check(err)
		began := time.Now()
		for name, how := range map[string]func(context.Context) (func(), error){"read": w.dir.lockForRead, "write": w.dir.lockForWrite} {
			began := time.Now()
			_, err := how(t.Context())
			w.wantError(err, apierror.Unavailable, "waiting for its database")
			if took := time.Since(began); took != lockTimeout {
				t.Errorf("a %s waits %v", name, took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := how(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a %s: %v", name, err)
			}
			cancel()
			if _, err := how(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a %s after that: %v", name, err)
			}
		}
		if took := time.Since(began); took != 2*(lockTimeout+time.Second) {
			t.Errorf("the waits took %v", took)
		}
		unlock()
		// Whoever gave up stands in nobody's way.
		again, err := w.dir.lockForWrite(t.Context())
		w.check(err)
		again()
	})
}

// TestAContextThatHasEndedGetsNoLock, even where it is free.
func TestAContextThatHasEndedGetsNoLock(t *testing.T) {
	d := newWorld(t).dir
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.lockForRead(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestEnterHasALimit(t *testing.T) {
	w := newWorld(t)
	var leaves []func()
	for range mostInside {
		leave, err := w.dir.Enter("")
		w.check(err)
		leaves = append(leaves, leave)
	}
	_, err := w.dir.Enter("")
	w.wantError(err, apierror.Unavailable, "too many requests")
	other := w.Of(filepath.Join(w.root, "another"))
	leave, err := other.Enter("")
	w.check(err) // one tenant's flood is not another's
	leave()
	leaves[0]()
	leave, err = w.dir.Enter("")
	w.check(err)
	leave()

	if n := w.dir.memory.Above(0); n != (mostInside-1)*insideMemory {
		t.Errorf("%d bytes are counted", n)
	}
	for _, leave := range leaves[1:] {
		leave()
	}
	release, err := other.Admit(other.memory.Limit() - insideMemory/2)
	w.check(err)
	if _, err := other.Enter(""); err != ErrBusy {
		t.Errorf("without memory: %v", err)
	}
	release()
}

// TestGroupsLeavePlaces: readers without a key, or those who share the directory, keep nobody
// else out, however many they are.
func TestGroupsLeavePlaces(t *testing.T) {
	w := newWorld(t)
	var leaves []func()
	fill := func(group string) (n int) {
		for {
			leave, err := w.dir.Enter(group)
			if err != nil {
				w.wantError(err, apierror.Unavailable, "too many requests")
				return n
			}
			leaves, n = append(leaves, leave), n+1
		}
	}
	if n := fill("a group"); n != mostInside/2 {
		t.Errorf("one group has %d places", n)
	}
	fill("another")
	if n := fill("a third"); n == 0 {
		t.Error("two groups leave none")
	}
	if n := fill(""); n < mostInside/10 {
		t.Errorf("they leave %d to whom the directory is of", n)
	}
	for _, leave := range leaves {
		leave()
	}
	if n := fill("a third"); n != mostInside/2 {
		t.Errorf("then a group has %d places", n)
	}
}

// TestGroupsLeaveRoomToSend whatever others do not take.
func TestGroupsLeaveRoomToSend(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int64{64 << 10, 4 << 20, 30 << 20} {
		var held []func()
		for _, group := range []string{"a", "b"} {
			for {
				release, ok := w.dir.Send(rewrite.Recipient{Group: group, Caller: group}, new(byte), size)
				if !ok {
					break
				}
				held = append(held, release)
			}
		}
		for _, group := range []string{"", "c"} {
			release, ok := w.dir.Send(rewrite.Recipient{Group: group, Caller: group}, new(byte), 64<<10)
			if !ok {
				t.Errorf("beside answers of %d bytes, there is no room for %q", size, group)
				continue
			}
			release()
		}
		for _, release := range held {
			release()
		}
	}
	if w.Answers.Above(0) != 0 || w.dir.sending.Used() != 0 {
		t.Error("something was not given back")
	}
}

func reserveBody(d *Dir, group, caller string) *memlimit.Reservation {
	budgets := d.BodyBudgets(group, caller)
	return memlimit.Reserve(budgets[:]...)
}

// TestBodies of one directory, of one caller and of one group are a part of everybody's.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	all := int64(bodiesAtOnce << 20)
	if w.Bodies.Limit() != all || w.dir.Bodies.Limit() != all/bodiesPart {
		t.Errorf("%d of %d", w.dir.Bodies.Limit(), w.Bodies.Limit())
	}
	if !reserveBody(w.dir, "guest", "guest").Fits(1 << 20) {
		t.Error("the largest body has no room in a directory that others use, too")
	}
	var others []*Dir
	for n := range 4 {
		others = append(others, w.Of(filepath.Join(w.root, fmt.Sprint("other", n))))
	}
	fill := func(d *Dir, group, caller string) (n int64) {
		for r := reserveBody(d, group, caller); r.Grow(n + 4<<10); n += 4 << 10 {
		}
		return n
	}
	var mine int64
	for _, d := range others[:3] {
		mine += fill(d, "will", "will") // as a writer of each
	}
	if mine > all/bodiesPart {
		t.Errorf("one caller has %d of %d", mine, all)
	}
	for n, d := range others {
		fill(d, "", fmt.Sprint("owner", n))
	}
	if n := fill(w.dir, "", "next"); n < 64<<10 {
		t.Errorf("they leave %d bytes", n)
	}
}

func TestTruncateFromNowOn(t *testing.T) {
	d := newWorld(t).dir
	if d.Truncating() || !d.TruncateFromNowOn() || !d.Truncating() || d.TruncateFromNowOn() || !d.Truncating() {
		t.Error("it is not from then on, or said more than once")
	}
}

// TestACallerInManyDirectories has no more answers on their way than in one, however many of
// them it reads in: what is left is for the others.
func TestACallerInManyDirectories(t *testing.T) {
	w := newWorld(t)
	reader, taken := rewrite.Recipient{Group: "*", Caller: "*192.0.2.1"}, int64(0)
	size := w.Answers.Limit() / 64
	for i := range 64 {
		release, ok := w.Of(filepath.Join(w.root, fmt.Sprint(i))).Send(reader, new(byte), size)
		if ok {
			defer release()
			taken += size
		}
	}
	if most := w.Answers.Limit() / sendingPart; taken == 0 || taken > most {
		t.Errorf("%d bytes are on their way to one caller, of %d at most", taken, most)
	}
	release, ok := w.dir.Send(rewrite.Recipient{Caller: "will"}, new(byte), w.Answers.Limit()/sendingPart/2)
	if !ok {
		t.Fatal("there is no room for another one")
	}
	release()
}

// TestFewDirectoriesLeaveOthersMemory has a few directories take all memory that they get: a
// neighbour still has its small answers and bodies.
func TestFewDirectoriesLeaveOthersMemory(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		for d := w.Of(filepath.Join(w.root, fmt.Sprint(i))); ; {
			release, err := d.Admit(1 << 20)
			if err != nil {
				break
			}
			defer release()
		}
	}
	release, err := w.dir.Admit(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	release()
}
