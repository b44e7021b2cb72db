package datadir

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
)

// write makes the files what texts say, as a commit does it: readers see them
// as they were, and then all at once.
func (w *world) write(texts map[string]string) {
	w.Helper()
	before, after := map[string]*cache.Version{}, map[string]*cache.Version{}
	for file := range texts {
		v, err := w.File(w.path(file))
		w.check(err)
		before[w.path(file)] = v
	}
	frozen := w.Cache.Freeze(before)
	for file, text := range texts {
		w.put(file, text)
		id, err := fsutil.Identify(w.path(file))
		w.check(err)
		after[w.path(file)] = cache.NewVersion(text, id)
	}
	frozen.Publish(after)
}

// TestANameIsNeverLookedUpInAnotherState has one name wander from scroll to
// scroll: whoever reads by name gets the scroll that has it.
func TestANameIsNeverLookedUpInAnotherState(t *testing.T) {
	w := newWorld(t)
	states := []map[string]string{}
	for i := range 3 {
		gap := strings.Repeat("\x17", i)
		states = append(states, map[string]string{
			"n.phext":       gap + "the one",
			"n.names.phext": gap + "a.name",
		})
	}
	w.write(states[0])
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					if n > 0 {
						return
					}
				default:
				}
				call := w.call("select", "p=n&c=a.name")
				v, err := w.dir.RecoveredView(t.Context(), call)
				if err == nil {
					err = v.Resolve(call)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if text, ok := v.Phext.Phext.Select(call.At); !ok || text != "the one" {
					t.Errorf("%q at %v", text, call.At)
					return
				}
			}
		})
	}
	for i := range 300 {
		w.write(states[i%len(states)])
	}
	close(done)
	readers.Wait()
}

// TestNamesAreReadOnlyWhereTheyMatter.
func TestNamesAreReadOnlyWhereTheyMatter(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "one")
	w.put("n.names.phext", "\xff") // would be an error
	for op, wants := range map[string]bool{"select": false, "get": false, "checksum": false, "status": false, "toc": true, "json-export": true, "delta": true} {
		_, err := w.dir.RecoveredView(t.Context(), w.call(op, "p=n"))
		if (err != nil) != wants {
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n&c=a.name")); err == nil {
		t.Error("a name was looked up in no names")
	}
}

func TestResolve(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "one\x17\x17three")
	w.put("n.names.phext", "first\x17second\x17third")
	for _, test := range []struct {
		name string
		at   phext.Coordinate // zero: an error
	}{
		{"first", phext.Origin()},
		{"second", phext.Coordinate{}}, // its scroll is gone
		{"third", phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 3}},
		{"fourth", phext.Coordinate{}},
	} {
		call := w.call("select", "p=n&c="+test.name)
		v, err := w.dir.RecoveredView(t.Context(), call)
		w.check(err)
		err = v.Resolve(call)
		if test.at == (phext.Coordinate{}) {
			w.wantError(err, apierror.NotFound, test.name)
		} else if err != nil || call.At != test.at {
			t.Errorf("%s: %v, %v", test.name, call.At, err)
		}
	}
	call := &rewrite.Call{Op: rewrite.Delta, Phext: "n", Manifest: []rewrite.ManifestLine{{Name: "third", Hash: "a"}, {Name: "fourth", Hash: "b"}, {Hash: "c"}}}
	v, err := w.dir.View(w.call("delta", "p=n"))
	w.check(err)
	w.check(v.Resolve(call))
	if m := call.Manifest; m[0].Name != "" || m[0].At != (phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 3}) || m[1].Name != "fourth" || m[2].Name != "" {
		t.Errorf("%+v", m)
	}
}

// TestFilesThatAreNotFit are an error that says why, and names no path.
func TestFilesThatAreNotFit(t *testing.T) {
	for _, test := range []struct {
		name  string
		make  func(w *world) error
		words string
	}{
		{"not UTF-8", func(w *world) error { return os.WriteFile(w.path("n.phext"), []byte("caf\xe9"), 0o600) }, "UTF-8"},
		{"too large", func(w *world) error {
			w.put("n.phext", "")
			return os.Truncate(w.path("n.phext"), cache.Largest+1)
		}, "larger than"},
		{"a directory", func(w *world) error { return os.Mkdir(w.path("n.phext"), 0o700) }, "regular"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.check(test.make(w))
			_, _, checked := w.dir.CheckForSQ(w.path("n.phext"))
			_, viewed := w.dir.RecoveredView(t.Context(), w.call("select", "p=n"))
			for _, err := range []error{checked, viewed} {
				w.wantError(err, apierror.BackendFailed, test.words)
				if strings.Contains(fmt.Sprint(err), w.root) {
					t.Errorf("a caller is told of a path: %v", err)
				}
			}
		})
	}
}

