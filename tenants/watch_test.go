package tenants

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestChangesAreNoticed(t *testing.T) {
	for name, o := range map[string]Options{
		"watched": {Poll: time.Hour},
		"polled":  {Poll: time.Millisecond, notify: noWatcher},
	} {
		t.Run(name, func(t *testing.T) {
			o.Path = filepath.Join(t.TempDir(), "tenants.json")
			writeFile(t, o.Path, fileOf("a", "b"))
			w := run(t, o)
			writeFile(t, o.Path, fileOf("b", "c"))
			if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" || len(d.Removed) != 1 || d.Removed[0].ID != "a" || len(d.Changed) != 0 {
				t.Errorf("renamed into place: %+v", d)
			}
			changed := strings.Replace(fileOf("b", "c"), `"/d/c"`, `"/d/c", "quota_mb": 5`, 1)
			if err := os.WriteFile(o.Path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			// A file written in place may be seen half-written first; that changes nothing.
			if d := w.next(t); len(d.Changed) != 1 || d.Changed[0].QuotaBytes != 5<<20 || len(d.Added)+len(d.Removed) != 0 {
				t.Errorf("written in place: %+v", d)
			}
		})
	}
}

func TestASymlinkThatIsSwapped(t *testing.T) {
	dir := t.TempDir()
	for i, ids := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
		version := filepath.Join(dir, fmt.Sprint("v", i))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(version, "tenants.json"), fileOf(ids...))
	}
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("v0")
	path := filepath.Join(dir, "tenants.json")
	if err := os.Symlink("..data/tenants.json", path); err != nil {
		t.Fatal(err)
	}
	w := run(t, Options{Path: path, Poll: time.Hour})
	swap("v1")
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "b" {
		t.Errorf("%+v", d)
	}
	swap("v2")
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" {
		t.Errorf("%+v", d)
	}
}

// TestALinkAboveTheFileIsSwapped is a deployment that swaps the directory.
func TestALinkAboveTheFileIsSwapped(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "v1", "tenants.json"), fileOf("a"))
	writeFile(t, filepath.Join(dir, "v2", "tenants.json"), fileOf("a", "b"))
	link(t, "v1", filepath.Join(dir, "current"))
	w := run(t, Options{Path: filepath.Join(dir, "current", "tenants.json"), Poll: time.Hour})
	link(t, "v2", filepath.Join(dir, "current"))
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "b" {
		t.Errorf("%+v", d)
	}
	// The first swap may have been seen by the look at the start; not this one.
	link(t, "v1", filepath.Join(dir, "current"))
	if d := w.next(t); len(d.Removed) != 1 || d.Removed[0].ID != "b" {
		t.Errorf("%+v", d)
	}
}

// link puts a symbolic link into the place of another.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+"~"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// TestABusyDirectory has others write beside the file without a pause: the
// silence never comes that would end a burst.
func TestABusyDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBurst(defaultDebounce)
		defer b.timer.Stop()
		<-b.timer.C
		b.over()
		noise := time.NewTicker(defaultDebounce / 2)
		defer noise.Stop()
		for start := time.Now(); ; {
			select {
			case now := <-noise.C:
				b.event(now)
			case <-b.timer.C:
				return
			}
			if time.Since(start) > time.Second/2 {
				t.Fatal("a change would not be in force within a second")
			}
		}
	})
}

// TestNoWatcher is a host that has run out of inotify instances.
func TestNoWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tenants.json")
		writeFile(t, path, fileOf("a"))
		w := run(t, Options{Path: path, notify: noWatcher})
		writeFile(t, path, fileOf("a", "b"))
		if d := w.next(t); len(d.Added) != 1 {
			t.Errorf("%+v", d)
		}
		synctest.Wait()
		if n := strings.Count(w.log.String(), "cannot be watched"); n != 1 {
			t.Errorf("said %d times: %s", n, w.log)
		}
	})
}

func noWatcher() (*fsnotify.Watcher, error) { return nil, syscall.EMFILE }

// TestBrokenThenMendedWhileWatched goes through the watcher, from end to end.
func TestBrokenThenMendedWhileWatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	w := run(t, Options{Path: path, Poll: time.Hour})
	writeFile(t, path, fileOf("a", "b")[:40])
	writeFile(t, path, fileOf("a", "c"))
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" {
		t.Errorf("%+v", d)
	}
}
