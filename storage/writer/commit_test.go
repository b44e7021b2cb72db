package writer

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

func TestCommit(t *testing.T) {
	for _, test := range []struct {
		name   string
		step   step
		answer string
		etag   string // of this text; "-" = none
		file   string
	}{
		{"update", update(2, "changed"), "Updated 7 bytes", "changed", "one\x17changed\x17three"},
		{"insert", step{rewrite.Insert, scroll(2), "!"}, "Inserted 1 bytes", "two!", "one\x17two!\x17three"},
		{"insert where nothing is", step{rewrite.Insert, scroll(4), "four"}, "Inserted 4 bytes", "four", start + "\x17four"},
		{"delete", step{rewrite.Delete, scroll(2), ""}, "Removed 3 bytes", "-", "one\x17\x17three"},
		{"delete where nothing is", step{rewrite.Delete, scroll(9), ""}, "Removed 0 bytes", "-", start},
		{"empty", update(3, ""), "Updated 0 bytes", "-", "one\x17two"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			result, err := w.commit(test.step)
			want := ""
			if test.etag != "-" {
				want = etag.Of(test.etag)
			}
			if err != nil || string(result.Body) != test.answer || !result.Changed || result.ETag != want || result.QuotaUsed <= 0 {
				t.Errorf("%+v (%s), %v", result, result.Body, err)
			}
			w.want(test.file)
			w.restart()
			w.want(test.file)
		})
	}
}

// TestTheFileIsRecreated looks at which file a write leaves: SQ makes a new one
// where nobody can tell the difference, and writes over the old one elsewhere.
func TestTheFileIsRecreated(t *testing.T) {
	inode := func(w *world) uint64 {
		id, err := fsutil.Identify(w.path("n.phext"))
		if err != nil {
			w.Fatal(err)
		}
		return id.Ino
	}
	for _, test := range []struct {
		name     string
		prepare  func(w *world)
		recreate bool
	}{
		{"as a rule", func(*world) {}, true},
		{"a mode of its own", func(w *world) { w.check(os.Chmod(w.path("n.phext"), 0o600)) }, false},
		{"a second name", func(w *world) { w.check(os.Link(w.path("n.phext"), w.path("other"))) }, false},
		{"a tight disk", func(w *world) { w.disk.set("space", syscall.ENOSPC) }, false},
		{"the old file cannot be renamed", func(w *world) { w.disk.set("rename aside", syscall.EACCES) }, false},
		{"a checkpoint that is not on the disk", func(w *world) { w.restart(); w.seen() }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.must(update(1, "ready")) // the checkpoint is on the disk now
			test.prepare(w)
			// The name keeps the old file, and its number, from being used again.
			w.check(os.Link(w.path("n.phext"), w.path("kept")))
			if test.name != "a second name" {
				w.check(os.Remove(w.path("kept")))
			}
			held, err := os.Open(w.path("n.phext"))
			w.check(err)
			defer held.Close()
			before := inode(w)
			w.must(update(1, "changed"))
			if got := inode(w) != before; got != test.recreate {
				t.Errorf("a new file: %v, want %v", got, test.recreate)
			}
			if got := w.file("n.phext"); got != "changed\x17two\x17three" {
				t.Errorf("it holds %q", got)
			}
		})
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// TestRefusals are commits that end before SQ is asked: nothing has happened.
func TestRefusals(t *testing.T) {
	full := errors.New("the disk is broken")
	for _, test := range []struct {
		name    string
		prepare func(w *world, r *Request)
		kind    apierror.Kind
	}{
		{"If-Match names another state", func(_ *world, r *Request) { r.IfMatch = []string{`"another"`} }, apierror.Precondition},
		{"If-Match is weak, of another state", func(_ *world, r *Request) { r.IfMatch = []string{"W/" + etag.Of("two")} }, apierror.Precondition},
		{"the Idempotency-Key is too long", func(_ *world, r *Request) { r.IdempotencyKey = strings.Repeat("k", 256) }, apierror.BadRequest},
		{"the quota is used up", func(w *world, r *Request) { *r = w.mutate(rewrite.Update, "n", scroll(1), strings.Repeat("x", 1<<20)) }, apierror.QuotaExceeded},
		{"the journal's disk fails", func(w *world, _ *Request) { w.disk.set("journal", full) }, apierror.BackendFailed},
		{"no child starts", func(w *world, _ *Request) { w.sq.leaseErr = full }, apierror.BackendFailed},
		{"two children accept no connection", func(w *world, _ *Request) { w.sq.refuse = 2 }, apierror.BackendFailed},
		{"the tenant's journals are closed", func(w *world, _ *Request) { w.check(w.journal.Close()) }, apierror.BackendFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.mutate(rewrite.Update, "n", scroll(1), "changed")
			test.prepare(w, &r)
			w.during(nil, func() {
				_, err := w.Commit(t.Context(), r)
				w.wantError(err, test.kind)
			})
			if len(w.sq.exchanges) > 0 {
				t.Errorf("SQ was asked for %v", w.sq.exchanges)
			}
			w.restart()
			w.want(start)
			w.must(update(1, "after"))
			w.want("after\x17two\x17three")
		})
	}
}

