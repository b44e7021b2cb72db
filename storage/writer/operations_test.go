package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// operation is one of a batch, as a client writes it.
type operation struct {
	Op      string  `json:"op"`
	C       string  `json:"c"`
	S       *string `json:"s,omitempty"`
	IfMatch string  `json:"if_match,omitempty"`
}

func op(op, c string, s ...string) operation {
	o := operation{Op: op, C: c}
	if len(s) > 0 {
		o.S = &s[0]
	}
	return o
}

func (o operation) if_(text string) operation {
	o.IfMatch = etag.Of(text)
	return o
}

func (w *world) batch(all ...operation) Request {
	w.Helper()
	body, err := json.Marshal(map[string]any{"operations": all})
	w.check(err)
	head, err := rewrite.ParseHead("POST", "/api/v2/batch", "p=n", datadir.RewriteTenant(w.tenant))
	w.check(err)
	call, err := head.Call(body)
	w.check(err)
	return Request{ID: "a request", Tenant: w.tenant, KeyName: "a key", Call: call}
}

// results are what the answer says, one line for each operation.
func (w *world) results(r Result) (all []string) {
	w.Helper()
	var answer struct {
		Results []struct {
			Op, C, Answer, S, ETag string
			Exists                 *bool
		}
	}
	if err := json.Unmarshal(r.Body, &answer); err != nil {
		w.Fatalf("%v in %s", err, r.Body)
	}
	for _, one := range answer.Results {
		line := one.Op + " " + one.C + ": " + one.Answer
		if one.Exists != nil {
			line += fmt.Sprintf("%q %v", one.S, *one.Exists)
		}
		for _, text := range []string{"one", "1+", "1+!", "new", "three", "named"} {
			if one.ETag == etag.Of(text) {
				line += " as " + text
			}
		}
		all = append(all, line)
	}
	return all
}

func (w *world) mustBatch(all ...operation) Result {
	w.Helper()
	result, err := w.Commit(context.Background(), w.batch(all...))
	if err != nil {
		w.Fatal(err)
	}
	return result
}

// TestABatchOfOperations has each operation see what those before it have made.
func TestABatchOfOperations(t *testing.T) {
	w := newWorld(t)
	w.sq.clear()
	result := w.mustBatch(
		op("select", scroll(1)),
		op("update", scroll(1), "1").if_("one"),
		op("insert", scroll(1), "+"),
		op("select", scroll(1)).if_("1+"),
		op("insert", scroll(1), "!"),
		op("delete", scroll(2)),
		op("select", scroll(2)),
		op("insert", scroll(2), "new"),
		op("delete", scroll(9)),
		op("update", "a.name", "named"),
		op("select", "a.name"),
		op("select", "another.name"),
		op("delete", "another.name"),
		op("select", scroll(3)),
	)
	want := []string{
		scrollLine("select", 1, `"one" true as one`),
		scrollLine("update", 1, "Updated 1 bytes as 1+!"),
		scrollLine("insert", 1, "Inserted 1 bytes as 1+!"),
		scrollLine("select", 1, `"1+" true as 1+`),
		scrollLine("insert", 1, "Inserted 1 bytes as 1+!"),
		scrollLine("delete", 2, "Removed 3 bytes as new"),
		scrollLine("select", 2, `"" false`),
		scrollLine("insert", 2, "Inserted 3 bytes as new"),
		scrollLine("delete", 9, "Removed 0 bytes"),
		"update a.name: Updated 5 bytes as named",
		`select a.name: "named" true as named`,
		`select another.name: "" false`,
		"delete another.name: Removed 0 bytes",
		scrollLine("select", 3, `"three" true as three`),
	}
	if got := w.results(result); !slices.Equal(got, want) {
		t.Errorf("%s\n want %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	result.Release()
	if !result.Changed || w.sq.seenSoFar() != "" {
		t.Errorf("changed %v, and SQ was asked for %s", result.Changed, w.sq.seenSoFar())
	}
	after := phext.Parse("1+!\x17new\x17three").With(rewrite.FirstNamed(), "named").Render()
	w.want(after)
	// The journal has each, in order, and makes the same of them.
	j, err := w.journal.Of(w.tenant.DataDir)
	w.check(err)
	events, err := j.History(journal.Query{File: "n.phext"})
	w.check(err)
	var ops []string
	for _, e := range events { // the batch has begun a segment, and there is no history
		ops = append(ops, e.Op)
	}
	if got := strings.Join(ops, " "); got != "update insert insert delete insert delete update" {
		t.Errorf("the history: %s", got)
	}
	state, err := j.At("n.phext", events[3].Time) // in the middle of it
	if err != nil || state.Text != after {
		t.Errorf("in the middle: %q, %v", state.Text, err)
	}
	w.must(step{rewrite.Insert, scroll(3), "?"}) // SQ reads the file again first
	if got := w.sq.seenSoFar(); got != "load insert" {
		t.Errorf("after a batch SQ was asked for %s", got)
	}
	w.restart()
	w.want(strings.Replace(after, "three", "three?", 1))
}

func scrollLine(op string, n int, rest string) string { return op + " " + scroll(n) + ": " + rest }

func (f *fakeSQ) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exchanges = nil
}

func (f *fakeSQ) seenSoFar() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.exchanges, " ")
}

