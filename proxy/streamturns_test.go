package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/changes"
)

// TestTheCheckOfStreamsLeavesTheirTurnsAlone, since they may be waiting in line.
func TestTheCheckOfStreamsLeavesTheirTurnsAlone(t *testing.T) {
	w := newSharedWorld(t)
	w.change("notes.phext", phext.Origin(), "text")
	busy := w.queue.Turn("somebody")
	w.check(busy.Take(t.Context()))
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequest(http.MethodGet, "/api/v2/changes", nil).WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+key)
	turn := w.queue.Turn("")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = recover() }() // the answer is cut off
		w.Handler().ServeHTTP(httptest.NewRecorder(), r.WithContext(fairqueue.WithTurn(r.Context(), turn)))
	}()
	w.await(1)
	if turn.Owner() != "will" {
		t.Fatalf("owner %q", turn.Owner())
	}
	text, err := json.Marshal(map[string]any{"tenants": []any{map[string]any{"id": "william", "api_key": key, "data_dir": filepath.Join(w.root, "data")}}})
	w.check(err)
	w.check(os.WriteFile(filepath.Join(w.root, "tenants.json"), text, 0o600))
	w.check(w.store.Reload())
	w.checkStreams()
	if turn.Owner() != "will" {
		t.Errorf("the owner of a turn that is waited for became %q", turn.Owner())
	}
	leave()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("nobody can give or take a turn any more")
	}
	busy.Give()
}

// TestTheCheckOfAnEndedStreamLeavesTheNextRequestAlone, which is another caller's, on the same
// connection.
func TestTheCheckOfAnEndedStreamLeavesTheNextRequestAlone(t *testing.T) {
	w := newSharedWorld(t)
	w.change("notes.phext", phext.Origin(), "text")
	turn := w.queue.Turn("") // of one connection, as of a reverse proxy
	serve := func(k, target string) {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Authorization", "Bearer "+k)
		defer turn.Give()
		w.Handler().ServeHTTP(httptest.NewRecorder(), r.WithContext(fairqueue.WithTurn(r.Context(), turn)))
	}
	var old *stream // as checkStreams has it
	busy := w.queue.Turn("somebody")
	w.check(busy.Take(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); serve(key, "/api/v2/changes") }()
	w.await(1)
	w.streams.mu.Lock()
	for s := range w.streams.all {
		old = s
	}
	w.streams.mu.Unlock()
	busy.Give()
	<-ended
	serve(annsKey, "/api/v2/toc")
	if turn.Owner() != "ann" {
		t.Fatalf("owner %q", turn.Owner())
	}
	w.stillMay(old)
	if turn.Owner() != "ann" {
		t.Errorf("turns of ann's request are %q's now", turn.Owner())
	}
}

// TestTheCheckOfStreamsBesideThem is for the race detector.
func TestTheCheckOfStreamsBesideThem(t *testing.T) {
	w := newSharedWorld(t)
	for range 50 {
		w.change("notes.phext", phext.Origin(), "text")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				w.checkStreams()
			}
		}
	}()
	for range 20 {
		w.begin("x", key, http.MethodGet, "/api/v2/changes", "")
		w.group.Wait()
	}
	close(stop)
	<-done
}

// TestTheOwnerOfManagement is the same, however its key comes.
func TestTheOwnerOfManagement(t *testing.T) {
	w := newSharedWorld(t)
	w.OperatorKey = func(key string) string {
		if key == "operator" {
			return "management key"
		}
		return ""
	}
	for _, header := range []string{"Authorization", "X-Admin-API-Key"} {
		w.Admin = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if o := infoOf(r).turn.Owner(); o != management {
				t.Errorf("%s: owner %q", header, o)
			}
		})
		r := httptest.NewRequest(http.MethodGet, "/api/v2/admin/tenants", nil)
		r.Header.Set(header, "operator")
		w.beginRequest("op", r)
		w.group.Wait()
	}
}

// TestACursorIsCheckedInTurns, since that walks past changes, too.
func TestACursorIsCheckedInTurns(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	w.change("notes.phext", phext.Origin(), "first")
	first, err := w.Changes.Open(t.Context(), w.tenantNamed("will"), changes.Selection{Call: w.callForChanges(), FromNow: true}, nil)
	w.check(err)
	const n = 600
	for i := range n {
		w.change("notes.phext", phext.Origin(), fmt.Sprint(i))
	}
	head, err := rewrite.ParseHead("GET", "/api/v2/changes", "p=none", rewrite.Tenant{ID: "will"})
	w.check(err)
	call, err := head.Call(nil)
	w.check(err)
	turns := turnstest.Count(t, func(ctx context.Context) {
		_, err := w.Changes.Open(ctx, w.tenantNamed("will"), changes.Selection{Call: call, Since: first.Cursor(), UpToNow: true}, fairqueue.FromContext(ctx))
		w.check(err)
	})
	if want := n * 2 << 10 / fairqueue.Piece; turns < want {
		t.Errorf("%d turns, want %d", turns, want)
	}
}

// TestTheWatchdogAsksForHealth, in turns of its own, and gets nothing else there.
func TestTheWatchdogAsksForHealth(t *testing.T) {
	w := newSharedWorld(t)
	for target, status := range map[string]int{"/health": http.StatusOK, "/api/v2/version": http.StatusNotFound, "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1": http.StatusNotFound} {
		turn, got := w.queue.Turn(""), httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Authorization", "Bearer "+key)
		w.Watchdog().ServeHTTP(got, r.WithContext(fairqueue.WithTurn(r.Context(), turn)))
		turn.Give()
		if got.Code != status || turn.Owner() != watchdog {
			t.Errorf("%s: %d in turns of %q", target, got.Code, turn.Owner())
		}
	}
}