// TestFilesAreReadWithinTheMemoryForAnswers.
func TestFilesAreReadWithinTheMemoryForAnswers(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	w.check(w.dir.Recover(t.Context()))
	const need = 4 + phext.ScrollSize                        // a text and one scroll
	if !w.dir.memory.Take(w.dir.memory.Limit() - need + 1) { // one byte less than is needed
		t.Fatal("somebody holds memory")
	}
	if _, err := w.File(w.path("n.phext")); err != ErrBusy {
		t.Errorf("%v", err)
	}
	w.dir.memory.Give(1)
	v, err := w.File(w.path("n.phext"))
	w.check(err)
	if v.Text() != "text" {
		t.Errorf("%q", v.Text())
	}
	if !w.dir.memory.Take(need) { // what it took was given back
		t.Error("memory is still held")
	}
}

// TestScrollsAreReadWithinTheMemoryForAnswers reads a file of scrolls of one byte each,
// which take far more memory than the file has bytes.
func TestScrollsAreReadWithinTheMemoryForAnswers(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", strings.Repeat(strings.Repeat("x\x17", 900)+"\x18", 300))
	w.check(w.dir.Recover(t.Context()))
	spare := 270_000 * phext.ScrollSize / 2
	if !w.Answers.Take(w.Answers.Limit() - spare) {
		t.Fatal("somebody holds memory")
	}
	if _, err := w.File(w.path("n.phext")); err != ErrBusy {
		t.Errorf("%v", err)
	}
	w.Answers.Give(w.Answers.Limit() - spare)
	if v, err := w.File(w.path("n.phext")); err != nil || v.Phext.Len() != 270_000 {
		t.Errorf("%v", err)
	}
}

// TestAnEditByHandIsJournalled once, and only of a file that the journal knows.
func TestAnEditByHandIsJournalled(t *testing.T) {
	w := newWorld(t)
	w.check(w.dir.Recover(t.Context()))
	j, err := w.JournalOf(w.dir)
	w.check(err)
	record := func(text string) {
		t.Helper()
		w.put("n.phext", text)
		v, err := w.File(w.path("n.phext"))
		w.check(err)
		for range 2 {
			w.check(RecordEdit(j, "n.phext", v))
		}
	}
	events := func() string {
		all, err := j.History(journal.Query{})
		w.check(err)
		var ops []string
		for _, e := range all {
			ops = append(ops, e.Op)
		}
		return strings.Join(ops, " ")
	}
	record("of no interest")
	if got := events(); got != "" {
		t.Errorf("of a file that it does not know: %s", got)
	}
	call := w.call("select", "p=n")
	v, err := w.dir.View(call)
	w.check(err)
	m := mutation("n.phext", call.At, "one")
	pending, err := j.Begin(m, once(v))
	w.check(err)
	w.put("n.phext", "one")
	id, err := fsutil.Identify(w.path("n.phext"))
	w.check(err)
	w.check(pending.Done(id))
	now, err := w.File(w.path("n.phext"))
	w.check(err)
	w.check(RecordEdit(j, "n.phext", now))
	if got := events(); got != "update" {
		t.Errorf("of what it did itself: %s", got)
	}
	record("by another's hand")
	if got := events(); got != "update edited" {
		t.Errorf("after an edit: %s", got)
	}
}

func TestSizeOf(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	v, err := w.File(w.path("n.phext"))
	w.check(err)
	if SizeOf(v) != 4 || SizeOf(w.MissingView().Phext) != -1 {
		t.Errorf("%d and %d", SizeOf(v), SizeOf(w.MissingView().Phext))
	}
}

