package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// TestUploader submits groups while uploads are under way: all that wait go into one
// object, and each is told when it is in the bucket and not before.
func TestUploader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		l := takeOver(t, d)
		m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: 50 * time.Millisecond} }
		m.Calls()
		u := NewUploader(t.Context(), l.Append)
		var results []<-chan error
		told := func() (n int) {
			for _, r := range results {
				n += len(r)
			}
			return n
		}
		for i := range 100 { // one each ms
			results = append(results, u.Submit(group(fmt.Sprint(i))))
			time.Sleep(time.Millisecond)
			synctest.Wait()
			want := 0
			switch ms := i + 1; {
			case ms >= 100: // with all that came during the first upload, and one that was waited for
				want = 51
			case ms >= 50:
				want = 1
			}
			if n := told(); n != want {
				t.Fatalf("after %d ms %d were told, and not %d", i+1, n, want)
			}
		}
		u.Wait()
		if n := told(); n != 100 {
			t.Error(n)
		}
		for _, r := range results {
			if err := <-r; err != nil {
				t.Error(err)
			}
		}
		if calls := m.Calls(); calls[bucket.OpPut] != 3 || len(calls) != 1 {
			t.Errorf("100 groups took %v", calls)
		}
		if got := strings.Fields(texts(t, d)); len(got) != 101 || got[1] != "0" || got[100] != "99" {
			t.Error(got)
		}
	})
}

// TestUploaderAndItsWriters has writers that write again 1 ms after each answer, as
// clients do, or after 6 ms, which SQ takes for 16 writes, and an upload that takes 10 ms.
// All writers are in each upload, and a single one never waits for others.
func TestUploaderAndItsWriters(t *testing.T) {
	for _, pause := range []time.Duration{time.Millisecond, 6 * time.Millisecond} {
		testUploaderAndItsWriters(t, pause)
	}
}

func testUploaderAndItsWriters(t *testing.T, pause time.Duration) {
	for _, writers := range []int{1, 2, 16, 64} {
		synctest.Test(t, func(t *testing.T) {
			const writes, upload = 40, 10 * time.Millisecond
			m := bucket.NewMemory()
			l := takeOver(t, newDirectory(m, "a"))
			m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: upload} }
			u := NewUploader(t.Context(), l.Append)
			begun := time.Now()
			var all sync.WaitGroup
			for i := range writers {
				all.Go(func() {
					time.Sleep(time.Duration(i) * time.Microsecond) // not all at once
					for range writes {
						time.Sleep(pause)
						if err := <-u.Submit(group("x")); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			u.Wait()
			most := writes*(upload+pause) + upload // the last wait is for nobody
			if writers > 1 {
				// At the beginning, nobody knows how many will come, and at the end, who has left.
				most += upload + 2*pause + upload
			}
			if took := time.Since(begun); took > most || l.End() > writes+2 {
				t.Errorf("%d writers took %v and %d objects", writers, took, l.End()-1)
			}
		})
	}
}

// TestASlowUploadAndTheNext: those who waited for it have left, and another one waits no longer than a moment.
func TestASlowUploadAndTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		l := takeOver(t, newDirectory(m, "a"))
		delay := 20 * time.Second
		m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: delay} }
		u := NewUploader(t.Context(), l.Append)
		first := []<-chan error{u.Submit(group("a")), u.Submit(group("b")), u.Submit(group("c"))}
		for _, one := range first {
			if err := <-one; err != nil {
				t.Fatal(err)
			}
		}
		delay = 10 * time.Millisecond
		begun := time.Now()
		if err := <-u.Submit(group("d")); err != nil || time.Since(begun) > longestGather+2*delay {
			t.Errorf("%v, after %v", err, time.Since(begun))
		}
		u.Wait()
	})
}

