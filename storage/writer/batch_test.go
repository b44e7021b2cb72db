package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

func TestWhatIsCommittedAlone(t *testing.T) {
	will := &tenants.Tenant{ID: "will", AllowDelimiters: true}
	plain := requestOf(t, will, rewrite.Update, "n", scroll(1), "x")
	withKey := plain
	withKey.IdempotencyKey = "k"
	for _, test := range []struct {
		name    string
		request Request
		alone   bool
	}{
		{"as a rule", plain, false},
		{"a name", requestOf(t, will, rewrite.Update, "n", "a.name", "x"), true},
		{"a large scroll", requestOf(t, will, rewrite.Update, "n", scroll(1), strings.Repeat("x", smallScroll+1)), true},
		{"a delimiter", requestOf(t, will, rewrite.Update, "n", scroll(1), "x\x17y"), true},
		{"an Idempotency-Key", withKey, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if m := newMutation(test.request); m.alone != test.alone {
				t.Errorf("alone: %v", m.alone)
			}
		})
	}
}

// TestLeadBatch has one mutation take along those of others that it may.
func TestLeadBatch(t *testing.T) {
	w := newWorld(t)
	dir := w.Dirs.Of(w.tenant.DataDir)
	unlock, err := dir.LockForWrite(t.Context(), w.tenant, nil)
	w.check(err)
	defer unlock()
	lead := newMutation(w.mutate(rewrite.Update, "n", scroll(1), "lead"))
	tx := w.newTransaction(t.Context(), dir, lead, unlock)
	for _, step := range []func() (bool, error){tx.openJournal, tx.readPhext, tx.resolveName, tx.apply} {
		if done, err := step(); done || err != nil {
			t.Fatal(done, err)
		}
	}
	other := *w.tenant
	refused := w.mutate(rewrite.Update, "n", scroll(7), "x")
	refused.IfMatch = []string{`"not its tag"`}
	ended := 0
	wait := func(r Request) *mutation {
		m := newMutation(r)
		m.stopWaiting = func() { ended++ }
		w.queue(dir).add(m)
		return m
	}
	joins := []*mutation{
		wait(w.mutate(rewrite.Insert, "n", scroll(3), " longer")),
		wait(w.mutate(rewrite.Update, "n", scroll(2), "second")),
		wait(w.mutate(rewrite.Insert, "n", scroll(1), ", and more")),
		wait(w.mutate(rewrite.Delete, "n", scroll(3), "")),
	}
	stays := []*mutation{
		wait(w.mutate(rewrite.Update, "another", scroll(5), "another phext")),
		wait(requestOf(t, &other, rewrite.Update, "n", scroll(6), "another tenant")),
	}
	unfit := wait(refused)
	tx.leadBatch()
	if !slices.Equal(tx.members[1:], joins) || ended != len(joins)+1 {
		t.Errorf("%d members, the wait of %d has ended", len(tx.members), ended)
	}
	if waiting := w.queue(dir).waiting; !slices.Equal(waiting, stays) {
		t.Errorf("%d still wait", len(waiting))
	}
	if got := tx.next.Text(); got != "lead, and more\x17second" {
		t.Errorf("the file is to hold %q", got)
	}
	for i, want := range []string{"Inserted 7 bytes", "Updated 6 bytes", "Inserted 10 bytes", "Removed 12 bytes"} {
		if got := string(joins[i].result.Body); got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
	}
	if got, want := joins[2].result.ETag, etag.Of("lead, and more"); got != want || joins[3].result.ETag != "" {
		t.Errorf("tags %s, want %s, and %s of nothing", got, want, joins[3].result.ETag)
	}
	if len(unfit.outcome) > 0 || !errors.Is(unfit.refusal, errChanged) {
		t.Errorf("a precondition that does not hold: %v", unfit.refusal)
	}
	tx.tellOthers(outcome{})
	if out := <-unfit.outcome; !errors.Is(out.err, errChanged) || out.tryAlone {
		t.Errorf("a refusal in a batch that stands: %+v", out)
	}
	tx.joined = []*mutation{unfit}
	tx.tellOthers(outcome{err: errNotKnown})
	if out := <-unfit.outcome; !out.tryAlone {
		t.Errorf("a refusal in a batch that may not stand: %+v", out)
	}
}

