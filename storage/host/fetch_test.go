package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants/quota"
)

// read is what a reader sees of a file.
func (m *machine) read(file string) string {
	m.Helper()
	call := m.call(file)
	v, err := m.dirs.Of(m.tenant.DataDir).RecoveredView(context.Background(), call)
	m.check(err)
	return v.Phext.Text()
}

// compact writes a checkpoint now.
func (m *machine) compact() {
	m.Helper()
	m.ds.housekeeping.mu.Lock()
	one := m.ds.housekeeping.logs["will"]
	m.ds.housekeeping.mu.Unlock()
	m.check(m.ds.compact(context.Background(), one))
}

const manyFiles = 100

func fileName(i int) string { return fmt.Sprintf("f%03d.phext", i) }

// lost is a bucket with many files, half of which were changed after the checkpoint, and
// whose machine is gone.
func lost(t *testing.T) *bucket.Memory {
	b := bucket.NewMemory()
	m := newMachine(t, b, "a")
	synctest.Wait()
	for i := range manyFiles {
		m.write(fileName(i), fmt.Sprint("text ", i), "", true)
	}
	m.compact()
	for i := range manyFiles / 2 {
		m.write(fileName(2*i), fmt.Sprint("text ", 2*i), "", true)
	}
	m.end()
	return b
}

// TestTheFirstThatIsAskedFor comes first, on an empty machine. Nobody waits for another
// phext, a list has them all, and what is on its way is seen by nobody.
func TestTheFirstThatIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lost(t)
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		b.Fault = func(op bucket.Op, key string) bucket.Fault {
			if op == bucket.OpGet && strings.Contains(key, "/files/") {
				return bucket.Fault{Delay: time.Second}
			}
			return bucket.Fault{}
		}
		d := next.dirs.Of(next.tenant.DataDir)
		begun := time.Now()
		last := manyFiles - 1
		if got := next.read(fileName(last)); got != fmt.Sprint("text ", last) {
			t.Errorf("the first one is %q", got)
		}
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("the first one took %v", took)
		}
		synctest.Wait() // or it goes on between the two looks
		p, ok := d.Fetching()
		if sum, dirs := next.dirs.Fetching(); !ok || p.OfFiles != manyFiles || p.Files >= manyFiles || p.Files == 0 || sum != p || dirs != 1 {
			t.Errorf("%+v, %v", p, ok)
		}
		names, err := d.Phexts(t.Context(), next.call("f000.phext"))
		next.check(err)
		if len(names) != manyFiles || !slices.Contains(names, "f098") {
			t.Errorf("a list has %d: %q", len(names), names)
		}
		begun = time.Now()
		next.write(fileName(last), "after", "", true)
		if got := next.read(fileName(last)); got != "after" || time.Since(begun) > 0 {
			t.Errorf("what is here is %q, after %v", got, time.Since(begun))
		}
		next.write(fileName(last-2), "after", "", true) // another one, which is not here
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("a write to another one took %v", took)
		}
		next.check(next.serve())
		for i := range manyFiles {
			want := fmt.Sprint("text ", i)
			if i == last || i == last-2 {
				want = "after"
			}
			next.want(fileName(i), want)
		}
		if _, ok := d.Fetching(); ok || !strings.Contains(next.log.String(), "a directory is what the bucket has") {
			t.Error("it has no end")
		}
		entries, err := os.ReadDir(next.path(""))
		next.check(err)
		if len(entries) != manyFiles {
			t.Errorf("%d files are there", len(entries))
		}
	})
}

