package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// TestWhatTheOperatorDoesIsInTheBucket restores, removes and puts back phexts. A new
// machine has them as they are then, also those that somebody had edited before.
func TestWhatTheOperatorDoesIsInTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		a := newMachine(t, b, "a")
		synctest.Wait()
		service := &history.Service{Dirs: a.dirs, Ledger: quota.NewLedger(func() *tenants.Snapshot { return a.dirs.Tenants() }, a.Logger)}
		a.write("restored.phext", "then", "", true)
		a.write("removed.phext", "x", "", true)
		time.Sleep(time.Second)
		then := time.Now()
		time.Sleep(time.Second)
		a.write("restored.phext", "now", "", true)
		a.check(os.WriteFile(a.path("restored.phext"), []byte("by hand"), 0o600))
		phext := "restored"
		_, err := service.Restore(t.Context(), a.tenant, history.Target{Phext: &phext, At: then})
		a.check(err)
		release, err := a.dirs.LockExclusive(t.Context(), a.tenant.DataDir)
		a.check(err)
		a.check(os.Remove(a.path("removed.phext")))
		a.check(os.WriteFile(a.path("brought back.phext"), []byte("from an archive"), 0o600))
		a.check(service.FilesReplaced(a.tenant, a.tenant.DataDir, []string{"removed.phext", "brought back.phext"}, "", "archive"))
		release()
		a.end()
		next := newMachine(t, b, "b")
		defer next.end()
		synctest.Wait()
		next.check(next.serve())
		next.want("restored.phext", "then")
		next.want("removed.phext", "")
		next.want("brought back.phext", "from an archive")
	})
}

// TestADirectoryOfNobody can be locked, to become a new tenant's, and is not in the bucket.
func TestADirectoryOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		defer m.end()
		synctest.Wait()
		b.Calls()
		release, err := m.dirs.LockExclusive(t.Context(), filepath.Join(m.root, "new"))
		m.check(err)
		release()
		if calls := b.Calls(); len(calls) > 0 {
			t.Error(calls)
		}
	})
}

// events are the times of what was done to will's phexts, and what it was.
func (m *machine) events(sel history.Selection) (all []string) {
	m.Helper()
	page, err := m.service().Events(m.Context(), m.tenant, sel)
	m.check(err)
	defer page.Release()
	for _, e := range page.Events {
		all = append(all, fmt.Sprintf("%s %s %s %d", e.Time.UTC().Format(time.RFC3339Nano), e.Op, e.File, e.Bytes))
	}
	return all
}

// restore makes phexts what they were, and says which have changed.
func (m *machine) restore(target history.Target) (changed []string) {
	m.Helper()
	done, err := m.service().Restore(m.Context(), m.tenant, target)
	m.check(err)
	for _, one := range done {
		if one.Changed {
			changed = append(changed, one.Phext)
		}
	}
	return changed
}