// TestTheLargestBatch is bounded by the scrolls that SQ writes, by its members, and by
// their texts.
func TestTheLargestBatch(t *testing.T) {
	for _, test := range []struct {
		name        string
		waiting     int
		text        string
		oneScroll   bool
		wantMembers int
	}{
		{"of scrolls", 100, "x", false, largestBatch},
		{"of one scroll", 100, "x", true, mostMembers},
		{"of large texts", 100, strings.Repeat("x", smallScroll), true, largestBatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			dir := w.Dirs.Of(w.tenant.DataDir)
			unlock, err := dir.LockForWrite(t.Context(), w.tenant, nil)
			w.check(err)
			defer unlock()
			tx := w.newTransaction(t.Context(), dir, newMutation(w.mutate(rewrite.Update, "n", scroll(1), test.text)), unlock)
			for _, step := range []func() (bool, error){tx.openJournal, tx.readPhext, tx.resolveName, tx.apply} {
				if _, err := step(); err != nil {
					t.Fatal(err)
				}
			}
			for i := range test.waiting {
				at := scroll(1)
				if !test.oneScroll {
					at = scroll(i + 1)
				}
				m := newMutation(w.mutate(rewrite.Update, "n", at, test.text))
				m.stopWaiting = func() {}
				w.queue(dir).add(m)
			}
			if tx.leadBatch(); len(tx.members) != test.wantMembers && len(tx.members) != test.wantMembers+1 { // the lead's own scroll is among those that wait
				t.Errorf("%d members, want %d", len(tx.members), test.wantMembers)
			}
		})
	}
}

