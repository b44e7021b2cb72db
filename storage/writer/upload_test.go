package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
)

// bucketWorld is a bucket in memory, and this host's lease.
type bucketWorld struct {
	*bucket.Memory
	lease    context.Context
	endLease context.CancelFunc
	runs     int
	looks    atomic.Int64 // how often somebody has looked whether the lease holds
	lastLook atomic.Bool  // the next look is the last one that finds a lease

	mu      sync.Mutex
	arrived chan struct{} // if not nil, uploads say so here, and wait for release
	release chan bucket.Fault
}

func newBucketWorld(t *testing.T) *bucketWorld {
	b := &bucketWorld{Memory: bucket.NewMemory()}
	b.lease, b.endLease = context.WithCancel(t.Context())
	b.Fault = func(op bucket.Op, key string) bucket.Fault {
		b.mu.Lock()
		arrived, release := b.arrived, b.release
		b.mu.Unlock()
		if op != bucket.OpPut || arrived == nil || !strings.Contains(key, "/log/") {
			return bucket.Fault{}
		}
		arrived <- struct{}{}
		return <-release
	}
	return b
}

// hold has each upload wait for a fault from release.
func (b *bucketWorld) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrived, b.release = make(chan struct{}), make(chan bucket.Fault)
}

// letGo ends a hold, and gives the upload that waits a fault.
func (b *bucketWorld) letGo(f bucket.Fault) {
	b.mu.Lock()
	release := b.release
	b.arrived, b.release = nil, nil
	b.mu.Unlock()
	release <- f
}

func (b *bucketWorld) directory(host string) *replica.Directory {
	return &replica.Directory{Bucket: b, Name: "will", Host: host, Incarnation: fmt.Sprint("run ", b.runs), Holds: b.holds}
}

func (b *bucketWorld) holds() bool {
	b.looks.Add(1)
	if b.lastLook.Swap(false) {
		defer b.endLease()
	}
	return b.lease.Err() == nil
}

func (b *bucketWorld) own(ctx context.Context, host string) (*replica.Log, error) {
	b.runs++
	d := b.directory(host)
	o, tag, err := d.Owner(ctx)
	if err != nil {
		return nil, err
	}
	return d.TakeOver(ctx, o, tag)
}

// files is what the log says of each file. Each group says that, too.
func (b *bucketWorld) files(ctx context.Context) (map[string]journal.State, error) {
	d, files := b.directory("reader"), map[string]journal.State{}
	end, err := d.End(ctx)
	if err != nil {
		return nil, err
	}
	for r, err := range d.Read(ctx, 0, end) {
		if err != nil {
			return nil, err
		}
		for _, g := range r.Groups {
			for _, m := range g.Mutations {
				files[m.File] = files[m.File].After(m)
			}
			if now := files[g.File()]; versionOf(now) != g.After {
				return nil, fmt.Errorf("after number %d %s is %+v, and not %+v", r.Seq, g.File(), now, g.After)
			}
		}
	}
	return files, nil
}

func versionOf(s journal.State) object.FileState {
	if !s.Exists {
		return object.FileState{}
	}
	return datadir.Known(cache.NewVersion(s.Text, fsutil.FileID{Ino: 1})).State
}

// takeOver makes the files what the log says, without any care for crashes.
func (b *bucketWorld) takeOver() func(context.Context, *datadir.Dir) (*datadir.Replica, error) {
	if b == nil {
		return nil
	}
	return func(ctx context.Context, d *datadir.Dir) (*datadir.Replica, error) {
		if !b.holds() {
			return nil, datadir.ErrMoved
		}
		log, err := b.own(ctx, "this host")
		if err != nil {
			return nil, err
		}
		files, err := b.files(ctx)
		if err != nil {
			return nil, err
		}
		there, err := filepath.Glob(filepath.Join(d.Path, "*"))
		if err != nil {
			return nil, err
		}
		for _, path := range there {
			if _, known := files[filepath.Base(path)]; !known {
				files[filepath.Base(path)] = journal.State{}
			}
		}
		known := map[string]datadir.KnownFile{}
		for name, state := range files {
			path := filepath.Join(d.Path, name)
			now, err := os.ReadFile(path)
			switch {
			case !state.Exists:
				err = fsutil.IgnoreMissing(os.Remove(path))
			case err != nil || string(now) != state.Text:
				err = os.WriteFile(path, []byte(state.Text), 0o600)
			}
			if err != nil {
				return nil, err
			}
			id, err := fsutil.Identify(path)
			if err != nil {
				return nil, err
			}
			known[name] = datadir.KnownFile{ID: id, State: versionOf(state)}
		}
		return datadir.NewReplica(d, datadir.Ownership{Uploader: replica.NewUploader(b.lease, log.Append), Holds: b.holds, Of: "will", Known: known}), nil
	}
}

