package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// ask is a call of the tenant itself, which a key with a scope may make.
func (w *world) ask(method, op, query, body string, scope *rewrite.Scope) *rewrite.Call {
	w.Helper()
	head, err := rewrite.ParseHead(method, "/"+op, query, datadir.RewriteTenant(w.tenant))
	w.check(err)
	call, err := head.Call([]byte(body))
	w.check(err)
	w.check(scope.Authorize(call))
	return call
}

// past is the history that a key with a scope sees.
func (w *world) past(query string, scope *rewrite.Scope) string {
	w.Helper()
	page, err := w.Events(w.Context(), w.tenant, Selection{Call: w.ask("GET", "history", query, "", scope), Limit: MostEvents})
	w.check(err)
	defer page.Release()
	var lines []string
	for _, e := range page.Entries() {
		lines = append(lines, strings.TrimSpace(fmt.Sprint(e.Phext, " ", e.Op, " ", e.Coordinate, " ", e.Bytes, " ", e.Note)))
	}
	return strings.Join(lines, ", ")
}

// own is a restore of the tenant itself. body has no "at".
func (w *world) own(body string, at time.Time) Own {
	w.Helper()
	call := w.ask("POST", "restore", "", `{"at": "`+at.Format(time.RFC3339Nano)+`", `+body+`}`, rewrite.Everything)
	return Own{Call: call, KeyName: "the own key", At: at, Answer: func(done []Restored) string {
		text, err := json.Marshal(done)
		w.check(err)
		return string(text)
	}}
}

// name writes a scroll by a name.
func (w *world) name(scroll phext.Coordinate, name string) {
	w.Helper()
	j, err := w.journalOf(w.tenant)
	w.check(err)
	for file, m := range map[string]journal.Mutation{"n.names.phext": {Text: name}, "n.phext": {Text: "text"}} {
		before, err := w.Dirs.File(w.path(file))
		w.check(err)
		m.File, m.Op, m.At, m.Note, m.Tenant = file, journal.Update, scroll, name, "will"
		w.check(w.make(j, m, datadir.StateOf(before)))
	}
}

// TestOwnEvents shows scrolls by their names, and to a key nothing that is out of its scope.
func TestOwnEvents(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	then := w.update("other.phext", 2, "two")
	w.name(phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 7}, "my.name")
	w.restore(Target{At: then, Phext: ptr("other"), To: ptr("n"), Key: "the operator's"})
	below := func(text string) *rewrite.Scope {
		prefix, err := rewrite.ParsePrefix(text)
		w.check(err)
		return &rewrite.Scope{Access: rewrite.ReadAccess, Prefix: &prefix}
	}
	some := &rewrite.Scope{Access: rewrite.ReadAccess, Phexts: []string{"oth*"}}
	for _, test := range []struct {
		query string
		scope *rewrite.Scope
		want  string
	}{
		{"", rewrite.Everything, "n update 1.1.1/1.1.1/1.1.1 3, other update 1.1.1/1.1.1/1.1.2 3, n update my.name 4, REPLACE 4 NOTE"},
		{"p=n", rewrite.Everything, "n update 1.1.1/1.1.1/1.1.1 3, n update my.name 4, REPLACE 4 NOTE"},
		{"p=n&c=my.name", rewrite.Everything, "n update my.name 4, REPLACE 4 NOTE"},
		{"", some, "other update 1.1.1/1.1.1/1.1.2 3"},
		{"", below("my.name"), "n update my.name 4, REPLACE 0 NOTE"},
		{"", below("1.1.1/1.1.1/1.1.2"), "other update 1.1.1/1.1.1/1.1.2 3, REPLACE 0 NOTE"},
		{"p=none", below("my.name"), ""}, // it is not told that there is no such phext
		{"p=n.names", rewrite.Everything, ""},
	} {
		want := strings.NewReplacer("REPLACE", "n replace ", "NOTE", "restored to "+then.UTC().Format(time.RFC3339Nano)).Replace(test.want)
		if got := w.past(test.query, test.scope); got != want {
			t.Errorf("%q, %+v: %s, want %s", test.query, test.scope, got, want)
		}
	}
	j, err := w.journalOf(w.tenant)
	w.check(err)
	moved := journal.Mutation{File: "m.phext", Op: journal.Update, At: at(3), UpTo: at(3).LastWith(8), Text: "a\x17b", Tenant: "will"} // which has a delimiter
	w.check(w.make(j, moved, journal.State{}))
	for query, want := range map[string]string{"p=m": "m replace  3", "p=m&c=1.1.7": "m replace  3", "p=m&c=1.1.2": ""} {
		if got := w.past(query, rewrite.Everything); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if got := w.past("p=m", below("1.1.1/1.1.1/1.1.9")); got != "m replace  0" {
		t.Errorf("below one that may have moved: %s", got)
	}
	if got := w.past("p=m", below("1.1.1/1.1.1/1.1.2")); got != "" {
		t.Errorf("below one that has not moved: %s", got)
	}
	_, err = w.Events(t.Context(), w.tenant, Selection{Call: w.ask("GET", "history", "p=none", "", rewrite.Everything), Limit: 1})
	w.wantError(err, apierror.NotFound, `there is no phext "none"`)
}