// TestThePastOfALostMachine has the journal vanish with the disk. The next machine lists
// the same events, and restores a tenant, a phext and a scroll to a time before.
func TestThePastOfALostMachine(t *testing.T) {
	for compactAt := range 5 {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			a := newMachine(t, b, "a")
			synctest.Wait()
			var times []time.Time
			step := func(m *machine, n int, do func()) {
				do()
				if n == compactAt {
					m.compact()
				}
				time.Sleep(time.Second)
				times = append(times, time.Now())
				time.Sleep(time.Second)
			}
			step(a, 0, func() { a.write("n.phext", "one\x17first", "", true); a.write("m.phext", "m", "", true) })
			step(a, 1, func() { a.write("n.phext", "two\x17second", "", true) })
			step(a, 2, func() { a.write("gone.phext", "gone", "", true) })
			step(a, 3, func() {
				a.restore(history.Target{Phext: ptr("gone"), At: times[1]}) // which removes it
			})
			want := a.events(history.Selection{Limit: 100})
			a.kill()

			next := newMachine(t, b, "b")
			defer next.end()
			time.Sleep(time.Minute)
			step(next, 4, func() { next.write("n.phext", "three\x17third", "", true) })
			got := next.events(history.Selection{Limit: 100})
			if len(got) != len(want)+1 || !slices.Equal(got[:len(want)], want) {
				t.Errorf("the events are\n%s\nand were\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			var paged []string
			for after := (time.Time{}); ; {
				page := next.events(history.Selection{Limit: 2, After: after})
				if len(page) == 0 {
					break
				}
				paged = append(paged, page...)
				var err error
				last, _, _ := strings.Cut(page[len(page)-1], " ")
				after, err = time.Parse(time.RFC3339Nano, last)
				next.check(err)
			}
			if !slices.Equal(paged, got) {
				t.Errorf("page by page they are\n%s", strings.Join(paged, "\n"))
			}
			if only := next.events(history.Selection{Phext: ptr("gone"), Limit: 100}); len(only) != 2 {
				t.Errorf("of one phext: %q", only)
			}

			if changed := next.restore(history.Target{At: times[2], DryRun: true}); !slices.Equal(changed, []string{"gone", "n"}) {
				t.Errorf("a dry run changes %q", changed)
			}
			next.restore(history.Target{Phext: ptr("gone"), At: times[2]})
			next.want("gone.phext", "gone")
			next.want("n.phext", "three\x17third")
			next.restore(history.Target{Phext: ptr("n"), Coordinate: "1.1.1/1.1.1/1.1.2", At: times[0]})
			next.want("n.phext", "three\x17first")
			next.restore(history.Target{Phext: ptr("n"), To: ptr("copy"), At: times[1]})
			next.want("copy.phext", "two\x17second")
			next.restore(history.Target{At: times[0]})
			next.want("n.phext", "one\x17first")
			next.want("m.phext", "m")
			next.want("gone.phext", "")
			next.want("copy.phext", "")
			next.restore(history.Target{At: times[4]}) // which the journal here knows
			next.want("n.phext", "three\x17third")
			if _, err := next.service().Restore(t.Context(), next.tenant, history.Target{At: times[0].Add(-time.Hour)}); apierror.From(err) == nil || apierror.From(err).Kind != apierror.NotFound {
				t.Errorf("before the beginning: %v", err)
			}
			if _, err := next.service().Restore(t.Context(), next.tenant, history.Target{Phext: ptr("never"), At: times[0]}); apierror.From(err) == nil || apierror.From(err).Kind != apierror.NotFound {
				t.Errorf("a phext that never was: %v", err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestThePastWhileAnotherHadIt is not what the journal here says, although that goes back
// as far.
func TestThePastWhileAnotherHadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		a := newMachine(t, b, "a")
		synctest.Wait()
		a.write("n.phext", "of a", "", true)
		inA := time.Now()
		a.end()
		time.Sleep(time.Second)
		other := newMachine(t, b, "b")
		synctest.Wait()
		other.write("n.phext", "of b", "", true)
		other.write("only b.phext", "x", "", true)
		inB := time.Now()
		time.Sleep(time.Second)
		other.restore(history.Target{Phext: ptr("only b"), At: inA})
		other.write("n.phext", "of b again", "", true)
		other.end()
		time.Sleep(time.Second)
		a.killed.Store(false)
		a.start()
		synctest.Wait()
		a.check(a.serve())
		a.want("n.phext", "of b again")
		a.restore(history.Target{At: inB})
		a.want("n.phext", "of b")
		a.want("only b.phext", "x")
		a.restore(history.Target{At: inA})
		a.want("n.phext", "of a")
		a.end()
		time.Sleep(time.Second)
		// Nobody else has had it since, so the journal knows.
		a.start()
		defer a.end()
		synctest.Wait()
		a.check(a.serve())
		r, err := a.dirs.Of(a.tenant.DataDir).Replica()
		a.check(err)
		if since := r.Since; !since.Before(time.Now()) || since.IsZero() {
			t.Error(since)
		}
	})
}

// TestThePastBeforeTheBucket is what the journal here says.
func TestThePastBeforeTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", without: true}
		m.start()
		d := m.dirs.Of(m.tenant.DataDir)
		m.check(os.MkdirAll(m.path(""), 0o700))
		j, err := m.journal.Of(d.Path)
		m.check(err)
		for _, text := range []string{"one", "two"} {
			now, err := journal.ReadState(nil, m.path("n.phext"))
			m.check(err)
			_, err = j.Adopt(d.Path, "n.phext", now, journal.State{Text: text, Exists: true}, "")
			m.check(err)
			time.Sleep(time.Second)
		}
		before := time.Now().Add(-1500 * time.Millisecond)
		_, err = m.put(b)
		m.check(err)
		m.end()
		m.without = false
		m.start()
		synctest.Wait()
		m.restore(history.Target{At: before})
		m.want("n.phext", "one")
		m.end()
		// Even if this machine has forgotten that it had it.
		m.check(os.RemoveAll(filepath.Join(m.root, "bucket")))
		m.start()
		defer m.end()
		synctest.Wait()
		m.restore(history.Target{At: before.Add(time.Second)})
		m.want("n.phext", "two")
	})
}