func TestAChildThatAcceptsNoConnectionHasSeenNothing(t *testing.T) {
	w := newWorld(t)
	w.sq.refuse = 1
	w.must(update(1, "changed"))
	w.want("changed\x17two\x17three")
}

func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	r := w.mutate(rewrite.Update, "n", scroll(1), "changed")
	r.IfMatch = []string{etag.Of("one")}
	if _, err := w.Commit(t.Context(), r); err != nil {
		t.Error(err)
	}
	for name, r := range map[string]Request{
		"a scroll that does not exist": w.mutate(rewrite.Update, "n", scroll(7), "new"),
		"a phext that does not exist":  w.mutate(rewrite.Delete, "m", scroll(1), ""),
		"a name that does not exist":   w.mutate(rewrite.Delete, "n", "a.name", ""),
	} {
		r.IfMatch = []string{"*"}
		if _, err := w.Commit(t.Context(), r); !errors.Is(err, errChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.want("changed\x17two\x17three")
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	insert := func(text string) (Result, error) {
		r := w.mutate(rewrite.Insert, "n", scroll(1), text)
		r.IdempotencyKey = "a key"
		return w.Commit(t.Context(), r)
	}
	for range 2 {
		if result, err := insert("!"); err != nil || string(result.Body) != "Inserted 1 bytes" {
			t.Errorf("%s, %v", result.Body, err)
		}
		w.want("one!\x17two\x17three")
	}
	if _, err := insert("?"); !errors.Is(err, datadir.ErrKeyReused) {
		t.Errorf("another request: %v", err)
	}
	w.restart()
	if result, err := insert("!"); err != nil || string(result.Body) != "Inserted 1 bytes" || result.Changed {
		t.Errorf("after a start: %+v, %v", result, err)
	}
	w.want("one!\x17two\x17three")
}

// TestAnEditByHand is not written over, and becomes part of the history.
func TestAnEditByHand(t *testing.T) {
	w := newWorld(t)
	w.check(os.WriteFile(w.path("n.phext"), []byte("by hand\x17two"), 0o644))
	w.must(update(2, "changed"))
	w.want("by hand\x17changed")
	j, err := w.journal.Of(w.Dirs.Of(w.tenant.DataDir).Path)
	w.check(err)
	events, err := j.History(journal.Query{File: "n.phext"})
	w.check(err)
	if n := len(events); n < 2 || events[n-2].Op != "edited" {
		t.Errorf("the history ends with %+v", events[max(0, n-2):])
	}
}

// hangUp ends an exchange without an answer.
func hangUp(a *attack) { _ = a.conn.SetLinger(0) }

const said = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nUpdated 7 bytes"

// TestWhatSQMayDo has SQ spoil a write in every way. The answer is true, the
// file is whole, and the next write finds everything in order.
func TestWhatSQMayDo(t *testing.T) {
	const changed = "changed\x17two\x17three"
	for _, test := range []struct {
		name  string
		spoil func(a *attack)
		kind  *apierror.Kind // nil = it is acknowledged
		file  string
	}{
		{"it hangs up before it writes", hangUp, &apierror.BackendFailed, start},
		{"it hangs up after it has written", func(a *attack) { a.pass(); hangUp(a) }, nil, changed},
		{"it hangs up in the middle of the write", func(a *attack) { a.tear("changed\x17t"); hangUp(a) }, &apierror.BackendFailed, start},
		{"it hangs up when it has truncated the file", func(a *attack) { a.tear(""); hangUp(a) }, &apierror.BackendFailed, start},
		{"it answers in part", func(a *attack) { a.answer(a.pass()[:10]) }, nil, changed},
		{"it answers with garbage", func(a *attack) { a.pass(); a.answer([]byte("garbage\r\n\r\n")) }, nil, changed},
		{"it answers 500 and has written", func(a *attack) { a.pass(); a.answer([]byte("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) }, nil, changed},
		{"it answers 400 and has not", func(a *attack) { a.answer([]byte("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")) }, &apierror.BackendFailed, start},
		{"it answers 401", func(a *attack) { a.answer([]byte("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")) }, &apierror.BackendFailed, start},
		{"it says 200 and has done nothing", func(a *attack) { a.answer([]byte(said)) }, &apierror.BackendFailed, start},
		{"it says 200 and has written a part", func(a *attack) { a.tear("changed\x17two\x17"); a.answer([]byte(said)) }, &apierror.BackendFailed, start},
		{"it says 200 and has written something else", func(a *attack) { a.tear("changes\x17two\x17three"); a.answer([]byte(said)) }, &apierror.BackendFailed, start},
		{"it says 200 and the file is gone", func(a *attack) { a.pass(); _ = os.Remove(a.path()); a.answer([]byte(said)) }, &apierror.BackendFailed, start},
	} {
		for _, way := range []string{"recreate", "truncate"} {
			t.Run(test.name+", "+way, func(t *testing.T) {
				w := newWorld(t)
				if way == "truncate" {
					w.check(os.Chmod(w.path("n.phext"), 0o640))
					w.must(update(3, "three"))
				}
				w.during(test.spoil, func() {
					result, err := w.commit(update(1, "changed"))
					switch {
					case test.kind != nil:
						w.wantError(err, *test.kind)
					case err != nil || string(result.Body) != "Updated 7 bytes" || !result.Changed:
						t.Errorf("%+v (%s), %v", result, result.Body, err)
					}
				})
				if len(w.sq.exchanges) == 0 {
					t.Error("SQ was not asked")
				}
				w.want(test.file)
				w.must(update(2, "next"))
				after := strings.Replace(test.file, "two", "next", 1)
				w.want(after)
				w.restart()
				w.want(after)
			})
		}
	}
}

// tear leaves a text in the file, as an interrupted write of SQ does.
func (a *attack) tear(text string) {
	if err := os.WriteFile(a.path(), []byte(text), 0o666); err != nil {
		a.sq.Error(err)
	}
}

// TestAClientThatLeaves ends the client's context while SQ writes: the write is
// seen to its end.
func TestAClientThatLeaves(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.during(func(a *attack) { cancel(); a.answer(a.pass()) }, func() {
		if _, err := w.Commit(ctx, w.mutate(rewrite.Update, "n", scroll(1), "changed")); err != nil {
			t.Error(err)
		}
	})
	w.want("changed\x17two\x17three")
}

// TestAnSQThatDoesNotAnswer is given up after the timeout. Then the file decides.
func TestAnSQThatDoesNotAnswer(t *testing.T) {
	silent := func(a *attack) { _, _ = a.conn.Read(make([]byte, 1)) } // until the gateway gives up
	for _, test := range []struct {
		name  string
		spoil func(*attack)
		kind  *apierror.Kind
		file  string
	}{
		{"it has written", func(a *attack) { a.pass(); silent(a) }, nil, "changed\x17two\x17three"},
		{"it has not", silent, &apierror.BackendTimeout, start},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.Writer.timeout = 50 * time.Millisecond
			w.during(test.spoil, func() {
				_, err := w.commit(update(1, "changed"))
				switch {
				case test.kind != nil:
					w.wantError(err, *test.kind)
				case err != nil:
					t.Error(err)
				}
			})
			w.want(test.file)
		})
	}
}

// TestWhatTheDiskMayDo lets every operation on the disk fail, with an SQ that is
// well and with one that fails in the middle of the write.
func TestWhatTheDiskMayDo(t *testing.T) {
	broken := &os.PathError{Op: "test", Path: "the disk", Err: syscall.EIO}
	const changed = "changed\x17two\x17three"
	torn := func(a *attack) { a.tear("chan"); hangUp(a) }
	for _, test := range []struct {
		name      string
		operation string
		spoil     func(*attack)
		kind      *apierror.Kind
		now       string // what readers see once the disk is well again; "" = either state
	}{
		{"the file cannot be looked at", "same", nil, &apierror.NotKnown, ""},
		{"nor after SQ has failed", "same", torn, &apierror.NotKnown, ""},
		{"the child cannot be stopped", "stop", torn, &apierror.NotKnown, ""},
		{"the old file cannot be renamed aside", "rename aside", nil, nil, changed},
		{"the old file cannot be renamed back", "rename back", torn, &apierror.BackendFailed, start},
		{"the old file cannot be removed", "remove before", nil, nil, changed},
		{"the restored file cannot be identified", "identify", torn, &apierror.BackendFailed, start},
		{"the journal cannot be synced", "sync", nil, &apierror.NotKnown, changed},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.disk.set(test.operation, broken)
			w.during(test.spoil, func() {
				result, err := w.commit(update(1, "changed"))
				switch {
				case test.kind != nil:
					w.wantError(err, *test.kind)
				case err != nil || !result.Changed:
					t.Errorf("%+v, %v", result, err)
				}
			})
			w.disk.set(test.operation, nil)
			if got := w.seen(); got != test.now && (test.now != "" || got != start && got != changed) {
				t.Errorf("readers see %q, want %q", got, test.now)
			}
			after := w.seen()
			w.want(after)
			w.restart()
			w.want(after)
			w.must(update(2, "next"))
			w.want(strings.Replace(after, "two", "next", 1))
		})
	}
}

// TestTheJournalFailsAfterSQ lets the records fail that end a write.
func TestTheJournalFailsAfterSQ(t *testing.T) {
	broken := errors.New("the journal's disk is broken")
	for _, test := range []struct {
		name  string
		spoil func(w *world, a *attack)
		kind  *apierror.Kind
		now   string
	}{
		{"the write stands", func(w *world, a *attack) {
			b := a.pass()
			w.disk.set("journal", broken)
			a.answer(b)
		}, nil, "changed\x17two\x17three"},
		{"the write does not stand", func(w *world, a *attack) {
			a.tear("chan")
			w.disk.set("journal", broken)
			hangUp(a)
		}, &apierror.NotKnown, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.during(func(a *attack) { test.spoil(w, a) }, func() {
				_, err := w.commit(update(1, "changed"))
				switch {
				case test.kind != nil:
					w.wantError(err, *test.kind)
				case err != nil:
					t.Error(err)
				}
			})
			w.disk.set("journal", nil)
			w.restart()
			got := w.seen()
			if test.now != "" && got != test.now {
				t.Errorf("after a start: %q, want %q", got, test.now)
			}
			if got != start && got != "changed\x17two\x17three" {
				t.Errorf("after a start: %q", got)
			}
			w.want(got)
		})
	}
}