// TestFaultsOfFetching has a bucket that is slow, refuses and lists little. A machine that
// crashes in the middle goes on where it was.
func TestFaultsOfFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lost(t)
		var files atomic.Int64
		var down atomic.Bool
		b.Fault = func(op bucket.Op, key string) bucket.Fault {
			fault := bucket.Fault{Short: 7}
			if op != bucket.OpGet || !strings.Contains(key, "/files/") {
				return fault
			}
			n := files.Add(1)
			switch {
			case down.Load() || n%5 == 1:
				fault.Refuse = bucket.ErrTemporary
			case n%5 == 2:
				fault.Lose = bucket.ErrTemporary
			case n%5 == 3:
				fault.Delay = 300 * time.Millisecond
			}
			return fault
		}
		first := newMachine(t, b, "b")
		synctest.Wait()
		if got := first.read(fileName(1)); got != "text 1" {
			t.Error(got)
		}
		for p, ok := first.dirs.Of(first.tenant.DataDir).Fetching(); ok && p.Files < manyFiles*3/4; p, ok = first.dirs.Of(first.tenant.DataDir).Fetching() {
			time.Sleep(10 * time.Millisecond)
		}
		down.Store(true) // so that what is left waits
		time.Sleep(time.Second)
		first.kill()
		entries, err := os.ReadDir(first.path(""))
		first.check(err)
		here := len(entries)
		if here < manyFiles*3/4 || here == manyFiles {
			t.Fatalf("%d files are here after the crash", here)
		}
		first.check(os.WriteFile(first.path(".sqgate-half"), []byte("half"), 0o600))
		down.Store(false)
		first.killed.Store(false)
		files.Store(0)
		first.start()
		defer first.end()
		synctest.Wait()
		first.check(first.serve())
		for i := range manyFiles {
			first.want(fileName(i), fmt.Sprint("text ", i))
		}
		if n := int(files.Load()); n > 3*(manyFiles-here) {
			t.Errorf("%d requests for %d files", n, manyFiles-here)
		}
		if _, err := os.Stat(first.path(".sqgate-half")); err == nil {
			t.Error("what was half fetched stays")
		}
	})
}

// halfFetched has a machine fetch some of the files, among them the one that is asked for,
// and finds the bucket down for the others then.
func halfFetched(t *testing.T, lag time.Duration) (m *machine, down *atomic.Bool) {
	b := lost(t)
	down = new(atomic.Bool)
	var files atomic.Int64
	asked := fmt.Sprintf("dirs/will/files/%x", sha256.Sum256([]byte("text 1")))
	b.Fault = func(op bucket.Op, key string) (fault bucket.Fault) {
		if op == bucket.OpGet && strings.Contains(key, "/files/") && key != asked && (down.Load() || files.Add(1) > manyFiles/4) {
			down.Store(true)
			fault.Refuse = bucket.ErrTemporary
		}
		return fault
	}
	m = &machine{TB: t, root: t.TempDir(), bucket: b, name: "b", history: 30 * 24 * time.Hour, lag: lag}
	m.start()
	synctest.Wait()
	m.read(fileName(1))
	for !down.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	return m, down
}

// TestAStopWhileFilesAreFetched waits for none of them, while the lease is still renewed.
func TestAStopWhileFilesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := halfFetched(t, 0)
		defer m.end()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		kept := make(chan struct{})
		go func() { m.ds.Keep(ctx); close(kept) }()
		select {
		case <-kept:
		case <-time.After(time.Minute):
			t.Error("it waits for the files")
			m.stop()
			<-kept
		}
	})
}

// TestAnOwnershipThatIsOver fetches nothing any more.
func TestAnOwnershipThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := halfFetched(t, 0)
		defer m.end()
		d, _, unlock, err := m.lock(fileName(1))
		m.check(err)
		d.Disown()
		unlock()
		over := make(chan struct{})
		go func() { m.ds.fetching.running.Wait(); close(over) }()
		select {
		case <-over:
		case <-time.After(time.Minute):
			t.Error("it goes on")
			m.stop()
			<-over
		}
	})
}

// TestACrashWhileFilesAreFetched takes no file that is not here yet for one that was
// removed, although what is here may be ahead of the bucket.
func TestACrashWhileFilesAreFetched(t *testing.T) {
	for name, without := range map[string]bool{"with a bucket": false, "without it in between": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, down := halfFetched(t, time.Second)
				m.write("new.phext", "new", "", true)
				m.crash()
				down.Store(false)
				m.bucket.(*bucket.Memory).Fault = nil
				if without {
					m.serveWithout()
				}
				m.start()
				defer m.end()
				synctest.Wait()
				m.check(m.serve())
				for i := range manyFiles {
					m.want(fileName(i), fmt.Sprint("text ", i))
				}
				m.want("new.phext", "new")
			})
		})
	}
}