// TestThePastThatIsRemoved is an error, and what is kept is not.
func TestThePastThatIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", history: 48 * time.Hour}
		m.start()
		synctest.Wait()
		var times []time.Time
		for day := range 5 {
			m.write("n.phext", fmt.Sprint("day ", day), "", true)
			times = append(times, time.Now())
			time.Sleep(25 * time.Hour)
		}
		m.end()
		next := &machine{TB: t, root: t.TempDir(), bucket: b, name: "b", history: 48 * time.Hour}
		next.start()
		defer next.end()
		synctest.Wait()
		for day, at := range times {
			_, err := next.service().Restore(t.Context(), next.tenant, history.Target{Phext: ptr("n"), To: ptr("copy"), At: at})
			if e := apierror.From(err); day < 2 && (e == nil || e.Kind != apierror.NotFound) || day > 2 && err != nil {
				t.Errorf("day %d: %v", day, err)
			}
			if err == nil {
				next.want("copy.phext", fmt.Sprint("day ", day))
			}
		}
	})
}

// deposing is a bucket in which another host takes the place of an object of the log.
type deposing struct {
	bucket.Bucket
	after int // so many more objects; -1 = never
	last  []byte
}

func (b *deposing) Put(ctx context.Context, key string, body []byte, c bucket.Condition) (string, error) {
	if !strings.Contains(key, "/log/") {
		return b.Bucket.Put(ctx, key, body, c)
	}
	if b.after == 0 {
		if _, err := b.Bucket.Put(ctx, key, b.last, c); err != nil {
			return "", err
		}
	}
	b.after--
	b.last = body
	return b.Bucket.Put(ctx, key, body, c)
}

// TestARestoreThatIsCutOffByAnotherHost says that nothing was changed only if that is so.
func TestARestoreThatIsCutOffByAnotherHost(t *testing.T) {
	for after := range 3 {
		synctest.Test(t, func(t *testing.T) {
			b := &deposing{Bucket: bucket.NewMemory(), after: -1}
			m := newMachine(t, b, "a")
			defer m.end()
			synctest.Wait()
			m.write("n.names.phext", "salary", "", true)
			m.write("n.phext", "secret", "", true)
			time.Sleep(time.Second)
			then := time.Now()
			time.Sleep(time.Second)
			m.write("n.names.phext", "public\x17other", "", true)
			m.write("n.phext", "text", "", true)
			head, err := rewrite.ParseHead("POST", "/restore", "", datadir.RewriteTenant(m.tenant))
			m.check(err)
			call, err := head.Call([]byte(`{"phext": "n", "at": "` + then.UTC().Format(time.RFC3339Nano) + `"}`))
			m.check(err)
			own := history.Own{Call: call, At: then, Answer: func([]history.Restored) string { return "" }}
			b.after = after
			_, err = m.service().RestoreOwn(t.Context(), m.tenant, own)
			b.after = -1
			want := apierror.NotKnown
			if after == 0 {
				want = apierror.Unavailable
			}
			if e := apierror.From(err); e == nil || e.Kind != want {
				t.Errorf("after %d uploads: %v", after, err)
			}
		})
	}
}