// TestOwnPastInASharedDirectory keeps tenants apart who have phexts with one name.
func TestOwnPastInASharedDirectory(t *testing.T) {
	w := open(t, true)
	first := w.update("will.n.phext", 1, "his")
	w.update("mary.n.phext", 1, "hers")
	w.update("will.n.phext", 1, "his own")
	if got, want := w.past("", rewrite.Everything), "n update 1.1.1/1.1.1/1.1.1 3, n update 1.1.1/1.1.1/1.1.1 7"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n", "to": "mary.n"`, first))
	w.check(err)
	_, err = w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, first))
	w.check(err)
	w.wantFiles("mary.n.phext=hers will.mary.n.phext=his will.n.phext=his")
}

// TestRestoreOwnIsWithinTheQuota, and done altogether or not at all.
func TestRestoreOwnIsWithinTheQuota(t *testing.T) {
	w := newWorld(t)
	w.update("n.names.phext", 1, strings.Repeat("a.name", 20_000))
	then := w.update("n.phext", 1, strings.Repeat("x", 300_000))
	w.update("n.names.phext", 1, "")
	w.update("n.phext", 1, "small")
	for _, test := range []struct {
		name  string
		other int // bytes of another phext; the quota is 1 MiB
		fits  bool
	}{
		{"the phext alone fits", 1<<20 - 400_000, false},
		{"nothing fits", 1<<20 - 200_000, false},
		{"both fit", 1<<20 - 430_000, true},
	} {
		w.update("other.phext", 1, strings.Repeat("y", test.other))
		w.check(w.Ledger.Recount(w.tenant))
		if test.fits {
			result, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, then))
			if err != nil || !result.Changed || result.QuotaUsed < 0.98 || len(w.file("n.phext")) != 300_000 || len(w.file("n.names.phext")) != 120_000 {
				t.Errorf("%s: %+v %v", test.name, result, err)
			}
			continue
		}
		w.untouched(func() {
			_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, then))
			w.wantError(err, apierror.QuotaExceeded, "the quota is 1048576 bytes")
		})
	}
	w.update("other.phext", 1, strings.Repeat("y", 2<<20)) // somebody else has put it there
	w.check(w.Ledger.Recount(w.tenant))
	_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, then.Add(3*time.Second)))
	w.check(err) // it takes less than before
	w.givenBack()
}

// TestRestoreOwnUnderANewName counts as one phext more.
func TestRestoreOwnUnderANewName(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, "one")
	w.tenant.MaxPhexts = 1
	w.untouched(func() {
		_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n", "to": "m"`, then))
		w.wantError(err, apierror.QuotaExceeded, "the tenant has 1 phexts")
	})
	w.tenant.MaxPhexts = 2
	_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n", "to": "m"`, then))
	w.check(err)
	w.wantFiles("m.phext=one n.phext=one")
}