// TestAFileThatCannotBeFetched keeps nobody from the others.
func TestAFileThatCannotBeFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lost(t)
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		var mended atomic.Bool
		broken := fmt.Sprintf("dirs/will/files/%x", sha256.Sum256([]byte("text 1")))
		b.Fault = func(op bucket.Op, key string) bucket.Fault {
			if key == broken && !mended.Load() {
				return bucket.Fault{Refuse: errors.New("the object is damaged")}
			}
			return bucket.Fault{}
		}
		d := next.dirs.Of(next.tenant.DataDir)
		_, err := d.RecoveredView(t.Context(), next.call(fileName(1)))
		if err == nil || apierror.From(err).Kind != apierror.Unavailable || !strings.Contains(next.log.String(), "could not be fetched") {
			t.Errorf("%v\n%s", err, next.log.String())
		}
		if got := next.read(fileName(3)); got != "text 3" {
			t.Error(got)
		}
		if err := next.serve(); err == nil {
			t.Error("the directory is said to be whole")
		}
		mended.Store(true)
		if got := next.read(fileName(1)); got != "text 1" {
			t.Error(got)
		}
		next.check(next.serve())
	})
}

// as has what follows be done for another tenant.
func (m *machine) as(id string) {
	m.Helper()
	m.tenant, _ = m.snapshot.Load().ByID(id)
	m.dir = filepath.Base(m.tenant.DataDir)
}

// TestFilesThatAreNotGiven to one tenant, however many ask for them, keep no other from what the
// bucket gives, asked for or not. When they are given, they are fetched.
func TestFilesThatAreNotGiven(t *testing.T) {
	for name, fault := range map[string]bucket.Fault{"refused": {Refuse: bucket.ErrTemporary}, "never answered": {Delay: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				start := func(name string) *machine {
					m := &machine{TB: t, root: t.TempDir(), bucket: b, name: name, history: 30 * 24 * time.Hour, idle: 1}
					m.start()
					synctest.Wait()
					return m
				}
				first := start("a")
				for _, id := range []string{"idle0", "will"} {
					first.as(id)
					for i := range manyFiles {
						first.write(fileName(i), fmt.Sprint("text ", i), "", true)
					}
					first.check(first.ds.compact(t.Context(), first.ds.housekeeping.of(id)))
				}
				first.end()
				var mended atomic.Bool
				b.Fault = func(op bucket.Op, key string) bucket.Fault {
					if op == bucket.OpGet && strings.HasPrefix(key, "dirs/will/files/") && !mended.Load() {
						return fault
					}
					return bucket.Fault{}
				}
				next := start("b")
				defer next.end()
				next.as("will")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var asking sync.WaitGroup
				for i := range manyFiles {
					call := next.call(fileName(i))
					asking.Go(func() {
						if _, err := next.dirs.Of(next.tenant.DataDir).RecoveredView(ctx, call); err == nil {
							t.Error("it is served")
						}
					})
				}
				will := next.dirs.Of(next.tenant.DataDir)
				asking.Go(func() { <-ctx.Done() })
				synctest.Wait()
				begun := time.Now()
				other, _ := next.snapshot.Load().ByID("idle0")
				idle := next.dirs.Of(other.DataDir)
				next.check(idle.Recover(t.Context()))
				for i := range manyFiles {
					v, err := idle.RecoveredView(t.Context(), next.call(fileName(i)))
					next.check(err)
					if v.Phext.Text() != fmt.Sprint("text ", i) {
						t.Errorf("%d is %q", i, v.Phext.Text())
					}
				}
				synctest.Wait()
				if _, fetching := idle.Fetching(); fetching || time.Since(begun) > time.Second {
					t.Errorf("after %v it is not whole: %v", time.Since(begun), fetching)
				}
				asking.Wait()
				mended.Store(true)
				if fault.Delay == 0 {
					next.check(next.serve())
					if _, fetching := will.Fetching(); fetching {
						t.Error("it is not whole")
					}
				}
			})
		})
	}
}