// TestABatchThatIsRefused changes nothing, and names the operation.
func TestABatchThatIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		index int
		kind  apierror.Kind
		batch []operation
	}{
		{1, apierror.Precondition, []operation{op("update", scroll(1), "x"), op("update", scroll(2), "x").if_("one")}},
		{2, apierror.Precondition, []operation{op("update", "a.new.name", "x"), op("update", scroll(1), "x").if_("one"), op("delete", scroll(1)).if_("one")}},
		{1, apierror.Precondition, []operation{op("delete", scroll(1)), op("select", scroll(1)).if_("one")}},
		{0, apierror.Precondition, []operation{op("insert", "no.such.name", "").if_("one")}},
		{-1, apierror.QuotaExceeded, []operation{op("update", scroll(1), "x"), op("update", scroll(4), strings.Repeat("x", 1<<20))}},
	} {
		_, err := w.Commit(context.Background(), w.batch(test.batch...))
		w.wantError(err, test.kind)
		e := apierror.From(err)
		if got := e.Operation; test.index < 0 && got != nil || test.index >= 0 && (got == nil || *got != test.index || !strings.HasPrefix(e.Message, fmt.Sprintf("operations[%d]: ", test.index))) {
			t.Errorf("%v: %v", test.batch, err)
		}
		w.want(start)
		if got := w.file("n.names.phext"); got != "-" {
			t.Errorf("names are left: %q", got)
		}
	}
	w.must(update(2, "next"))
	w.want("one\x17next\x17three")
}

// TestABatchForAKeyThatAppends may write where nothing is, and not where an operation
// before has written.
func TestABatchForAKeyThatAppends(t *testing.T) {
	w := newWorld(t)
	appends := func(all ...operation) error {
		t.Helper()
		r := w.batch(all...)
		w.check((&rewrite.Scope{Access: rewrite.AppendAccess}).Authorize(r.Call))
		_, err := w.Commit(context.Background(), r)
		return err
	}
	w.check(appends(op("insert", scroll(1), "+"), op("update", scroll(4), "four"), op("insert", scroll(4), "+")))
	err := appends(op("update", scroll(5), "five"), op("update", scroll(5), "FIVE"))
	w.wantError(err, apierror.Forbidden)
	if e := apierror.From(err); e.Operation == nil || *e.Operation != 1 {
		t.Errorf("%v", err)
	}
	w.want("one+\x17two\x17three\x17four+")
}

// TestNamesInABatch come before their scrolls and go after them.
func TestNamesInABatch(t *testing.T) {
	w := newWorld(t)
	numbered := func(n uint32) string {
		at := rewrite.FirstNamed()
		at[8] = n
		return at.String()
	}
	names := func(want ...string) {
		t.Helper()
		var got []string
		for s := range phext.Parse(w.file("n.names.phext")).All() {
			got = append(got, s.At.String()+"="+s.Text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("names %q, want %q", got, want)
		}
	}
	w.mustBatch(op("update", "a.x", "1"), op("update", "b.x", "2"), op("insert", "a.x", "+"), op("update", "c.x", "3"), op("delete", "c.x"))
	names(numbered(1)+"=a.x", numbered(2)+"=b.x")
	w.mustBatch(op("delete", "a.x"), op("update", numbered(7), "by number"), op("insert", "d.x", "4"), op("delete", "b.x"), op("update", "b.x", "again"))
	names(numbered(2)+"=b.x", numbered(8)+"=d.x")
	w.mustBatch(op("delete", "b.x"), op("delete", numbered(8)))
	names()
	w.want(phext.Parse("one\x17two\x17three").With(phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 7}, "by number").Render())
	w.restart()
	w.want(w.file("n.phext"))
}