// TestOneDirectoryLeavesMemoryToOthers takes all that one directory may have. Another one
// can be read all the same.
func TestOneDirectoryLeavesMemoryToOthers(t *testing.T) {
	w := newWorld(t)
	other := w.Of(filepath.Join(w.root, "other"))
	w.check(os.Mkdir(other.Path, 0o700))
	w.check(os.WriteFile(filepath.Join(other.Path, "n.phext"), []byte(strings.Repeat("x", 2<<20)), 0o600)) // more than the cache keeps
	w.put("n.phext", strings.Repeat("x", 2<<20))
	const step = 8 << 20
	var all []func()
	for {
		release, err := w.dir.Admit(step)
		if err != nil {
			if err != ErrBusy {
				t.Error(err)
			}
			break
		}
		all = append(all, release)
	}
	for range 4 { // what it may have is no whole number of steps
		release, err := w.dir.Admit(2 << 20)
		if err != nil {
			break
		}
		all = append(all, release)
	}
	if _, err := w.File(w.path("n.phext")); err != ErrBusy {
		t.Errorf("the directory has more than its part: %v", err)
	}
	if _, err := w.File(filepath.Join(other.Path, "n.phext")); err != nil {
		t.Errorf("the other one: %v", err)
	}
	body := reserveBody(other, "", "other")
	if !body.Grow(w.MaxBody) {
		t.Error("the other one finds no room for a body")
	}
	body.Release()
	for _, release := range all {
		release()
	}
	if _, err := w.File(w.path("n.phext")); err != nil {
		t.Error(err)
	}
}

// TestWhatNeverFitsIsRefusedForGood, and not to be tried again.
func TestWhatNeverFitsIsRefusedForGood(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", strings.Repeat("x", 2<<20))
	v, err := w.File(w.path("n.phext"))
	w.check(err)
	_, err = w.dir.Admit(w.mostOfOne + 1)
	w.wantError(err, apierror.TooLarge, "memory")
	_, err = w.dir.AdmitBeside(w.mostOfOne-1<<20, View{Phext: v})
	w.wantError(err, apierror.TooLarge, "memory")
	release, err := w.dir.AdmitBeside(w.mostOfOne-3<<20, View{Phext: v})
	w.check(err)
	release()
}

// TestAPartIsUsedWithItsWhole, of which all who use parts have one.
func TestAPartIsUsedWithItsWhole(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", strings.Repeat("x", 2*uncounted))
	whole, err := w.File(w.path("n.phext"))
	w.check(err)
	want := whole.Memory()
	for range 2 {
		part := cache.PartOf(whole, whole.Phext)
		done, err := w.dir.Use(View{Phext: part})
		w.check(err)
		defer done()
		want += part.Memory()
	}
	if got := w.Answers.Above(0); got != want {
		t.Errorf("%d bytes count, want %d", got, want)
	}
}

// TestTheCacheGivesWay to others who need its memory, and has it again afterwards.
func TestTheCacheGivesWay(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	kept := func() int64 {
		_, err := w.File(w.path("n.phext"))
		w.check(err)
		return w.Cache.Stats().Versions
	}
	if kept() != 1 {
		t.Fatal("it is not kept")
	}
	almost := w.Answers.Limit() - w.ReadMemory
	if w.Answers.Take(almost); w.Cache.Stats().Versions != 1 {
		t.Error("it is gone, though nobody needs its memory")
	}
	w.Answers.Take(w.ReadMemory - 1<<10)
	if w.Cache.Stats().Versions != 0 || kept() != 0 {
		t.Error("both together take more than there is")
	}
	w.Answers.Give(almost + w.ReadMemory - 1<<10)
	if kept() != 1 {
		t.Error("it is not kept again")
	}
}

// TestLargeFilesAreRecoveredOneAfterTheOther, and count as memory meanwhile.
func TestLargeFilesAreRecoveredOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "")
	w.check(os.Truncate(w.path("n.phext"), largeFile))
	release, err := w.dir.reserveRecovery(t.Context())
	w.check(err)
	if got := w.Answers.Above(0); got != largeFile {
		t.Errorf("%d bytes count", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.dir.reserveRecovery(ctx); err == nil {
		t.Error("two at a time")
	}
	release()
	if release, err = w.dir.reserveRecovery(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	if got := w.Answers.Above(0); got != 0 {
		t.Errorf("%d bytes are not given back", got)
	}
}
