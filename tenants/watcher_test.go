package tenants

import (
	"bytes"
	"fmt"
	"log/slog"
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
			// The first reload may find half of the file, which changes nothing.
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

// TestALinkAboveTheFileIsSwapped swaps the directory, as deployments do.
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
	// The reload at the start may have found the first swap, but not this one.
	link(t, "v1", filepath.Join(dir, "current"))
	if d := w.next(t); len(d.Removed) != 1 || d.Removed[0].ID != "b" {
		t.Errorf("%+v", d)
	}
}

// link makes a symbolic link, which replaces one at path.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+"~"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

// TestABusyDirectory has events without a pause, so that there is never a quiet
// time.
func TestABusyDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDebouncer(defaultDebounce)
		defer d.timer.Stop()
		<-d.timer.C
		d.fired()
		noise := time.NewTicker(defaultDebounce / 2)
		defer noise.Stop()
		for start := time.Now(); ; {
			select {
			case now := <-noise.C:
				d.event(now)
			case <-d.timer.C:
				return
			}
			if time.Since(start) > time.Second/2 {
				t.Fatal("a change would not be in force within a second")
			}
		}
	})
}

// TestNoWatcher is on a host that has run out of inotify instances.
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

// TestBrokenThenRepairedWhileWatched runs the whole store with its watcher.
func TestBrokenThenRepairedWhileWatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	w := run(t, Options{Path: path, Poll: time.Hour})
	writeFile(t, path, fileOf("a", "b")[:40])
	writeFile(t, path, fileOf("a", "c"))
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" {
		t.Errorf("%+v", d)
	}
}

func watcherOf(t *testing.T, path string) (*watcher, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s := &Store{options: Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil)), notify: fsnotify.NewWatcher}}
	w := s.newWatcher()
	t.Cleanup(w.close)
	return w, &log
}

// TestADirectoryThatIsReplaced renames the directory and makes another one.
func TestADirectoryThatIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sq")
	path := filepath.Join(dir, "tenants.json")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, _ := watcherOf(t, path)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.update(path)
	writeFile(t, path, fileOf("a"))
	deadline := time.After(patience)
	for {
		select {
		case e := <-w.events:
			if e.Name == path {
				return
			}
		case <-deadline:
			t.Fatal("the new directory is not watched")
		}
	}
}

func TestWarningsAreNotRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "tenants.json")
	w, log := watcherOf(t, path)
	w.update(path)
	if n := strings.Count(log.String(), "cannot be watched"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

// TestAWatcherThatEnds must leave no closed channel, which would always be ready.
func TestAWatcherThatEnds(t *testing.T) {
	w, _ := watcherOf(t, filepath.Join(t.TempDir(), "tenants.json"))
	if err := w.inner.Close(); err != nil {
		t.Fatal(err)
	}
	_, open := <-w.events
	w.closeUnless(open)
	if open || w.events != nil || w.errors != nil {
		t.Error("its channels are still received from")
	}
}

func TestLinksInACircle(t *testing.T) {
	dir := t.TempDir()
	link(t, "b", filepath.Join(dir, "a"))
	link(t, "a", filepath.Join(dir, "b"))
	if got := directoriesOf(filepath.Join(dir, "a")); len(got) != 1 || !got[dir] {
		t.Errorf("%v", got)
	}
}