// TestRestoreOwnOfNothing has its answer kept, too: its repeat must not take back what was
// written since. It is in no history.
func TestRestoreOwnOfNothing(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, "one")
	before := w.past("", rewrite.Everything)
	own := w.own(`"phext": "n"`, then)
	own.IdempotencyKey = "once"
	first, err := w.RestoreOwn(t.Context(), w.tenant, own)
	if err != nil || first.Changed {
		t.Fatalf("%+v, %v", first, err)
	}
	if got := w.past("", rewrite.Everything); got != before {
		t.Errorf("the history has %q, and had %q", got, before)
	}
	if all, err := w.list(w.tenant, Selection{}); err != nil || len(all) != 1 {
		t.Errorf("the operator sees %+v, %v", all, err)
	}
	w.update("n.phext", 1, "two")
	w.untouched(func() {
		again, err := w.RestoreOwn(t.Context(), w.tenant, own)
		if err != nil || again.Answer != first.Answer || again.Changed {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

// TestRestoreOwnOnce repeats restores with an Idempotency-Key, also after a restart.
func TestRestoreOwnOnce(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, "one")
	w.update("n.names.phext", 1, "later.name")
	w.update("n.phext", 1, "two")
	own := w.own(`"phext": "n"`, then)
	own.IdempotencyKey = "once"
	first, err := w.RestoreOwn(t.Context(), w.tenant, own)
	w.check(err)
	w.wantFiles("n.phext=one")
	w.update("n.phext", 1, "three")
	repeat := func(what string) {
		t.Helper()
		w.untouched(func() {
			again, err := w.RestoreOwn(t.Context(), w.tenant, own)
			if err != nil || again.Answer != first.Answer || again.Changed || !strings.Contains(first.Answer, "n.names") {
				t.Errorf("%s: %+v %v, first %+v", what, again, err, first)
			}
		})
	}
	repeat("again")
	other := w.own(`"phext": "n", "dry_run": true`, then)
	other.IdempotencyKey = "once"
	_, err = w.RestoreOwn(t.Context(), w.tenant, other)
	w.wantError(err, apierror.Conflict, "used for another request")
	other.IdempotencyKey = strings.Repeat("x", 256)
	_, err = w.RestoreOwn(t.Context(), w.tenant, other)
	w.wantError(err, apierror.BadRequest, "longer than 255 bytes")

	w.check(w.set.Close())
	w.set, err = journal.New(w.config("this boot"))
	w.check(err)
	w.Dirs.Journal = w.set
	repeat("after a restart")
}

// TestRestoreOwnAsksAgain whether the tenant and the key may, when it has waited.
func TestRestoreOwnAsksAgain(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, "one")
	w.update("n.phext", 1, "two")
	keys := `, "keys": [{"id": "k", "sha256": "` + tenants.SumOf([]byte("key-of-k")) + `", "access": "ACCESS"}]`
	parse := func(more string) *tenants.Snapshot {
		s, err := tenants.Parse(fmt.Appendf(nil, `{"tenants":[{"id":"will","api_key":"pmb-v1-00112233445566778899aabbccddeeff","data_dir":%q%s}]}`, filepath.Join(w.root, "data"), more))
		w.check(err)
		return s
	}
	before := parse(strings.Replace(keys, "ACCESS", "read-write", 1))
	tenant, _ := before.ByID("will")
	for name, test := range map[string]struct {
		then string // of the tenants file, while it waits
		kind apierror.Kind
	}{
		"disabled": {strings.Replace(keys, "ACCESS", "read-write", 1) + `, "enabled": false`, apierror.TenantDisabled},
		"revoked":  {"", apierror.Unauthorized},
		"less":     {strings.Replace(keys, "ACCESS", "append", 1), apierror.Forbidden},
	} {
		var now atomic.Pointer[tenants.Snapshot]
		now.Store(before)
		w.Dirs.Tenants = now.Load
		w.tenant = tenant
		own := w.own(`"phext": "n"`, then)
		own.Key = tenant.Keys()[0]
		release, err := w.Dirs.LockExclusive(t.Context(), tenant.DataDir)
		w.check(err)
		done := make(chan error)
		go func() { _, err := w.RestoreOwn(t.Context(), tenant, own); done <- err }()
		for w.Dirs.Of(tenant.DataDir).Searches.Above(0) == 0 {
			runtime.Gosched()
		}
		now.Store(parse(test.then))
		w.untouched(func() {
			release()
			if e := apierror.From(<-done); e == nil || e.Kind != test.kind {
				t.Errorf("%s: %v", name, e)
			}
		})
	}
}

// TestOwnPastIsBounded: few look at a directory's past at a time, each in the turns of
// whoever asks, and not for long.
func TestOwnPastIsBounded(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, strings.Repeat("a large text ", 80_000))
	queue, err := fairqueue.New(1)
	w.check(err)
	t.Cleanup(func() { w.check(queue.Close()) })
	look := func(ctx context.Context) error {
		page, err := w.Events(ctx, w.tenant, Selection{Call: w.ask("GET", "history", "", "", rewrite.Everything), Limit: 1})
		if err == nil {
			page.Release()
		}
		return err
	}
	for name, do := range map[string]func(ctx context.Context) error{
		"history": look,
		"restore": func(ctx context.Context) error {
			_, err := w.RestoreOwn(ctx, w.tenant, w.own(`"phext": "n", "dry_run": true`, then))
			return err
		},
	} {
		turn := queue.Turn("somebody")
		w.check(turn.Take(t.Context()))
		done := make(chan error, 1)
		go func() { done <- do(fairqueue.WithTurn(t.Context(), queue.Turn("will"))) }()
		for queue.Waiting() == 0 {
			select {
			case err := <-done:
				t.Fatalf("%s did not wait for its turn: %v", name, err)
			default:
				runtime.Gosched()
			}
		}
		turn.Give()
		w.check(<-done)
		places := w.Dirs.Of(w.tenant.DataDir).Searches
		if !places.Take(places.Limit()) {
			t.Fatal("somebody holds a place")
		}
		if err := do(t.Context()); !errors.Is(err, datadir.ErrBusy) {
			t.Errorf("%s: %v", name, err)
		}
		places.Give(places.Limit())
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooLong)
	if err := look(ctx); !errors.Is(err, errTooLong) {
		t.Errorf("after a long time: %v", err)
	}
	w.givenBack()
}