// wantLog checks what the log says of the phext n.
func (w *world) wantLog(text string) {
	w.Helper()
	files, err := w.bucket.files(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	if got := files["n.phext"].Text; got != text {
		w.Errorf("the log has %q, want %q", got, text)
	}
}

// begin commits in the background.
func (w *world) begin(r Request) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := w.Commit(context.Background(), r)
		done <- err
	}()
	return done
}

// beginRefused is begin for a request that changes nothing. It returns when that has been
// decided. The lease is looked at before and after the directory is locked.
func (w *world) beginRefused(r Request) <-chan error {
	before := w.bucket.looks.Load()
	done := w.begin(r)
	for w.bucket.looks.Load() < before+2 {
		runtime.Gosched()
	}
	w.awaitFile(func(string) bool { return true })
	return done
}

// TestAWriteIsInTheBucketFirst holds an upload up. Nobody is told of the write, and no
// reader sees it. The next writes are made meanwhile, and go into one object.
func TestAWriteIsInTheBucketFirst(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	w.wantLog(start)
	b := w.bucket
	b.hold()
	b.Calls()
	first := w.begin(w.mutate(rewrite.Update, "n", scroll(1), "first"))
	<-b.arrived
	var others []<-chan error
	for i := range 3 {
		others = append(others, w.begin(w.mutate(rewrite.Insert, "n", scroll(2), fmt.Sprint(i))))
		w.awaitFile(func(text string) bool { return strings.Count(text, fmt.Sprint(i)) == 1 })
	}
	if got := w.seen(); got != start {
		t.Errorf("readers see %q before it is in the bucket", got)
	}
	if len(first)+len(others[0])+len(others[1])+len(others[2]) > 0 {
		t.Error("acknowledged before it is in the bucket")
	}
	b.release <- bucket.Fault{}
	w.check(<-first)
	<-b.arrived
	if got := w.seen(); got != "first\x17two\x17three" {
		t.Errorf("readers see %q when the first is in the bucket", got)
	}
	b.letGo(bucket.Fault{})
	for _, done := range others {
		w.check(<-done)
	}
	w.want("first\x17two012\x17three")
	w.wantLog("first\x17two012\x17three")
	if calls := b.Calls(); calls[bucket.OpPut] != 2 {
		t.Errorf("4 writes took %v", calls)
	}
}

// awaitFile waits until the next writer finds a state of the phext n.
func (w *world) awaitFile(ready func(text string) bool) {
	w.Helper()
	d := w.Dirs.Of(w.tenant.DataDir)
	for {
		unlock, err := d.LockForWrite(context.Background(), w.tenant, nil)
		w.check(err)
		v, err := d.NewestView(w.mutate(rewrite.Update, "n", scroll(1), "").Call)
		unlock()
		w.check(err)
		if ready(v.Phext.Text()) {
			return
		}
	}
}

// TestLostAnswers has the bucket do what it was asked, and not say so.
func TestLostAnswers(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	n := 0
	fault := w.bucket.Fault
	w.bucket.Fault = func(op bucket.Op, key string) bucket.Fault {
		if op == bucket.OpPut {
			n++
			return []bucket.Fault{{Lose: bucket.ErrUnknownOutcome}, {Refuse: bucket.ErrTemporary}, {Twice: true}, {}}[n%4]
		}
		return fault(op, key)
	}
	for i := range 6 {
		w.must(step{rewrite.Insert, scroll(2), fmt.Sprint(i)})
	}
	w.want("one\x17two012345\x17three")
	w.wantLog("one\x17two012345\x17three")
}

