package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/journal"
)

// TestATenantThatChangesDuringTheWait gets the lock only if its files are still its.
func TestATenantThatChangesDuringTheWait(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries func(w *world) []string
		kind    apierror.Kind
		words   string // "" = it is let in
	}{
		{"nothing", func(w *world) []string { return []string{w.entry("")} }, apierror.Kind{}, ""},
		{"another quota", func(w *world) []string { return []string{w.entry(`,"quota_mb":5`)} }, apierror.Kind{}, ""},
		{"another key", func(w *world) []string {
			return []string{strings.Replace(w.entry(""), "v1-0011", "v1-9911", 1)}
		}, apierror.Kind{}, ""},
		{"disabled", func(w *world) []string { return []string{w.entry(`,"enabled":false`)} }, apierror.TenantDisabled, "disabled"},
		{"removed", func(w *world) []string {
			return []string{strings.Replace(w.entry(""), "will", "mary", 1)}
		}, apierror.Unauthorized, "gone"},
		{"moved", func(w *world) []string {
			return []string{strings.Replace(w.entry(""), filepath.Join(w.root, "data"), filepath.Join(w.root, "moved"), 1)}
		}, apierror.Unavailable, "just changed"},
		{"no more alone in its directory", func(w *world) []string {
			return []string{w.entry(`,"shared_data_dir":true`), strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(w.entry(`,"shared_data_dir":true`))}
		}, apierror.Unavailable, "just changed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				first, err := w.dir.LockForWrite(t.Context(), w.tenant, nil)
				w.check(err)
				read := acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.dir.LockForRead(ctx, w.tenant, nil) })
				synctest.Wait()
				write := acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.dir.LockForWrite(ctx, w.tenant, nil) })
				synctest.Wait()
				if read.has() || write.has() {
					t.Fatal("nobody waits")
				}
				w.setTenants(test.entries(w)...)
				first()
				for _, l := range []*lock{read, write} {
					<-l.got
					if test.words == "" {
						w.check(l.err)
						l.unlock()
						continue
					}
					w.wantError(l.err, test.kind, test.words)
				}
				// Nobody who was refused has kept the lock.
				unlock, err := w.dir.lockForWrite(t.Context())
				w.check(err)
				unlock()
			})
		})
	}
}

// TestFilesAreRecoveredOnce, before the first request sees them.
func TestFilesAreRecoveredOnce(t *testing.T) {
	w := newWorld(t)
	if w.dir.Recovered() {
		t.Error("before anybody has looked")
	}
	for range 3 {
		unlock, err := w.dir.LockForRead(t.Context(), w.tenant, nil)
		w.check(err)
		unlock()
		w.check(w.dir.Recover(t.Context()))
	}
	if w.stops != 1 || !w.dir.Recovered() {
		t.Errorf("they were recovered %d times", w.stops)
	}
}

// TestManyAtOnceRecoverOnce.
func TestManyAtOnceRecoverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		before, err := w.dir.lockForWrite(t.Context())
		w.check(err)
		var all []*lock
		for range 5 {
			all = append(all, acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.dir.LockForRead(ctx, w.tenant, nil) }))
		}
		synctest.Wait()
		before()
		for _, l := range all {
			<-l.got
			w.check(l.err)
			l.unlock()
		}
		if w.stops != 1 {
			t.Errorf("they were recovered %d times", w.stops)
		}
	})
}

// TestFilesAreRecoveredAgain after a write that could not be put in order: by
// whoever waits for the directory, before it has it.
func TestFilesAreRecoveredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, err := w.dir.LockForWrite(t.Context(), w.tenant, nil)
		w.check(err)
		wait := acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.dir.LockForRead(ctx, w.tenant, nil) })
		synctest.Wait()
		w.dir.MarkUnrecovered()
		first()
		<-wait.got
		w.check(wait.err)
		if w.stops != 2 || !w.dir.Recovered() {
			t.Errorf("they were recovered %d times", w.stops)
		}
		wait.unlock()
	})
}

