package fairqueue

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a queue, and the order in which turns begin.
type world struct {
	*Queue
	blind bool // the scheduler never looks at the network
	done  sync.WaitGroup

	mu   sync.Mutex
	rung int
	log  []string
}

func newWorld(turns int) *world {
	w := &world{}
	w.Queue = newQueue(turns, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.rung++; !w.blind {
			w.done.Go(func() { w.resume(false) })
		}
	})
	return w
}

// have takes a turn that is free.
func (w *world) have(t *testing.T, owner string) *Turn {
	t.Helper()
	x := w.Turn(owner)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Take(ctx); err != nil {
		t.Fatalf("%s had to wait", owner)
	}
	return x
}

// wait has an owner wait for a turn, log its beginning and give it back.
func (w *world) wait(owner string) {
	w.done.Go(func() {
		x := w.Turn(owner)
		if x.Take(context.Background()) != nil {
			return
		}
		w.note(owner)
		x.Give()
	})
	synctest.Wait()
}

func (w *world) note(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, text)
}

func (w *world) expect(t *testing.T, want string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.log, " "); got != want {
		t.Errorf("turns of %q, want %q", got, want)
	}
}

func TestOwnersTakeTurnsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		first := w.have(t, "a")
		for _, owner := range []string{"a", "a", "a", "a", "b", "c", "b"} {
			w.wait(owner)
		}
		w.expect(t, "")
		first.Give()
		w.expect(t, "a b c a b a a")
		w.done.Wait()
		w.have(t, "d").Give()
	})
}

// An owner that always waits again does not keep the others out.
func TestNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		first := w.have(t, "a")
		stop := make(chan struct{})
		turns := 0
		for range 100 {
			w.done.Go(func() {
				for x := w.Turn("a"); ; x.Give() {
					if x.Take(context.Background()) != nil {
						return
					}
					select {
					case <-stop:
						x.Give()
						return
					default:
						turns++ // its turn guards it
					}
				}
			})
		}
		synctest.Wait()
		w.done.Go(func() {
			x := w.Turn("b")
			_ = x.Take(context.Background())
			if turns > 1 {
				t.Errorf("b waited for %d turns", turns)
			}
			close(stop)
			x.Give()
		})
		synctest.Wait()
		first.Give()
		w.done.Wait()
	})
}

func TestThereAreNoMoreTurnsThanWereMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		one, two := w.have(t, "a"), w.have(t, "b")
		w.wait("c")
		w.expect(t, "")
		if err := one.Take(t.Context()); err != nil { // it has its turn
			t.Error(err)
		}
		one.Give()
		one.Give() // there is nothing more to give
		w.expect(t, "c")
		w.have(t, "d")
		w.wait("e")
		w.expect(t, "c")
		two.Give()
		w.expect(t, "c e")
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		first := w.have(t, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 {
			w.done.Go(func() {
				x := w.Turn("b")
				if err := x.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				x.Give() // it was not taken
			})
		}
		synctest.Wait()
		w.wait("a")
		time.Sleep(2 * time.Second)
		w.Queue.mu.Lock()
		if len(w.lanes) != 1 || len(w.next) != 1 {
			t.Errorf("%d owners wait, %d in line", len(w.lanes), len(w.next))
		}
		w.Queue.mu.Unlock()
		first.Give()
		w.expect(t, "a")
		w.have(t, "b").Give()
	})
}

// A turn that began while its wait ended is had, and not lost.
func TestATurnThatBeganIsNotLost(t *testing.T) {
	w := newWorld(1)
	first := w.have(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	for range 1000 {
		x := w.Turn("b")
		w.Queue.mu.Lock()
		w.done.Go(func() {
			if x.Take(ctx) == nil {
				x.Give()
			}
		})
		go cancel()
		w.Queue.mu.Unlock()
		first.Give()
		w.done.Wait()
		if err := first.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
	}
	cancel()
}

func TestAPanicLosesNoTurn(t *testing.T) {
	w := newWorld(1)
	func() {
		defer func() { _ = recover() }()
		x := w.have(t, "a")
		defer x.Give()
		panic("in a turn")
	}()
	w.have(t, "b")
}

// While turns follow each other without a pause, the scheduler is made to look
// at the network, and if it does not, no turn begins until it does.
func TestNoTurnBeginsUntilTheSchedulerHasLooked(t *testing.T) {
	const short, long = idleAfter / 50, lookEvery
	for name, x := range map[string]struct {
		each  time.Duration
		turns int
	}{
		"many short turns": {short, turnsUnseen},
		"few long turns":   {long, int((longUnseen - lookEvery) / long)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(1)
				w.blind = true
				work := func(each time.Duration) {
					x := w.have(t, "a")
					time.Sleep(each)
					x.Give()
				}
				for w.rung == 0 {
					work(idleAfter / 2)
				}
				for range x.turns {
					work(x.each)
				}
				w.wait("a")
				w.wait("b")
				w.expect(t, "")
				if w.rung != 1 {
					t.Errorf("it rang %d times", w.rung)
				}
				w.resume(false)
				w.expect(t, "a b")
			})
		})
	}
}