// TestABatchOfReadsAlone writes nothing, and makes no phext.
func TestABatchOfReadsAlone(t *testing.T) {
	w := newWorld(t)
	r := w.batch(op("select", scroll(1)), op("delete", scroll(1)))
	for i := range r.Call.Batch {
		r.Call.Batch[i].Phext = "new"
	}
	r.Call.Phext = "new"
	r.IdempotencyKey = "a key"
	result, err := w.Commit(context.Background(), r)
	w.check(err)
	if got := w.results(result); result.Changed || !slices.Equal(got, []string{scrollLine("select", 1, `"" false`), scrollLine("delete", 1, "Removed 0 bytes")}) {
		t.Errorf("%v %q", result.Changed, got)
	}
	if got := w.file("new.phext"); got != "-" {
		t.Errorf("the file: %q", got)
	}
}

// TestARepeatedBatch has the answer of the first one, also after a start, and is not made
// again.
func TestARepeatedBatch(t *testing.T) {
	w := newWorld(t)
	repeated := func(all ...operation) (string, error) {
		r := w.batch(all...)
		r.IdempotencyKey = "once"
		result, err := w.Commit(context.Background(), r)
		return string(result.Body), err
	}
	all := []operation{op("insert", scroll(1), "+"), op("select", scroll(1))}
	first, err := repeated(all...)
	w.check(err)
	w.must(update(1, "changed"))
	for range 2 {
		again, err := repeated(all...)
		if w.check(err); again != first {
			t.Errorf("%s, and then %s", first, again)
		}
		w.want("changed\x17two\x17three")
		w.restart()
	}
	for _, other := range [][]operation{all[:1], {op("insert", scroll(1), "+").if_("one"), all[1]}, {op("insert", scroll(2), "+"), all[1]}} {
		_, err := repeated(other...)
		w.wantError(err, apierror.Conflict)
	}

	// A text that looks like the rest of another batch is still one text.
	lookalike := op("update", scroll(1), "one\x00\x00update\x00"+scroll(2)+"\x00two")
	if one, two := w.batch(lookalike), w.batch(op("update", scroll(1), "one"), op("update", scroll(2), "two")); operationsDigest(one.Call) == operationsDigest(two.Call) {
		t.Error("two batches are taken for the same")
	}
}

// TestTheAnswerToABatchIsBounded before anything is written.
func TestTheAnswerToABatchIsBounded(t *testing.T) {
	w := newWorld(t)
	w.must(update(1, strings.Repeat("x", 300<<10)))
	before := w.file("n.phext")
	all := []operation{op("update", scroll(2), "changed")}
	for range 40 {
		all = append(all, op("select", scroll(1)))
	}
	_, err := w.Commit(context.Background(), w.batch(all...))
	w.wantError(err, apierror.TooLarge)
	r := w.batch(all[:5]...)
	r.IdempotencyKey = "once"
	_, err = w.Commit(context.Background(), r)
	w.wantError(err, apierror.TooLarge)
	w.want(before)
	all[0] = op("select", scroll(2))
	used := w.Dirs.Answers.Above(0)
	result := w.mustBatch(all[:5]...)
	if got := w.Dirs.Answers.Above(0) - used; got < 1200<<10 {
		t.Errorf("%d bytes of an answer are counted", got)
	}
	if result.Release(); w.Dirs.Answers.Above(0) != used {
		t.Error("the memory of an answer is not given back")
	}
}

// TestARepeatedAnswerCounts as memory, as the first one did.
func TestARepeatedAnswerCounts(t *testing.T) {
	w := newWorld(t)
	w.must(update(1, strings.Repeat("x", 300<<10)))
	r := w.batch(op("select", scroll(1)), op("update", scroll(2), "changed"))
	r.IdempotencyKey = "once"
	used := w.Dirs.Answers.Above(0)
	for _, which := range []string{"first", "repeated"} {
		result, err := w.Commit(context.Background(), r)
		w.check(err)
		if got := w.Dirs.Answers.Above(0) - used; got < 300<<10 {
			t.Errorf("%d bytes of the %s answer are counted", got, which)
		}
		if result.Release(); w.Dirs.Answers.Above(0) > used {
			used = w.Dirs.Answers.Above(0) // what the first one left in the cache
		}
	}
	w.Dirs.Answers.TakeAnyway(w.Dirs.Answers.Limit())
	_, err := w.Commit(context.Background(), r)
	w.wantError(err, apierror.Unavailable)
	w.Dirs.Answers.Give(w.Dirs.Answers.Limit())
	_, err = w.Commit(context.Background(), r)
	w.check(err)
}