// TestTheStateDiskIsFull answers that the disk is full, and changes nothing.
func TestTheStateDiskIsFull(t *testing.T) {
	for _, operation := range []string{"journal", "sync"} {
		w := newWorld(t)
		if err := os.WriteFile(w.path("m.phext"), []byte("by hand"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.disk.set(operation, syscall.ENOSPC)
		_, err := w.Commit(context.Background(), w.mutate(rewrite.Update, "m", scroll(1), "refused"))
		kind := apierror.DiskFull
		if operation == "sync" { // nor can it be noted that the write was refused
			kind = apierror.NotKnown
		}
		w.wantError(err, kind)
		w.disk.set(operation, nil)
		w.want(start)
	}
}

// TestTheJournalCannotBeSynced has writes that are refused while the journal's
// disk fails. Whether recovery makes them is not known, and the answer says so.
func TestTheJournalCannotBeSynced(t *testing.T) {
	broken := errors.New("the journal's disk is broken")
	t.Run("before SQ", func(t *testing.T) {
		w := newWorld(t)
		if err := os.WriteFile(w.path("m.phext"), []byte("by hand"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.disk.set("sync", broken)
		_, err := w.Commit(context.Background(), w.mutate(rewrite.Update, "m", scroll(1), "refused"))
		w.wantError(err, apierror.NotKnown)
		w.disk.set("sync", nil)
		w.want(start)
	})
	t.Run("after SQ", func(t *testing.T) {
		w := newWorld(t)
		w.during(func(a *attack) {
			a.tear("chan")
			w.disk.set("sync", broken)
			hangUp(a)
		}, func() {
			_, err := w.commit(update(1, "changed"))
			w.wantError(err, apierror.NotKnown)
		})
		w.disk.set("sync", nil)
		w.restart()
		if got := w.seen(); got != start && got != "changed\x17two\x17three" {
			t.Errorf("after a start: %q", got)
		}
	})
}

// TestACrashAtEveryStep ends a commit at each operation on the disk, as kill -9
// of sqgate does, and starts sqgate again, on the same boot and on another. What
// was acknowledged before stands, and the write is whole or not there.
func TestACrashAtEveryStep(t *testing.T) {
	const changed = "changed\x17two\x17three"
	steps := 0
	for crash := 1; ; crash++ {
		w := newWorld(t)
		w.disk.mu.Lock()
		w.disk.calls, w.disk.crash = 0, crash
		w.disk.mu.Unlock()
		done := func() (done bool) {
			defer func() {
				if r := recover(); r != nil && r != (errCrash{}) {
					panic(r)
				}
			}()
			_, err := w.commit(update(1, "changed"))
			w.check(err)
			return true
		}()
		if done {
			break
		}
		steps++
		for _, boot := range []string{"this boot", "the next boot"} {
			w.boot = boot
			w.restart()
			got := w.seen()
			if got != start && got != changed {
				t.Errorf("crash at operation %d, %s: %q", crash, boot, got)
			}
			w.want(got)
		}
		w.must(update(2, "next"))
		w.restart()
		if got := w.seen(); got != "one\x17next\x17three" && got != "changed\x17next\x17three" {
			t.Errorf("crash at operation %d, after the next write: %q", crash, got)
		}
	}
	if steps < 5 {
		t.Errorf("a commit has %d operations on the disk: this has shown little", steps)
	}
}

// TestACrashOfBoth ends sqgate while SQ is in the middle of its write.
func TestACrashOfBoth(t *testing.T) {
	for _, left := range []string{"-", "", "chan", "changed\x17two\x17three"} {
		w := newWorld(t)
		before := journal.BeforePath(w.path("n.phext"))
		w.during(func(a *attack) {
			if _, err := os.Stat(before); err != nil {
				t.Errorf("the old file is not there while SQ writes: %v", err)
			}
			if left != "-" {
				a.tear(left)
			}
			w.disk.set("stop", errors.New("killed")) // nothing is put right any more
			w.disk.set("journal", errors.New("killed"))
			hangUp(a)
		}, func() {
			_, err := w.commit(update(1, "changed"))
			w.wantError(err, apierror.NotKnown)
		})
		w.restart()
		got := w.seen()
		if got != start && got != "changed\x17two\x17three" {
			t.Errorf("SQ left %q: %q", left, got)
		}
		w.want(got)
	}
}

// TestReadersSeeWholeStates has SQ tear the file and reads it meanwhile.
func TestReadersSeeWholeStates(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640} { // recreated, truncated
		w := newWorld(t)
		w.check(os.Chmod(w.path("n.phext"), mode))
		w.must(update(3, "three"))
		w.during(func(a *attack) {
			a.tear("cha")
			if v, err := w.Dirs.File(w.path("n.phext")); err != nil || v.Text() != start {
				t.Errorf("mode %v: a reader sees %q, %v", mode, v.Text(), err)
			}
			a.answer(a.pass())
		}, func() { w.must(update(1, "changed")) })
		w.want("changed\x17two\x17three")
	}
}

// TestTwoPhextsInTurn has SQ load another phext between two writes of one. It
// must load the first again while its file is there, or it would write the file
// of an empty phext.
func TestTwoPhextsInTurn(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		for _, p := range []string{"n", "m"} {
			for _, text := range []string{string(rune('0' + i)), "."} {
				if _, err := w.Commit(t.Context(), w.mutate(rewrite.Insert, p, scroll(1), text)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	w.want("one0.1.2.3.4.5.\x17two\x17three")
	if got := w.file("m.phext"); got != "0.1.2.3.4.5." {
		t.Errorf("the other phext holds %q", got)
	}
}

// TestSQThatMakesNoFile is not given another chance: from then on it writes over
// the files of the directory. A write that was merely torn changes nothing.
func TestSQThatMakesNoFile(t *testing.T) {
	w := newWorld(t)
	w.must(update(1, "ready"))
	asides := func(spoil func(*attack)) (aside bool) {
		w.during(func(a *attack) {
			_, err := os.Stat(journal.BeforePath(a.path()))
			aside = err == nil
			spoil(a)
		}, func() { _, _ = w.commit(update(1, "changed")) }) // its outcome is TestWhatSQMayDo's
		w.must(update(2, "two")) // SQ reads the file again first
		return aside
	}
	gone := func(a *attack) { _ = os.Remove(a.path()); a.answer([]byte(said)) }
	well := func(a *attack) { a.answer(a.pass()) }
	if !asides(func(a *attack) { a.tear("ch"); hangUp(a) }) || !asides(well) {
		t.Error("after a torn write, files are written over")
	}
	if !asides(gone) || asides(well) || asides(gone) {
		t.Error("after a write that left no file, files are renamed aside")
	}
	if n := strings.Count(w.log.String(), "did not make a file"); n != 1 {
		t.Errorf("%d lines say so", n)
	}
}

// TestAFileThatCountsPast999 is not written: SQ would lose scrolls of it.
func TestAFileThatCountsPast999(t *testing.T) {
	w := newWorld(t)
	text := "head" + strings.Repeat("\x18", 1199) + "a\x18b\x18c"
	w.check(os.WriteFile(w.path("n.phext"), []byte(text), 0o644))
	for _, s := range []step{update(1, "changed"), {rewrite.Delete, scroll(1), ""}, {rewrite.Insert, "999.1.1/1.1.1/1.1.1", "x"}, named(rewrite.Update, "a.name", "x")} {
		_, err := w.commit(s)
		w.wantError(err, apierror.Conflict)
		if err == nil || !strings.Contains(err.Error(), "1.1.1/1.1.1/1.999.1") {
			t.Errorf("%s: it does not say which scrolls: %v", s.op, err)
		}
	}
	prefix, err := rewrite.ParsePrefix("1.1.1")
	w.check(err)
	for _, test := range []struct {
		scope rewrite.Scope
		told  bool // which scrolls they are
	}{
		{rewrite.Scope{Access: rewrite.WriteAccess, Guest: true}, true},
		{rewrite.Scope{Access: rewrite.WriteAccess, Phexts: []string{"n"}}, true}, // they are all its own
		{rewrite.Scope{Access: rewrite.WriteAccess, Prefix: &prefix}, false},
	} {
		r := w.mutate(rewrite.Update, "n", scroll(1), "changed")
		w.check(test.scope.Authorize(r.Call))
		_, err := w.Commit(t.Context(), r)
		if w.wantError(err, apierror.Conflict); err == nil || strings.Contains(err.Error(), "1.1.1/1.1.1/1.999.1") != test.told {
			t.Errorf("%+v is told %v", test.scope, err)
		}
	}
	w.want(text)
	if w.file("n.names.phext") != "-" {
		t.Error("a name was written")
	}
	text = "head" + strings.Repeat("\x18", 1199) + "only one" // counts past 999, and loses nothing
	w.check(os.WriteFile(w.path("n.phext"), []byte(text), 0o644))
	w.must(update(1, "changed"))
	w.want("changed" + strings.Repeat("\x18", 998) + "only one")
}

// TestDelimitersInATextAreStoredAsTheyAre, also at the end of the file, and if they
// count past 999, unless scrolls would be lost.
func TestDelimitersInATextAreStoredAsTheyAre(t *testing.T) {
	many := strings.Repeat("\x18", 1000)
	for text, lost := range map[string]bool{
		"x\x17": false, "\x17": false, "a\x18b\x17\x18": false, "h" + many + "x": false, "h" + many + "x\x18y": true,
	} {
		w := newWorld(t)
		w.tenant.AllowDelimiters = true
		w.must(update(3, ""))
		_, err := w.commit(update(2, text))
		want := "one\x17" + text
		if lost {
			want = "one\x17two"
			w.wantError(err, apierror.Conflict)
		} else if err != nil {
			t.Errorf("%.10q: %v", text, err)
		}
		w.want(want)
		if lost {
			continue
		}
		w.must(update(1, "uno")) // SQ reads the file again before
		w.want(phext.Parse(want).With(phext.Origin(), "uno").Render())
		w.restart()
		if got := w.seen(); got != w.file("n.phext") {
			t.Errorf("after a restart: %.20q", got)
		}
	}
}

// TestARefusedFirstWriteLeavesNoFile: SQ makes an empty file of a phext that it
// loads before it writes.
func TestARefusedFirstWriteLeavesNoFile(t *testing.T) {
	w := newWorld(t)
	w.during(hangUp, func() {
		_, err := w.Commit(t.Context(), w.mutate(rewrite.Update, "m", scroll(1), "x"))
		w.wantError(err, apierror.BackendFailed)
	})
	if got := w.file("m.phext"); got != "-" {
		t.Errorf("there is a file: %q", got)
	}
}

// TestAnEditAfterARefusedWrite is noticed although the refused write has given the
// newest segment a checkpoint of the file.
func TestAnEditAfterARefusedWrite(t *testing.T) {
	w := newWorld(t)
	w.check(os.WriteFile(w.path("m.phext"), []byte("copied in"), 0o644)) // the journal does not know it
	write := func() error {
		_, err := w.Commit(t.Context(), w.mutate(rewrite.Update, "m", scroll(2), "two"))
		return err
	}
	w.sq.leaseErr = errors.New("it does not start")
	w.wantError(write(), apierror.BackendFailed)
	w.sq.leaseErr = nil
	w.check(os.WriteFile(w.path("m.phext"), []byte("by hand"), 0o644))
	w.check(write())
	j, err := w.Dirs.JournalOf(w.Dirs.Of(w.tenant.DataDir))
	w.check(err)
	events, err := j.History(journal.Query{File: "m.phext"})
	w.check(err)
	for _, e := range events {
		if e.Op == "edited" {
			return
		}
	}
	t.Errorf("the edit is not in the history: %+v", events)
}

// TestAPanicLeavesTheDirectoryUsable, for the leader of a batch and the others.
func TestAPanicLeavesTheDirectoryUsable(t *testing.T) {
	w := newWorld(t)
	same := w.Writer.files.same
	w.Writer.files.same = func(string, *cache.Version, phext.Pace) (fsutil.FileID, bool, error) { panic("a bug") }
	func() {
		defer func() { _ = recover() }() // as a server does
		_, _ = w.commit(update(1, "changed"))
		t.Error("it did not panic")
	}()
	w.Writer.files.same = same
	got := w.seen()
	if got != start && got != "changed\x17two\x17three" {
		t.Errorf("readers see %q", got)
	}
	w.must(update(1, "next"))
	w.want("next\x17two\x17three")
}

// TestAJournalThatCannotBeWritten is named as the reason: the database is in order.
func TestAJournalThatCannotBeWritten(t *testing.T) {
	for range 2 {
		w := newWorld(t)
		w.disk.set("journal", syscall.EROFS)
		if _, err := w.commit(update(1, "changed")); !errors.Is(err, errNotRecorded) {
			t.Errorf("%v", err)
		}
		if !strings.Contains(w.log.String(), "read-only file system") {
			t.Errorf("the log: %s", w.log.String())
		}
		if err := w.NotRecorded(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("it says %v", err)
		}
		w.disk.set("journal", nil)
		w.must(update(1, "next"))
		w.want("next\x17two\x17three")
		if err := w.NotRecorded(); err != nil {
			t.Errorf("afterwards it says %v", err)
		}
	}
}

// TestAFullJournalDisk is 507, and not the database's fault.
func TestAFullJournalDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		w := newWorld(t)
		w.disk.set("journal", &os.PathError{Op: "write", Path: "segment", Err: full})
		_, err := w.commit(update(1, "changed"))
		w.wantError(err, apierror.DiskFull)
		w.disk.set("journal", nil)
		w.must(update(1, "next"))
		w.want("next\x17two\x17three")
	}
}
