package reader

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestForwards: SQ answers only where no memory is set aside for reads, and
// only what it gets right.
func TestForwards(t *testing.T) {
	forwards, keeps := newWorld(t, 0), newWorld(t, 1)
	for op, want := range map[string]bool{
		"select": true, "get": true, "checksum": true, "load": true,
		"status": false, "toc": false, "json-export": false, "delta": false,
	} {
		if got := forwards.Forwards(forwards.call(op, "")); got != want {
			t.Errorf("%s: %v", op, got)
		}
		if keeps.Forwards(keeps.call(op, "")) {
			t.Errorf("%s: although there is memory", op)
		}
	}
	if forwards.Forwards(forwards.call("select", "c=a.name")) {
		t.Error("SQ knows nothing of names")
	}
}

func (w *world) wantForwarded(query, text string) {
	w.Helper()
	resp, err := w.forward(w.call("select", query))
	w.check(err)
	body, err := io.ReadAll(resp.Body)
	w.check(errors.Join(err, resp.Body.Close()))
	if string(body) != text || resp.StatusCode != 200 || resp.ContentLength != int64(len(text)) || len(resp.Header) > 0 {
		w.Errorf("%s: %q, %+v", query, body, resp)
	}
}

// TestForward looks at what SQ answers, and has SQ read again what it has not seen.
func TestForward(t *testing.T) {
	w := newWorld(t, 0)
	const third = "c=1.1.1/1.1.1/1.1.3"
	w.wantForwarded(third, "the scroll")
	w.put("notes.phext", "\x17\x17by another's hand") // SQ would answer from memory
	w.wantForwarded(third, "by another's hand")
	w.wantForwarded(third, "by another's hand")

	// SQ did not come to read it: the next call must have it do so.
	w.put("notes.phext", "\x17\x17by hand again")
	w.sq.err = errors.New("no child")
	if _, err := w.forward(w.call("select", third)); !errors.Is(err, w.sq.err) {
		t.Errorf("%v", err)
	}
	w.sq.err = nil
	w.wantForwarded(third, "by hand again")

	// What SQ has seen, it is not asked to read again: it answers from memory.
	w.put("notes.phext", "\x17\x17not yet seen")
	id, err := fsutil.Identify(w.path("notes.phext"))
	w.check(err)
	w.dir.NoteSeen(w.path("notes.phext"), id, false)
	w.wantForwarded(third, "by hand again")
	if len(w.sq.retired) > 0 {
		t.Errorf("a child that is well was stopped: %v", w.sq.retired)
	}
	w.wantUsed(0)
}

// TestForwardOfAMissingFile makes no request, since SQ would make a file.
func TestForwardOfAMissingFile(t *testing.T) {
	w := newWorld(t, 0)
	w.wantForwarded("p=none&c=1.1.1/1.1.1/1.1.3", "")
	resp, err := w.forward(w.call("status", "p=none"))
	w.check(err)
	if body, err := io.ReadAll(resp.Body); string(body) != "Hosting: none\nConnection ID: 0\nPhext Size: 0\nScrolls: 1" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if w.sq.lent != 0 {
		t.Errorf("%d children were leased", w.sq.lent)
	}
	if _, err := os.Stat(w.path("none.phext")); !os.IsNotExist(err) {
		t.Errorf("a read has made a file: %v", err)
	}
}

// TestForwardKeepsNoLock while its answer is sent, and none when it fails. What
// it took of memory is given back when the answer was sent.
func TestForwardKeepsNoLock(t *testing.T) {
	w := newWorld(t, 0)
	free := func(when string) {
		t.Helper()
		unlock, err := w.Dirs.LockExclusive(t.Context(), w.dir.Path)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		unlock()
	}
	resp, err := w.forward(w.call("get", ""))
	w.check(err)
	free("before the answer is taken")
	if w.sq.at != 0 {
		t.Error("the child is still leased")
	}
	w.wantUsed(int64(len(notes)))
	if text, err := io.ReadAll(resp.Body); string(text) != notes || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	w.check(resp.Body.Close())
	w.wantUsed(0)

	resp, err = w.forward(w.call("get", "p=none"))
	w.check(err)
	free("of a missing file")
	w.check(resp.Body.Close())

	w.sq.err = errors.New("no child")
	if _, err := w.forward(w.call("get", "")); !errors.Is(err, w.sq.err) {
		t.Errorf("%v", err)
	}
	free("without a child")
	w.put("notes.phext", "caf\xe9")
	_, err = w.forward(w.call("get", ""))
	w.wantError(err, apierror.BackendFailed)
	free("after a file that is not fit")
	w.wantUsed(0)
}

// TestForwardForgetsWhatSQHasInMemory: a write that would rely on it has to
// have SQ read its phext again.
func TestForwardForgetsWhatSQHasInMemory(t *testing.T) {
	w := newWorld(t, 0)
	w.dir.NoteLoaded(1, w.path("other.phext"))
	w.wantForwarded("p=none", "")
	if !w.dir.HasLoaded(1, w.path("other.phext")) {
		t.Error("SQ was not asked, and yet it is forgotten")
	}
	w.wantForwarded("c=1.1.1/1.1.1/1.1.3", "the scroll")
	if w.dir.HasLoaded(1, w.path("other.phext")) {
		t.Error("SQ has another phext in memory now")
	}
}

// TestForwardWaitsForItsTurn, and ends with its context before that.
func TestForwardWaitsForItsTurn(t *testing.T) {
	w := newWorld(t, 0)
	unlock, err := w.Dirs.LockExclusive(t.Context(), w.dir.Path)
	w.check(err)
	gone, cancel := context.WithCancel(t.Context())
	waiting := &noticing{Context: gone, noticed: make(chan struct{})}
	go func() { <-waiting.noticed; cancel() }()
	if _, err := w.forwardWithin(waiting, w.call("get", "")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}

	waiting = &noticing{Context: t.Context(), noticed: make(chan struct{})}
	done := make(chan string, 1)
	go func() {
		resp, err := w.forwardWithin(waiting, w.call("get", ""))
		if err != nil {
			done <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body) // it is in memory
		_ = resp.Body.Close()            // never fails
		done <- string(body)
	}()
	<-waiting.noticed
	if w.sq.lent > 0 {
		t.Error("a child was leased before it was its turn")
	}
	w.put("notes.phext", "written meanwhile")
	unlock()
	if got := <-done; got != "written meanwhile" {
		t.Errorf("%q", got)
	}
}