// batchOfAll changes what newWorld leaves, with names.
// TestWhatABatchMayTake bounds the work for a large scroll, which must not grow with the
// number of operations.
func TestWhatABatchMayTake(t *testing.T) {
	w := newWorld(t)
	const size = 1 << 19
	w.must(update(1, strings.Repeat("x", size)))
	for name, one := range map[string]operation{"select": op("select", scroll(1)), "any": {Op: "insert", C: scroll(1), S: new("x"), IfMatch: "*"}} {
		var all []operation
		for range 500 {
			all = append(all, op("insert", scroll(1), "x"), one)
		}
		m := newMutation(w.batch(all...))
		dir := w.Dirs.Of(w.tenant.DataDir)
		unlock, _, err := w.lockOrJoin(t.Context(), dir, m)
		w.check(err)
		tx := w.newTransaction(t.Context(), dir, m, unlock)
		worked := 0
		tx.pace = func(bytes int) { worked += bytes }
		_, err = tx.openJournal()
		w.check(err)
		_, err = tx.readPhext()
		w.check(err)
		_, err = tx.apply()
		if e := apierror.From(err); name == "select" && (e == nil || e.Status != 413) || name == "any" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		m.result.Release()
		tx.unlock()
		if worked > 40*size {
			t.Errorf("%s: it takes %d times the scroll", name, worked/size)
		}
	}
}

func (w *world) batchOfAll() (r Request, after string) {
	w.Helper()
	r = w.batch(op("update", scroll(1), "ONE"), op("delete", scroll(2)), op("insert", scroll(3), "+"), op("update", "a.name", "named"), op("update", "b.name", "2"), op("delete", "gone.name"))
	return r, phext.Parse("ONE\x17\x17three+").With(phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 2}, "named").With(phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 3}, "2").Render()
}

// crashes ends a batch at each operation on the disk, until it ends by itself.
func crashes(t *testing.T, newWorld func() *world, check func(w *world, crash int, done bool, before, after string)) {
	for crash, done := 1, false; !done; crash++ {
		w := newWorld()
		_, err := w.Commit(context.Background(), w.mutate(rewrite.Update, "n", "gone.name", "x"))
		w.check(err)
		before := w.file("n.phext")
		r, after := w.batchOfAll()
		w.disk.mu.Lock()
		w.disk.calls, w.disk.crash = 0, crash
		w.disk.mu.Unlock()
		func() {
			defer func() {
				if r := recover(); r != nil && r != (errCrash{}) {
					panic(r)
				}
			}()
			_, err := w.Commit(context.Background(), r)
			w.check(err)
			done = true
		}()
		check(w, crash, done, before, after)
		if done && crash < 8 {
			t.Errorf("a batch has %d operations on the disk: this has shown little", crash)
		}
	}
}

// TestACrashAtEveryStepOfABatch leaves all of it or nothing, on the same boot and on
// another.
func TestACrashAtEveryStepOfABatch(t *testing.T) {
	crashes(t, func() *world { return newWorld(t) }, func(w *world, crash int, done bool, before, after string) {
		for _, boot := range []string{"this boot", "the next boot"} {
			w.boot = boot
			w.restart()
			got := w.seen()
			if got != after && (done || got != before) {
				t.Errorf("crash at operation %d, %s: %q", crash, boot, got)
			}
			w.want(got)
			j, err := w.journal.Of(w.tenant.DataDir)
			w.check(err)
			events, err := j.History(journal.Query{File: "n.phext"})
			w.check(err)
			if n := len(events); boot == "this boot" && (got == after) != (n == 6) { // with it begins a segment
				t.Errorf("crash at operation %d: %d events", crash, n)
			}
			w.wantNames(got == after)
		}
	})
}

// wantNames reads by name what a batchOfAll has left, or has not.
func (w *world) wantNames(made bool) {
	w.Helper()
	want := []string{`select a.name: "" false`, `select b.name: "" false`, `select gone.name: "x" true`}
	if made {
		want = []string{`select a.name: "named" true as named`, `select b.name: "2" true`, `select gone.name: "" false`}
	}
	if got := w.results(w.mustBatch(op("select", "a.name"), op("select", "b.name"), op("select", "gone.name"))); !slices.Equal(got, want) {
		w.Errorf("names: %q, want %q", got, want)
	}
}

// TestACrashAtEveryStepOfABatchWithABucket leaves all or nothing there too.
func TestACrashAtEveryStepOfABatchWithABucket(t *testing.T) {
	crashes(t, func() *world { return newWorldWith(t, newBucketWorld(t)) }, func(w *world, crash int, done bool, before, after string) {
		w.restart()
		got := w.seen()
		if got != after && (done || got != before) {
			t.Errorf("crash at operation %d: %q", crash, got)
		}
		w.want(got)
		w.wantLog(got)
		w.wantNames(got == after)
		w.must(update(2, "next"))
		w.wantLog(w.file("n.phext"))
	})
}