// TestWhatBecomesOfAWriteThatIsNotInTheBucket: if another host has the directory, it has
// not happened, and if the lease has ended, that is not known. A refusal rests on the
// writes before it, and so does the answer to a repeated request.
func TestWhatBecomesOfAWriteThatIsNotInTheBucket(t *testing.T) {
	for _, test := range []struct {
		name   string
		fail   func(b *bucketWorld)
		kind   apierror.Kind
		stands bool // it is in the log all the same
	}{
		{"deposed", func(b *bucketWorld) {
			b.mu.Lock()
			b.arrived = nil
			release := b.release
			b.mu.Unlock()
			if _, err := b.own(context.Background(), "another host"); err != nil {
				panic(err)
			}
			release <- bucket.Fault{}
		}, apierror.Unavailable, false},
		{"the lease ends", func(b *bucketWorld) { b.endLease(); b.letGo(bucket.Fault{Refuse: bucket.ErrTemporary}) }, apierror.NotKnown, false},
		{"the lease ends, and it stands", func(b *bucketWorld) {
			b.release <- bucket.Fault{Lose: bucket.ErrUnknownOutcome}
			<-b.arrived
			b.endLease()
			b.letGo(bucket.Fault{})
		}, apierror.NotKnown, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorldWith(t, newBucketWorld(t))
			w.bucket.hold()
			r := w.mutate(rewrite.Update, "n", scroll(1), "lost")
			r.IdempotencyKey = "k"
			lost := w.begin(r)
			<-w.bucket.arrived
			next := w.begin(w.mutate(rewrite.Update, "n", scroll(2), "also"))
			w.awaitFile(func(text string) bool { return strings.Contains(text, "also") })
			stale := w.mutate(rewrite.Update, "n", scroll(1), "x")
			stale.IfMatch = []string{etag.Of("one")}
			refused, repeated := w.beginRefused(stale), w.beginRefused(r)
			gone := w.beginRefused(w.mutate(rewrite.Delete, "no such phext", scroll(1), ""))
			for _, done := range []<-chan error{lost, next, refused, repeated, gone} {
				if len(done) > 0 {
					t.Errorf("told %v before it is known what stands", <-done)
				}
			}
			test.fail(w.bucket)
			w.wantError(<-lost, test.kind)
			nextErr := <-next
			if apierror.From(nextErr).Kind != apierror.NotKnown {
				w.wantError(nextErr, apierror.Unavailable)
			}
			for _, done := range []<-chan error{refused, repeated, gone} {
				w.wantError(<-done, apierror.Unavailable)
			}
			w.bucket.lease, w.bucket.endLease = context.WithCancel(t.Context())
			want := start
			if test.stands {
				want = "lost\x17two\x17three"
			}
			w.want(want) // taken over again
			w.wantLog(want)
			w.must(update(3, "after"))
			want = strings.Replace(want, "three", "after", 1)
			w.want(want)
			w.wantLog(want)
		})
	}
}

// TestReadersWithoutALease see nothing until the directory is taken over again.
func TestReadersWithoutALease(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	d := w.Dirs.Of(w.tenant.DataDir)
	if !d.Recovered() {
		t.Fatal("not even with a lease")
	}
	call := w.mutate(rewrite.Update, "n", scroll(1), "").Call
	w.bucket.lastLook.Store(true) // it ends while the phext is read
	if _, err := d.RecoveredView(t.Context(), call); !errors.Is(err, datadir.ErrMoved) {
		t.Errorf("the lease has ended, and a reader gets %v", err)
	}
	if _, err := d.RecoveredView(t.Context(), call); !errors.Is(err, datadir.ErrMoved) || d.Recovered() {
		t.Errorf("without a lease, a reader gets %v", err)
	}
	w.bucket.lease, w.bucket.endLease = context.WithCancel(t.Context())
	w.want(start)
}

// lockedOut says whether somebody else has the directory.
func (w *world) lockedOut() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	unlock, err := w.Dirs.Of(w.tenant.DataDir).LockForWrite(ctx, w.tenant, nil)
	if err == nil {
		unlock()
	}
	return err != nil
}

// TestAReadOfTheFilesWaitsForTheBucket: SQ and a backup look at the files themselves.
func TestAReadOfTheFilesWaitsForTheBucket(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	d := w.Dirs.Of(w.tenant.DataDir)
	for name, lock := range map[string]func() (func(), error){
		"read":      func() (func(), error) { return d.LockForRead(context.Background(), w.tenant, nil) },
		"exclusive": func() (func(), error) { return w.Dirs.LockExclusive(context.Background(), w.tenant.DataDir) },
	} {
		w.bucket.hold()
		done := w.begin(w.mutate(rewrite.Insert, "n", scroll(1), "+"))
		<-w.bucket.arrived
		w.awaitFile(func(string) bool { return true })
		locked := make(chan error, 1)
		go func() {
			unlock, err := lock()
			if err == nil {
				unlock()
			}
			locked <- err
		}()
		for !w.lockedOut() {
		}
		if len(locked) > 0 {
			t.Errorf("%s: not waited for the bucket", name)
		}
		w.bucket.letGo(bucket.Fault{})
		w.check(<-locked)
		w.check(<-done)
	}
}

// TestWhatElseGoesIntoTheLog are names, and what somebody did to the files by hand.
func TestWhatElseGoesIntoTheLog(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	w.bucket.Calls()
	w.must(named(rewrite.Update, "a.name", "named"))
	if calls := w.bucket.Calls(); calls[bucket.OpPut] != 1 {
		t.Errorf("a name and its scroll took %v", calls)
	}
	w.check(os.WriteFile(w.path("n.phext"), []byte("by hand\x17two"), 0o644))
	w.check(os.WriteFile(w.path("m.phext"), []byte("copied in"), 0o644))
	w.must(update(2, "changed"))
	w.wantLog("by hand\x17changed")
	_, err := w.Commit(t.Context(), w.mutate(rewrite.Update, "m", scroll(2), "two"))
	w.check(err)
	w.check(os.Remove(w.path("n.phext")))
	w.must(update(1, "new"))
	w.must(named(rewrite.Update, "another.name", "x"), named(rewrite.Delete, "another.name", ""))
	files, err := w.bucket.files(t.Context())
	w.check(err)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if got := w.file(name); got != files[name].Text {
			t.Errorf("%s is %q, and the log has %q", name, got, files[name].Text)
		}
	}
	if len(files) != 3 || files["m.phext"].Text != "copied in\x17two" {
		t.Errorf("%+v", files)
	}
}