// TestFilesThatCannotBeRecovered are served to nobody, until they can be.
func TestFilesThatCannotBeRecovered(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	w.stopErr = errors.New("the child does not end")
	for name, ask := range map[string]func() error{
		"read":  func() error { _, err := w.dir.LockForRead(t.Context(), w.tenant, nil); return err },
		"write": func() error { _, err := w.dir.LockForWrite(t.Context(), w.tenant, nil); return err },
		"view":  func() error { _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); return err },
		"all":   func() error { return w.dir.Recover(t.Context()) },
		"freeze": func() error {
			_, err := w.LockExclusive(t.Context(), w.tenant.DataDir)
			return err
		},
	} {
		w.wantError(ask(), apierror.Unavailable, "put in order")
		if w.dir.Recovered() {
			t.Errorf("%s: they count as recovered", name)
		}
	}
	if log := w.log.String(); !strings.Contains(log, "the child does not end") || !strings.Contains(log, w.dir.Path) {
		t.Errorf("the log does not say why: %s", log)
	}
	w.stopErr = nil
	v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n"))
	w.check(err)
	if v.Phext.Text() != "text" {
		t.Errorf("%q", v.Phext.Text())
	}
	unlock, err := w.dir.LockForWrite(t.Context(), w.tenant, nil)
	w.check(err) // nobody who failed has kept the lock
	unlock()
}

// TestRecoveryBringsBackWhatWasAcknowledged, and readers see only that.
func TestRecoveryBringsBackWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.check(w.dir.Recover(t.Context()))
	w.put("n.phext", "before")
	j, err := w.JournalOf(w.dir)
	w.check(err)
	call := w.call("select", "p=n")
	v, err := w.dir.RecoveredView(t.Context(), call)
	w.check(err)
	pending, err := j.Begin(journal.Mutation{File: "n.phext", Op: journal.Update, At: call.At, Text: "whole"},
		func() (journal.State, error) { return StateOf(v.Phext), nil })
	w.check(err)
	w.put("n.phext", "who") // SQ was cut off in the middle
	w.check(pending.LeaveToRecovery())
	w.dir.MarkUnrecovered()
	v, err = w.dir.RecoveredView(t.Context(), call)
	w.check(err)
	if got := v.Phext.Text(); got != "before" {
		t.Errorf("readers see %q", got)
	}
}

// TestLockExclusive keeps everybody out until it is over.
func TestLockExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		read, err := w.dir.LockForRead(t.Context(), w.tenant, nil)
		w.check(err)
		freeze := acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.LockExclusive(ctx, w.tenant.DataDir) })
		synctest.Wait()
		if freeze.has() {
			t.Fatal("a request is still at its child")
		}
		read()
		<-freeze.got
		w.check(freeze.err)
		late := acquire(t.Context(), func(ctx context.Context) (func(), error) { return w.dir.LockForRead(ctx, w.tenant, nil) })
		synctest.Wait()
		if late.has() {
			t.Error("a request has begun")
		}
		freeze.unlock()
		<-late.got
		w.check(late.err)
		late.unlock()
	})
}

// TestRecoveryHasALimit.
func TestRecoveryHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.StopChild = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		w.wantError(w.dir.Recover(t.Context()), apierror.Unavailable, "put in order")
		if took := time.Since(began); took != recoveryTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// TestADirectoryWhoseJournalCannotBeOpened is not served.
func TestADirectoryWhoseJournalCannotBeOpened(t *testing.T) {
	w := newWorld(t)
	w.check(os.WriteFile(filepath.Join(w.root, "journal"), nil, 0o600))
	if err := w.dir.Recover(t.Context()); err == nil || w.dir.Recovered() {
		t.Error(fmt.Sprint(err))
	}
	w.wantError(w.dir.Recover(t.Context()), apierror.Unavailable, "put in order")
}