// TestRestoreOwnLooksBeforeItLocks: what is written between the two is not what was then.
func TestRestoreOwnLooksBeforeItLocks(t *testing.T) {
	for name, test := range map[string]struct {
		before func(w *world)
		want   string
	}{
		"a phext that the journal knows": {func(w *world) { w.update("n.phext", 1, "then") }, "then"},
		"one put there by hand":          {func(w *world) { w.check(os.WriteFile(w.path("n.phext"), []byte("by hand"), 0o600)) }, "by hand"},
	} {
		for _, meanwhile := range []bool{false, true} {
			w := newWorld(t)
			w.update("other.phext", 1, "x")
			test.before(w)
			own := w.own(`"phext": "n", "to": "m"`, w.moment())
			early, done, err := w.lookUp(t.Context(), w.tenant, own)
			w.check(err)
			if meanwhile {
				w.update("n.phext", 1, "meanwhile")
				w.update("n.names.phext", 1, "a.name")
			}
			r, release, err := w.begin(t.Context(), w.tenant, own.target(), "")
			w.check(err)
			var result OwnResult
			r.own, r.result, r.early = &own, &result, early
			_, err = r.restore(t.Context())
			w.check(err)
			release()
			done()
			if got := w.file("m.phext"); got != test.want || w.file("m.names.phext") != "-" {
				t.Errorf("%s, written meanwhile: %v: %q and the names %q", name, meanwhile, got, w.file("m.names.phext"))
			}
			w.givenBack()
		}
	}
	w := newWorld(t)
	w.update("n.phext", 1, "x")
	w.untouched(func() {
		_, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, time.Now().Add(time.Hour)))
		w.wantError(err, apierror.BadRequest, "in the future")
	})
}

// TestNobodyLooksWhileTheJournalIsToBePruned, since it waits for those who do.
func TestNobodyLooksWhileTheJournalIsToBePruned(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	j, err := w.journalOf(w.tenant)
	w.check(err)
	queue, err := fairqueue.New(1)
	w.check(err)
	t.Cleanup(func() { w.check(queue.Close()) })
	turn := queue.Turn("somebody")
	w.check(turn.Take(t.Context()))
	look := func(ctx context.Context) error {
		page, err := w.Events(ctx, w.tenant, Selection{Call: w.ask("GET", "history", "", "", rewrite.Everything), Limit: 1})
		if err == nil {
			page.Release()
		}
		return err
	}
	done := make(chan error, 1)
	go func() { done <- look(fairqueue.WithTurn(t.Context(), queue.Turn("will"))) }() // and waits for its turn
	for queue.Waiting() == 0 {
		runtime.Gosched()
	}
	w.now = w.now.Add(48 * time.Hour) // a segment ends with its day
	w.update("n.phext", 1, "two")
	if !j.IsPruneDue() {
		t.Fatal("nothing is to be pruned")
	}
	if err := look(t.Context()); !errors.Is(err, datadir.ErrBusy) {
		t.Errorf("%v", err)
	}
	turn.Give()
	w.check(<-done)
	w.check(look(t.Context()))
}

// TestARestoreOfNothingIsDurable: what has left it nothing to change may not be on the disk yet.
func TestARestoreOfNothingIsDurable(t *testing.T) {
	w := newWorld(t)
	then := w.update("n.phext", 1, "text")
	before := w.syncs.Load()
	result, err := w.RestoreOwn(t.Context(), w.tenant, w.own(`"phext": "n"`, then))
	if err != nil || result.Changed || w.syncs.Load() == before {
		t.Errorf("changed: %v, %v, after %d syncs", result.Changed, err, w.syncs.Load()-before)
	}
}
