package datadir

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
)

// TestAFullDiskKeepsOnlyTornPhextsWaiting reads the others while recovery waits for room,
// without trying again, and has it tried again without a request.
func TestAFullDiskKeepsOnlyTornPhextsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.put("whole.phext", "whole")
		w.put("torn.phext", "torn")
		w.put("named.phext", "named")
		full := &journal.NoRoomError{Dir: w.dir.Path, Files: map[string]int64{"torn.phext": 100, "named.names.phext": 20}}
		_, err := w.dir.claim()
		w.check(err)
		w.wantError(w.dir.notRecovered(t.Context(), full), apierror.Unavailable, "disk of this service is full")
		w.stopErr = full // as if there were still no room
		v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=whole"))
		w.check(err)
		if v.Phext.Text() != "whole" || w.stops != 0 {
			t.Errorf("%q after %d attempts to recover the directory", v.Phext.Text(), w.stops)
		}
		for _, name := range []string{"torn", "named"} {
			_, err := w.dir.RecoveredView(t.Context(), w.call("select", "p="+name))
			w.wantError(err, apierror.Unavailable, "disk of this service is full")
		}
		_, err = w.dir.LockForWrite(t.Context(), w.tenant, nil)
		w.wantError(err, apierror.Unavailable, "disk of this service is full")
		if waits := w.Waiting(w.tenant.DataDir); waits == nil || waits.Bytes() != 120 {
			t.Errorf("waits for %+v", waits)
		}

		// Where nobody knows which phexts are torn, all wait.
		w.stopErr = &journal.NoRoomError{Dir: w.root}
		w.check(ignoreWaiting(w.dir.Recover(t.Context())))
		_, err = w.dir.RecoveredView(t.Context(), w.call("select", "p=whole"))
		w.wantError(err, apierror.Unavailable, "disk of this service is full")

		w.stopErr = nil
		go w.Run(t.Context())
		synctest.Wait()
		if w.dir.Recovered() {
			t.Error("recovered at once")
		}
		time.Sleep(retryRecovery)
		synctest.Wait()
		if !w.dir.Recovered() || w.Waiting(w.tenant.DataDir) != nil {
			t.Error("not recovered when there is room")
		}
		_, err = w.dir.RecoveredView(t.Context(), w.call("select", "p=torn"))
		w.check(err)
	})
}

// TestADirectoryThatMayNotBeOpened is not answered as if time would mend it.
func TestADirectoryThatMayNotBeOpened(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.put("p.phext", "text")
	w.stopErr = &fs.PathError{Op: "open", Path: w.dir.Path, Err: fs.ErrPermission}
	_, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=p"))
	w.wantError(err, apierror.Unavailable, "may not open this tenant's files")
	w.stopErr = nil
	_, err = w.dir.RecoveredView(t.Context(), w.call("select", "p=p"))
	w.check(err)

	w.dir.MarkWritten(w.dir.Path)
	identity := w.Dirs.identity
	w.Dirs.identity = func(string) (string, error) { return "", fs.ErrPermission }
	w.wantError(w.dir.CheckPresent(), apierror.Unavailable, "may not open this tenant's files")
	w.Dirs.identity = identity
	w.check(w.dir.CheckPresent())
	if w.Missing() != 0 {
		t.Error("still counted as missing")
	}
}

// ignoreWaiting is nil for the refusal that is expected.
func ignoreWaiting(err error) error {
	if err == errNoRoom {
		return nil
	}
	return err
}

// TestWhoSharesADirectoryMayChange while those who stay have their child run on.
func TestWhoSharesADirectoryMayChange(t *testing.T) {
	w := newWorld(t)
	will, mary := w.share()
	before := w.stops
	for _, entries := range [][]string{{will, mary}, {will}, {will, mary}} {
		w.setTenants(entries...)
		if w.dir.Recovered() {
			t.Errorf("%d tenants are as good as those before", len(entries))
		}
		w.check(w.dir.Recover(t.Context()))
		if !w.dir.Recovered() || w.stops != before {
			t.Errorf("with %d tenants, the child is stopped, or nobody is served", len(entries))
		}
		w.setTenants(entries...) // a reload that changes nothing of this
		if !w.dir.Recovered() {
			t.Error("the same tenants are others")
		}
	}
	w.setTenants(w.entry("")) // will has it alone, and is not to see mary's phexts
	w.check(w.dir.Recover(t.Context()))
	if w.stops == before {
		t.Error("a child that others have used goes on")
	}
}