// TestPlaces are for those who have few, in the order in which they came.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(16)
		var got []string
		var mu sync.Mutex
		release := map[string][]func(){}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		take := func(ctx context.Context, path string) {
			waiting.Go(func() {
				done, err := p.take(ctx, path)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					got = append(got, path)
					release[path] = append(release[path], done)
				}
			})
			synctest.Wait()
		}
		want := func(all ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, all) {
				t.Errorf("%q have got one; want %q", got, all)
			}
			got = nil
		}
		give := func(path string) {
			mu.Lock()
			one := release[path][0]
			release[path] = release[path][1:]
			mu.Unlock()
			one()
		}
		for range 10 {
			take(ctx, "a")
		}
		want(slices.Repeat([]string{"a"}, 8)...)
		for range 7 {
			take(ctx, "b")
		}
		want(slices.Repeat([]string{"b"}, 6)...) // the last eighth is not for it
		take(ctx, "c")
		take(ctx, "d")
		want("c", "d")
		take(ctx, "e")
		take(ctx, "c")
		want()
		give("a")
		want("e")
		give("e")
		give("a")
		want() // the last eighth is for others
		give("a")
		want("a")
		cancel()
		waiting.Wait()
		for _, all := range release {
			for _, done := range all {
				done()
			}
		}
		if used := p.shares.Used(); used != 0 || len(p.waiting) > 0 {
			t.Errorf("%d are left, and %d wait", used, len(p.waiting))
		}
	})
}

// TestLimitsWhileFilesAreFetched has a directory go to a host without its files, and to one
// that has old ones. What the bucket says of them counts from the first moment to the last.
func TestLimitsWhileFilesAreFetched(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		const text = "0123456789"
		to := func(name string) *machine {
			from := c.hosts[c.owner()]
			if from.name != name {
				from.check(from.ds.HandOver(t.Context(), from.tenant.DataDir, name))
			}
			return c.hosts[name]
		}
		c.hosts["a"].check(c.write("a", fileName(0), text))
		a := to("a")
		for i := range manyFiles {
			a.check(c.write("a", fileName(i), text))
		}
		a.check(c.write("a", "f000.names.phext", text)) // no phext of its own
		a.compact()
		full := quota.Use{Bytes: (manyFiles + 1) * 10, Phexts: manyFiles}
		b := to("b")
		c.bucket.Fault = func(op bucket.Op, key string) bucket.Fault {
			if op == bucket.OpGet && strings.Contains(key, "/files/") {
				return bucket.Fault{Delay: time.Second}
			}
			return bucket.Fault{}
		}
		follow := func(m *machine) {
			t.Helper()
			m.tenant.QuotaBytes, m.tenant.MaxPhexts = full.Bytes+5, full.Phexts
			d := m.dirs.Of(m.tenant.DataDir)
			m.check(d.Recover(t.Context()))
			seen := 0
			for {
				p, fetching := d.Fetching()
				use, err := m.ledger.Use(m.tenant)
				if err != nil || use != full {
					t.Fatalf("with %+v, %v, at %s: %+v, %v, want %+v", p, fetching, m.name, use, err, full)
				}
				unlock, err := d.LockForWrite(t.Context(), m.tenant, m.call("new.phext"))
				m.check(err)
				var refused *quota.ExceededError
				if _, err := m.ledger.Reserve(m.tenant, quota.Write{File: "new.phext", Size: -1, After: 1}); !errors.As(err, &refused) {
					t.Errorf("with %+v: one phext more: %v", p, err)
				}
				if _, err := m.ledger.Reserve(m.tenant, quota.Write{File: fileName(0), Size: 10, After: 16}); !errors.As(err, &refused) {
					t.Errorf("with %+v: more bytes: %v", p, err)
				}
				unlock()
				if !fetching {
					break
				}
				if p.Files < p.OfFiles {
					seen++
				}
				time.Sleep(500 * time.Millisecond)
			}
			if seen < 2 {
				t.Errorf("%s had all at once", m.name)
			}
		}
		follow(b)
		b.check(c.write("b", fileName(1), text+text))
		b.compact()
		full.Bytes += 10
		follow(to("a")) // which has 10 bytes less
	})
}