// TestAWriteThatFailsAtSQ leaves the log as it was, also if an edit by hand was found.
func TestAWriteThatFailsAtSQ(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	w.check(os.WriteFile(w.path("n.phext"), []byte("by hand\x17two"), 0o644))
	for _, spoil := range []func(*attack){
		hangUp,
		func(a *attack) { a.tear("chan"); hangUp(a) },
		func(a *attack) { a.tear("chan"); w.disk.set("same", errors.New("broken")); hangUp(a) },
	} {
		w.during(spoil, func() {
			if _, err := w.commit(update(1, "changed")); err == nil {
				t.Error("acknowledged")
			}
		})
		w.disk.set("same", nil)
		w.want("by hand\x17two")
		w.wantLog("by hand\x17two")
	}
	w.must(update(1, "changed"))
	w.want("changed\x17two")
	w.wantLog("changed\x17two")
}

// TestManyWritersAndABucket has writers of several phexts, and readers that see each
// scroll only go up, and never more than what the log has.
func TestManyWritersAndABucket(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	var group sync.WaitGroup
	for i := range 8 {
		name := string(rune('a' + i%2))
		group.Go(func() {
			for range 20 {
				if _, err := w.Commit(t.Context(), w.mutate(rewrite.Insert, name, scroll(i+1), "x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	files, err := w.bucket.files(t.Context())
	w.check(err)
	for _, name := range []string{"a", "b"} {
		text := w.file(name + ".phext")
		if n := strings.Count(text, "x"); n != 80 || text != files[name+".phext"].Text {
			t.Errorf("%s has %d of 80: %q, and the log %q", name, n, text, files[name+".phext"].Text)
		}
	}
}

// TestACrashAtEveryStepWithABucket ends a commit at each operation on the disk. What the
// log says is what stands then, and what was acknowledged is in it.
func TestACrashAtEveryStepWithABucket(t *testing.T) {
	const changed = "changed\x17two\x17three"
	for crash, done := 1, false; !done; crash++ {
		w := newWorldWith(t, newBucketWorld(t))
		w.disk.mu.Lock()
		w.disk.calls, w.disk.crash = 0, crash
		w.disk.mu.Unlock()
		func() {
			defer func() {
				if r := recover(); r != nil && r != (errCrash{}) {
					panic(r)
				}
			}()
			_, err := w.commit(update(1, "changed"))
			w.check(err)
			done = true
		}()
		w.restart()
		got := w.seen()
		if got != changed && (done || got != start) {
			t.Errorf("crash at operation %d: %q", crash, got)
		}
		w.want(got)
		w.wantLog(got)
		w.must(update(2, "next"))
		want := phext.Parse(got).With(phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 2}, "next").Render()
		w.want(want)
		w.wantLog(want)
	}
}

// TestAPhextThatDoesNotFitIntoTheBucket is refused before anything is written, whether a
// write would make it so or somebody has done that by hand.
func TestAPhextThatDoesNotFitIntoTheBucket(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	w.must(update(1, "one"))
	r, err := w.Dirs.Of(w.tenant.DataDir).Replica()
	w.check(err)
	w.wantError(r.Fits(datadir.LargestPhext+1), apierror.TooLarge)
	w.check(r.Fits(datadir.LargestPhext))
	if most := largestBatch * (smallScroll + 1<<10); datadir.LargestPhext+most > object.PayloadMax {
		t.Error("a batch can make a phext larger than that")
	}
	before := w.file("n.phext")
	r.Largest = int64(len(before)) + 2
	_, err = w.commit(update(1, "one and more"))
	w.wantError(err, apierror.TooLarge)
	w.want(before)
	w.wantLog(before)
	w.must(update(1, "one!!"))
	w.must(update(1, "1"))
	w.wantLog(w.file("n.phext"))
	w.check(os.WriteFile(w.path("n.phext"), []byte(strings.Repeat("by hand", 10)), 0o644))
	_, err = w.commit(update(2, "x"))
	w.wantError(err, apierror.TooLarge)
	_, err = w.commit(update(1, "")) // which makes it smaller
	w.wantError(err, apierror.TooLarge)
}