// TestWhoIsInTheTenantsFile decides what a cut means for another tenant that has the directory now. It may be the one
// before with another id, unless that is there: then nobody is served until it has the former id, and that is said once.
func TestWhoIsInTheTenantsFile(t *testing.T) {
	for _, c := range []struct{ name, want string }{{"will is there", "ackn"}, {"she is will", "acknowledged"}, {"she is not", ""}} {
		w := newWorld(t)
		w.check(w.dir.Recover(t.Context()))
		j, err := w.JournalOf(w.dir)
		w.check(err)
		p, err := j.Begin(journal.Mutation{File: "n.phext", Op: journal.Update, At: phext.Origin(), Text: "acknowledged"},
			func() (journal.State, error) { return journal.State{}, nil })
		w.check(err)
		w.put("n.phext", "ackn")
		id, err := fsutil.Identify(w.path("n.phext"))
		w.check(err)
		w.check(errors.Join(p.Done(id), p.Sync()))
		w.dir.MarkWritten(w.dir.Path)
		w.Journal, err = journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"),
			BootID: "the next boot", BootTime: time.Now().Add(time.Hour), Logger: w.Logger, Datasync: func(*os.File) error { return nil }})
		w.check(err)
		all := []string{strings.Replace(w.entry(""), "will", "mary", 1)}
		asks := c.name != "will is there"
		if !asks {
			all = append(all, strings.Replace(strings.Replace(w.entry(""), "v1-0", "v1-1", 1), `/data"`, `/now"`, 1))
			w.check(errors.Join(os.Mkdir(filepath.Join(w.root, "now"), 0o700), os.WriteFile(filepath.Join(w.root, "now", "n.phext"), nil, 0o600)))
		}
		w.setTenants(all...)
		if asks {
			log := &strings.Builder{}
			w.Logger = slog.New(slog.NewTextHandler(log, nil))
			for range 3 {
				w.wantError(w.dir.Recover(t.Context()), apierror.Unavailable, "operator's log")
			}
			if n := strings.Count(log.String(), "until a crash"); n != 1 {
				t.Errorf("it is logged %d times: %s", n, log)
			}
		}
		switch c.name {
		case "she is will":
			w.setTenants(w.entry(""))
			w.check(w.dir.Recover(t.Context()))
			w.setTenants(all...)
		case "she is not": // with a phext of her own
			w.check(errors.Join(os.Rename(w.dir.Path, w.dir.Path+".before"), os.Mkdir(w.dir.Path, 0o700)))
			w.put("hers.phext", "hers")
			if n, err := fsutil.BirthOf(w.dir.Path); err != nil || n.String() == "" {
				continue // the file system does not say when a directory was made
			}
		}
		w.check(w.dir.Recover(t.Context()))
		if got, err := os.ReadFile(w.path("n.phext")); fsutil.IgnoreMissing(err) != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		w.check(w.Journal.Close())
	}
}