// TestUploaderInOrder has large groups, and a bucket that fails in every way.
func TestUploaderInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		d := newDirectory(m, "a")
		l := takeOver(t, d)
		n := 0
		m.Fault = func(bucket.Op, string) bucket.Fault {
			n++
			return []bucket.Fault{{Delay: time.Second}, {Lose: bucket.ErrUnknownOutcome}, {Refuse: bucket.ErrTemporary}, {Twice: true}}[n%4]
		}
		u := NewUploader(t.Context(), l.Append)
		var results []<-chan error
		var want []string
		for i := range 20 {
			text := fmt.Sprint(i)
			if i%5 == 0 {
				text += strings.Repeat("x", largestUpload/2+1)
			}
			want = append(want, text)
			results = append(results, u.Submit(group(text)))
		}
		for i, r := range results {
			if err := <-r; err != nil {
				t.Fatal(i, err)
			}
		}
		u.Wait()
		m.Fault = nil
		if got := texts(t, d); got != "| "+strings.Join(want, " ") || l.End() != 5 {
			t.Errorf("%d bytes, %d objects", len(got), l.End())
		}
	})
}

// TestUploaderOfLongAnswers has no more of them in an object than of texts.
func TestUploaderOfLongAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		l := takeOver(t, newDirectory(m, "a"))
		u := NewUploader(t.Context(), l.Append)
		var groups []object.Group
		for i := range 4 {
			groups = append(groups, answered("will", fmt.Sprint(i), strings.Repeat("x", largestUpload/2), time.Now()))
		}
		if err := <-u.Submit(groups...); err != nil {
			t.Fatal(err)
		}
		u.Wait()
		if l.End() < 4 {
			t.Errorf("%d objects", l.End())
		}
	})
}

// TestSettled asks at every moment of some uploads whether all is in the bucket that was
// submitted before, with and without a failure.
func TestSettled(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := bucket.NewMemory()
			l := takeOver(t, newDirectory(m, "a"))
			u := NewUploader(t.Context(), l.Append)
			if err := <-u.Settled(); err != nil {
				t.Error("before anything was submitted:", err)
			}
			if fails {
				takeOver(t, newDirectory(m, "b"))
			}
			m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: time.Second} }
			first := u.Submit(group("1"))
			waiting := u.Settled() // the upload may not have begun
			synctest.Wait()
			uploading := u.Settled()
			second := u.Submit(group("2"))
			both := u.Settled()
			synctest.Wait()
			if len(first)+len(waiting)+len(uploading)+len(both) > 0 {
				t.Error("told before anything is in the bucket")
			}
			check := func(name string, told <-chan error) {
				if err := <-told; errors.Is(err, ErrDeposed) != fails || err != nil != fails {
					t.Errorf("%s: %v", name, err)
				}
			}
			check("first", first)
			check("settled before the upload", waiting)
			check("settled during it", uploading)
			synctest.Wait()
			if !fails && len(second)+len(both) > 0 {
				t.Error("the second is told with the first")
			}
			check("second", second)
			check("both", both)
			synctest.Wait()
			check("at the end", u.Settled())
			u.Wait()
		})
	}
}

// TestUploaderOfADeposedOwner sees that everybody who waits is told.
func TestUploaderOfADeposedOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		l := takeOver(t, newDirectory(m, "a"))
		u := NewUploader(t.Context(), l.Append)
		takeOver(t, newDirectory(m, "b"))
		m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Delay: time.Second} }
		first := u.Submit(group("1"))
		synctest.Wait()
		second := u.Submit(group("2"))
		if u.Waiting() != 1 {
			t.Error(u.Waiting())
		}
		for _, result := range []<-chan error{first, second} {
			if err := <-result; !errors.Is(err, ErrDeposed) {
				t.Error(err)
			}
		}
		if err := <-u.Submit(group("3")); !errors.Is(err, ErrDeposed) {
			t.Error(err)
		}
		u.Wait()
	})
}

// TestUploaderWithoutABucket sees that nobody waits longer than the lease.
func TestUploaderWithoutABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bucket.NewMemory()
		l := takeOver(t, newDirectory(m, "a"))
		m.Fault = func(bucket.Op, string) bucket.Fault { return bucket.Fault{Refuse: bucket.ErrTemporary} }
		lease, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		u := NewUploader(lease, l.Append)
		begun := time.Now()
		for _, result := range []<-chan error{u.Submit(group("1")), u.Submit(group("2"))} {
			if err := <-result; !errors.Is(err, ErrLeaseEnded) {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took != 8*time.Second {
			t.Error(took)
		}
		u.Wait()
	})
}