// TestAWaitForTheDirectory ends when the directory is free, when the context
// ends, or when a batch takes the mutation along.
func TestAWaitForTheDirectory(t *testing.T) {
	w := newWorld(t)
	dir := w.Dirs.Of(w.tenant.DataDir)
	mine := newMutation(w.mutate(rewrite.Update, "n", scroll(1), "x"))
	unlock, joined, err := w.lockOrJoin(t.Context(), dir, mine)
	if err != nil || joined || len(w.queue(dir).waiting) != 0 {
		t.Fatalf("a directory that was free: %v, %v", joined, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, joined, err := w.lockOrJoin(gone, dir, mine); joined || !errors.Is(err, context.Canceled) || len(w.queue(dir).waiting) != 0 {
		t.Errorf("a context that has ended: %v, %v", joined, err)
	}
	taken, result := newMutation(w.mutate(rewrite.Update, "n", scroll(2), "x")), make(chan bool)
	go func() {
		_, joined, err := w.lockOrJoin(t.Context(), dir, taken)
		result <- joined && err == nil
	}()
	w.awaitQueue(dir, 1)
	w.queue(dir).take(1, func(*mutation) bool { return true })
	if !<-result {
		t.Error("it does not know that it was taken along")
	}
	unlock()
	if unlock, _, err = w.lockOrJoin(t.Context(), dir, mine); err != nil {
		t.Fatalf("the directory is not free: %v", err)
	}
	unlock()
}

// awaitQueue waits until so many mutations wait for the directory, all of them at its lock:
// whoever comes to that first leads the batch.
func (w *world) awaitQueue(dir *datadir.Dir, n int) {
	w.Helper()
	q, stacks := w.queue(dir), make([]byte, 1<<20)
	for {
		q.mu.Lock()
		waiting := len(q.waiting)
		q.mu.Unlock()
		locking := 0
		for _, goroutine := range bytes.Split(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
			if bytes.Contains(goroutine, []byte("[select")) && bytes.Contains(goroutine, []byte("datadir.(*Dir).wait(")) {
				locking++
			}
		}
		if waiting == n && locking == n {
			return
		}
		runtime.Gosched()
	}
}

// together commits requests as one batch: the first has SQ wait until the
// others have come, and whatever it leads after that is a batch.
func (w *world) together(requests ...Request) (results []Result, errs []error) {
	w.Helper()
	dir := w.Dirs.Of(w.tenant.DataDir)
	unlock, err := dir.LockForWrite(w.Context(), w.tenant, nil)
	w.check(err)
	results, errs = make([]Result, len(requests)), make([]error, len(requests))
	var group sync.WaitGroup
	for i, r := range requests {
		group.Go(func() { results[i], errs[i] = w.Commit(context.Background(), r) })
		w.awaitQueue(dir, i+1)
	}
	unlock()
	group.Wait()
	return results, errs
}

func (w *world) batchOf(n int) (requests []Request) {
	for i := range n {
		requests = append(requests, w.mutate(rewrite.Update, "n", scroll(i+1), fmt.Sprintf("batch %d", i+1)))
	}
	return requests
}

const batched = "batch 1\x17batch 2\x17batch 3"

// TestABatch makes several mutations in one write of the file, each with its own answer.
func TestABatch(t *testing.T) {
	for _, way := range []string{"recreate", "truncate"} {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t)
			if way == "truncate" {
				w.check(os.Chmod(w.path("n.phext"), 0o640))
				w.must(update(3, "three"))
			}
			looks := 0
			same := w.Writer.files.same
			w.Writer.files.same = func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error) {
				looks++
				return same(path, v, pace)
			}
			results, errs := w.together(w.batchOf(3)...)
			for i := range results {
				if errs[i] != nil || string(results[i].Body) != "Updated 7 bytes" || !results[i].Changed || results[i].ETag == "" {
					t.Errorf("%d: %+v, %v", i, results[i], errs[i])
				}
			}
			if looks != 1 {
				t.Errorf("the file was looked at %d times", looks)
			}
			w.want(batched)
			w.restart()
			w.want(batched)
		})
	}
}

// TestABatchTakesTheMemoryOfOneWrite, of a phext with so many scrolls that each write takes
// some megabytes with which it is parsed again, since too much text was replaced.
func TestABatchTakesTheMemoryOfOneWrite(t *testing.T) {
	const scrolls, batch = 40_000, 13 // of which the 7th and the last one have it parsed
	w := newWorld(t)
	var all []phext.Scroll
	for i := range uint32(scrolls) {
		all = append(all, phext.Scroll{At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1 + i/999, 1 + i%999}, Text: "text"})
	}
	w.check(os.WriteFile(w.path("n.phext"), []byte(phext.Of(all).Render()), 0o600))
	w.must(update(1, "SQ has it in memory now"))
	free := func() int64 { return w.Dirs.Answers.Limit() - w.Dirs.Answers.Above(0) }
	v, err := w.Dirs.File(w.path("n.phext"))
	w.check(err)
	const one = 4 * scrolls * phext.ScrollSize
	before, least := free(), w.Dirs.Answers.Limit()
	same := w.Writer.files.same
	w.Writer.files.same = func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error) {
		least = min(least, free())
		return same(path, v, pace)
	}
	var replaced []Request
	for i := range batch {
		replaced = append(replaced, w.mutate(rewrite.Update, "n", scroll(1), strings.Repeat(string(rune('a'+i)), smallScroll)))
	}
	_, errs := w.together(replaced...)
	w.check(errors.Join(errs...))
	if held := before - least; held < one/2 || held > 2*one+v.Memory() { // the phext of before counts too
		t.Errorf("a batch of %d holds %d bytes, and one write %d", batch, held, one)
	}
	runtime.KeepAlive(v)
	if after := free(); after < before {
		t.Errorf("%d bytes are not given back", before-after)
	}
}