// TestAPhextThatCannotBeOpened when it is to be recovered keeps no other waiting. It is recovered
// when it can be opened, also without a request, and nobody sees it before.
func TestAPhextThatCannotBeOpened(t *testing.T) {
	for _, asked := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.put("other.phext", "other")
			w.put("n.phext", "before")
			w.check(w.dir.Recover(t.Context()))
			j, err := w.JournalOf(w.dir)
			w.check(err)
			p, err := j.Begin(journal.Mutation{File: "n.phext", Op: journal.Update, At: phext.Origin(), Text: "after"}, func() (journal.State, error) {
				return journal.State{Text: "before", Exists: true}, nil
			})
			w.check(err)
			w.check(p.Sync())
			w.put("n.phext", "af") // SQ was killed then
			w.check(os.Rename(w.path("n.phext"), w.path("aside")))
			w.check(os.Symlink("aside", w.path("n.phext")))
			w.dir.MarkUnrecovered()
			n := w.call("select", "p=n")
			for range 2 {
				v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=other"))
				w.check(err)
				if v.Phext.Text() != "other" {
					t.Errorf("the other one: %q", v.Phext.Text())
				}
				unlock, err := w.dir.LockForWrite(t.Context(), w.tenant, nil)
				w.check(err)
				unlock()
				if _, err = w.dir.RecoveredView(t.Context(), n); apierror.From(err) == nil {
					t.Errorf("the one that cannot be opened: %v", err)
				}
			}
			if w.stops != 2 {
				t.Errorf("%d attempts to recover the directory", w.stops)
			}

			w.check(os.Rename(w.path("aside"), w.path("n.phext")))
			_, err = w.dir.NewestView(n)
			w.wantError(err, apierror.Unavailable, "being put in order")
			if !asked {
				go w.Run(t.Context())
				time.Sleep(retryRecovery)
				synctest.Wait()
				if got, err := os.ReadFile(w.path("n.phext")); string(got) != "after" {
					t.Errorf("without a request: %q, %v", got, err)
				}
			}
			v, err := w.dir.RecoveredView(t.Context(), n)
			w.check(err)
			if v.Phext.Text() != "after" {
				t.Errorf("it holds %q", v.Phext.Text())
			}
		})
	}
}

// TestAPhextThatMayNotBeOpened is not answered as if SQ were at fault.
func TestAPhextThatMayNotBeOpened(t *testing.T) {
	w := newWorld(t)
	w.wantError(w.unfitFor(&fs.PathError{Op: "open", Path: w.path("n.phext"), Err: fs.ErrPermission}), apierror.Unavailable, "may not open this tenant's files")
	if got := w.log.String(); strings.Count(got, "n.phext") != 1 {
		t.Errorf("the log: %s", got)
	}
}

// TestADirectoryToWhichATenantHasMoved is recovered without a request, if its phexts are there, so
// that a clean stop counts for them.
func TestADirectoryToWhichATenantHasMoved(t *testing.T) {
	for _, test := range []struct{ start, copied bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.keepMarks()
			path, other := w.dir.Path, w.dir.Path+".now"
			w.check(w.dir.Recover(t.Context()))
			w.journalled("n.phext", "text")
			if test.copied {
				w.check(os.Rename(path, other))
			}
			if test.start {
				w.Dirs = New(w.Config)
			} else {
				go w.Run(t.Context())
			}
			w.setTenants(strings.Replace(w.entry(""), path, other, 1))
			w.NoteMoved(w.current.Load().All())
			if test.start {
				go w.Run(t.Context())
			}
			synctest.Wait()
			if got := w.Of(other).Recovered(); got != test.copied {
				t.Errorf("%+v: recovered %v", test, got)
			}
			if left, err := w.Journal.NotedElsewhere(w.tenant.UniqueID(), other); err != nil || len(left) == 0 != test.copied {
				t.Errorf("%+v: the tenant is noted at %q, %v", test, left, err)
			}
		})
	}
}

// TestADirectoryThatGoesBackInTime is recovered before anything in it changes.
func TestADirectoryThatGoesBackInTime(t *testing.T) {
	w := newWorld(t)
	w.check(w.dir.Recover(t.Context()))
	w.dir.MarkWritten(w.dir.Path)
	hold := func() error {
		_, release, err := w.dir.Hold()
		release()
		return err
	}
	w.put("n.phext", "by hand")
	w.check(hold())
	w.dir.changed.Add(int64(time.Hour)) // a test cannot set that of the directory
	if err := hold(); !errors.Is(err, ErrNotRecovered) || w.dir.Recovered() {
		t.Errorf("it is written to: %v", err)
	}
	w.check(w.dir.Recover(t.Context()))
	w.check(hold())
}