// Whoever computes without a turn keeps the scheduler from looking, too.
func TestTheSchedulerLooksBesideWorkWithoutATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		x := w.Turn("a")
		for range 2 * lookEvery / (2 * idleAfter) {
			x.Worked(Piece)
			time.Sleep(2 * idleAfter)
		}
		w.done.Wait()
		if w.rung == 0 {
			t.Error("nobody had the scheduler look")
		}
	})
}

func TestAQueueThatIsIdleDoesNotRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		for range 100 {
			w.have(t, "a").Give()
			time.Sleep(2 * idleAfter)
		}
		if w.rung != 0 {
			t.Errorf("it rang %d times", w.rung)
		}
	})
}

// The real pipe has the turns go on, and a queue that is closed does not wait for it.
func TestPipe(t *testing.T) {
	q, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	busy := func() {
		for end := time.Now().Add(20 * lookEvery); time.Now().Before(end); {
			x := q.Turn("a")
			if err := x.Take(t.Context()); err != nil {
				t.Fatal(err)
			}
			x.Give()
		}
	}
	busy()
	q.mu.Lock()
	if looked := q.looked; looked == 0 {
		t.Error("the scheduler has never looked")
	}
	q.mu.Unlock()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	busy()
}

// Long work lets others go first after each piece, also those who came later, and goes on
// with its turn.
func TestLongWorkLetsOthersGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		x := w.have(t, "a")
		w.wait("b")
		x.Worked(Piece - 1)
		w.expect(t, "")
		x.Pace()(1)
		w.expect(t, "b")
		w.wait("c")
		x.Worked(Piece - 1)
		w.expect(t, "b")
		x.Worked(2 * Piece)
		w.expect(t, "b c")
		w.wait("d")
		w.expect(t, "b c")
		x.Give()
		w.expect(t, "b c d")
	})
}

// Long work without a turn waits for its turn after each piece, and then has none.
func TestLongWorkWithoutATurnWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		first := w.have(t, "a")
		w.done.Go(func() {
			x := w.Turn("b")
			x.Worked(Piece - 1)
			w.note("b works")
			x.Worked(1)
			w.note("b goes on")
		})
		w.expect(t, "b works")
		w.wait("c")
		first.Give()
		w.expect(t, "b works b goes on c")
		w.done.Wait()
		w.have(t, "d").Give()
	})
}

// Whoever is waited for is waited for without the turn.
func TestReadersAndWritersAreWaitedForWithoutTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		x := w.have(t, "a")
		in, out := io.Pipe()
		w.done.Go(func() {
			b := make([]byte, 2*Piece)
			if n, err := x.Reader(in).Read(b); n != 3 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			w.note("a has read")
			if _, err := x.Writer(out).Write(b[:1]); err != nil {
				t.Error(err)
			}
			w.note("a has written")
			if n, err := x.ReaderAt(strings.NewReader("text")).ReadAt(b[:2], 1); n != 2 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			x.Give()
		})
		synctest.Wait()
		w.have(t, "b").Give()
		if _, err := out.Write([]byte("abc")); err != nil {
			t.Error(err)
		}
		w.expect(t, "a has read")
		w.have(t, "b").Give()
		if _, err := in.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		w.done.Wait()
		w.have(t, "b").Give()
	})
}

// A lone owner has nothing to wait for, and its work costs no memory.
func TestWorkedAllocatesNothing(t *testing.T) {
	w := newWorld(1)
	x := w.have(t, "a")
	if n := testing.AllocsPerRun(100, func() { x.Pace()(Piece / 2) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNobodyWaitsWithoutAQueue(t *testing.T) {
	var q *Queue
	x := q.Turn("a")
	x.SetOwner("b")
	if err := x.Take(t.Context()); err != nil {
		t.Error(err)
	}
	x.Worked(2 * Piece)
	if n, err := x.Reader(strings.NewReader("text")).Read(make([]byte, 8)); n != 4 || err != nil || x.Pace() != nil {
		t.Errorf("%d, %v", n, err)
	}
	x.Give()
	if FromContext(t.Context()) != nil {
		t.Error("a turn from nowhere")
	}
}