// TestNobodySeesAPartOfABatch reads at each operation on the disk.
func TestNobodySeesAPartOfABatch(t *testing.T) {
	w := newWorld(t)
	_, err := w.Commit(context.Background(), w.mutate(rewrite.Update, "n", "gone.name", "x"))
	w.check(err)
	before := w.file("n.phext")
	r, after := w.batchOfAll()
	files, looked := w.Writer.files, 0
	w.Writer.files.replace = func(path string, content io.WriterTo) error {
		looked++
		if got := w.seen(); got != before {
			t.Errorf("before the file is there: %q", got)
		}
		defer func() {
			if got := w.seen(); got != before {
				t.Errorf("before it is verified: %q", got)
			}
		}()
		return files.replace(path, content)
	}
	_, err = w.Commit(context.Background(), r)
	w.check(err)
	if w.want(after); looked != 1 {
		t.Errorf("the file was written %d times", looked)
	}
}

// TestWhatTheDiskMayDoToABatch refuses it, or says that it stands.
func TestWhatTheDiskMayDoToABatch(t *testing.T) {
	for _, test := range []struct {
		fails string
		err   error
		kind  apierror.Kind
	}{
		{"replace", syscall.ENOSPC, apierror.DiskFull},
		{"replace", syscall.EIO, apierror.BackendFailed},
		{"names", syscall.ENOSPC, apierror.DiskFull},
		{"same", syscall.EIO, apierror.NotKnown},
		{"journal", syscall.ENOSPC, apierror.DiskFull},
	} {
		w := newWorld(t)
		_, err := w.Commit(context.Background(), w.mutate(rewrite.Update, "n", "gone.name", "x"))
		w.check(err)
		before := w.file("n.phext")
		r, after := w.batchOfAll()
		w.disk.set(test.fails, test.err)
		_, err = w.Commit(context.Background(), r)
		w.wantError(err, test.kind)
		w.disk.set(test.fails, nil)
		got := w.seen()
		if got != before && (got != after || test.kind != apierror.NotKnown) {
			t.Errorf("%s: %q", test.fails, got)
		}
		w.want(got)
		w.wantNames(got == after)
		w.restart()
		w.want(got)
	}
}

// TestABatchBesideABatchOfWrites waits for its turn, and nobody takes it along.
func TestABatchBesideABatchOfWrites(t *testing.T) {
	w := newWorld(t)
	unlock, err := w.Dirs.Of(w.tenant.DataDir).LockForWrite(context.Background(), w.tenant, w.mutate(rewrite.Update, "n", scroll(1), "").Call)
	w.check(err)
	var all []<-chan error
	for n := range 6 {
		all = append(all, w.begin(w.mutate(rewrite.Insert, "n", scroll(1), "+")))
		if n%2 == 0 {
			all = append(all, w.begin(w.batch(op("insert", scroll(1), "-"), op("insert", scroll(2), "-"))))
		}
	}
	unlock()
	for _, done := range all {
		select {
		case err := <-done:
			w.check(err)
		case <-time.After(time.Minute):
			t.Fatal("it hangs")
		}
	}
	one, _ := phext.Parse(w.seen()).Select(phext.Origin())
	if two, _ := phext.Parse(w.seen()).Select(phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 2}); strings.Count(one, "+") != 6 || strings.Count(one, "-") != 3 || two != "two---" {
		t.Errorf("%q, %q", one, two)
	}
	w.want(w.file("n.phext"))
}

// TestABatchThatTheBucketDoesNotTake is not seen by anybody.
func TestABatchThatTheBucketDoesNotTake(t *testing.T) {
	w := newWorldWith(t, newBucketWorld(t))
	groups := 0
	for r, err := range w.bucket.directory("reader").Read(context.Background(), 0, w.logEnd()) {
		w.check(err)
		groups += len(r.Groups)
	}
	w.mustBatch(op("update", scroll(1), "ONE"), op("update", scroll(2), "TWO"))
	w.wantLog("ONE\x17TWO\x17three")
	for r, err := range w.bucket.directory("reader").Read(context.Background(), 0, w.logEnd()) {
		w.check(err)
		groups -= len(r.Groups)
		if n := len(r.Groups); n > 0 && r.Seq == w.logEnd() && len(r.Groups[n-1].Mutations) != 2 {
			t.Errorf("the last group has %d mutations", len(r.Groups[n-1].Mutations))
		}
	}
	if groups != -1 {
		t.Errorf("a batch is %d groups", -groups)
	}
}

func (w *world) logEnd() uint64 {
	w.Helper()
	end, err := w.bucket.directory("reader").End(context.Background())
	w.check(err)
	return end
}