// TestABatchOfWhichOneFails refuses the one, and makes the others.
func TestABatchOfWhichOneFails(t *testing.T) {
	w := newWorld(t)
	requests := w.batchOf(3)
	requests[1].IfMatch = []string{`"not its tag"`}
	_, errs := w.together(requests...)
	if errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], errChanged) {
		t.Errorf("%v", errs)
	}
	w.want("batch 1\x17two\x17batch 3")
}

// TestABatchThatSQSpoils has the batch fail in every way, at its first and at
// its last mutation: nothing of it has happened, and each is then made alone.
func TestABatchThatSQSpoils(t *testing.T) {
	for name, spoil := range map[string]func(*attack){
		"it hangs up":       hangUp,
		"it tears the file": func(a *attack) { a.tear("bat"); hangUp(a) },
		"it answers 500":    func(a *attack) { a.answer([]byte("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) },
		"it lies":           func(a *attack) { a.answer([]byte(said)) },
	} {
		for _, at := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s at mutation %d", name, at), func(t *testing.T) {
				w := newWorld(t)
				spoilt := false
				w.during(func(a *attack) {
					if a.n == at && !spoilt {
						spoilt = true
						spoil(a)
						return
					}
					a.answer(a.pass())
				}, func() {
					results, errs := w.together(w.batchOf(3)...)
					for i := range results {
						if errs[i] != nil || string(results[i].Body) != "Updated 7 bytes" {
							t.Errorf("%d: %s, %v", i, results[i].Body, errs[i])
						}
					}
				})
				if !spoilt {
					t.Error("SQ was not asked so often")
				}
				w.want(batched)
				w.restart()
				w.want(batched)
			})
		}
	}
}

// TestABatchThatHasNoRoom makes those for which there is room.
func TestABatchThatHasNoRoom(t *testing.T) {
	w := newWorld(t)
	w.must(step{rewrite.Update, scroll(4), strings.Repeat("b", 1<<20-100<<10)})
	var requests []Request
	for i := range 3 {
		requests = append(requests, w.mutate(rewrite.Update, "n", scroll(i+1), strings.Repeat("x", 60<<10)))
	}
	made := 0
	_, errs := w.together(requests...)
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		w.wantError(err, apierror.QuotaExceeded)
	}
	if made != 1 {
		t.Errorf("%d were made: %v", made, errs)
	}
}

// TestABatchThatIsLeftToRecovery tells all its mutations that it is not known.
func TestABatchThatIsLeftToRecovery(t *testing.T) {
	w := newWorld(t)
	w.disk.set("same", errors.New("the disk is broken"))
	_, errs := w.together(w.batchOf(3)...)
	for _, err := range errs {
		w.wantError(err, apierror.NotKnown)
	}
	w.disk.set("same", nil)
	got := w.seen()
	if got != start && got != batched {
		t.Errorf("a part of the batch: %q", got)
	}
	w.want(got)
}

// TestABatchAcrossACrash ends sqgate at each operation on the disk: the batch is
// there as a whole, or not at all.
func TestABatchAcrossACrash(t *testing.T) {
	for crash := 1; ; crash++ {
		w := newWorld(t)
		dir := w.Dirs.Of(w.tenant.DataDir)
		requests := w.batchOf(3)
		lead := newMutation(requests[0])
		for _, r := range requests[1:] {
			m := newMutation(r)
			m.stopWaiting = func() {}
			w.queue(dir).add(m)
		}
		w.disk.mu.Lock()
		w.disk.calls, w.disk.crash = 0, crash
		w.disk.mu.Unlock()
		done := func() (done bool) {
			defer func() {
				if r := recover(); r != nil && r != (errCrash{}) {
					panic(r)
				}
			}()
			w.check(w.Writer.commit(context.Background(), lead).err)
			return true
		}()
		if done {
			w.want(batched)
			return
		}
		w.restart()
		got := w.seen()
		if got != start && got != batched {
			t.Errorf("crash at operation %d: %q", crash, got)
		}
		w.want(got)
	}
}
