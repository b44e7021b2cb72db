package tenants

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

func watcherOf(t *testing.T, path string) (*watcher, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s := &Store{options: Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil)), notify: fsnotify.NewWatcher}}
	w := s.newWatcher()
	t.Cleanup(w.close)
	return w, &log
}

// TestADirectoryThatIsReplaced is moved away, and another made in its place.
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
	w.follow(path)
	writeFile(t, path, fileOf("a"))
	deadline := time.After(patience)
	for {
		select {
		case e := <-w.events():
			if e.Name == path {
				return
			}
		case <-deadline:
			t.Fatal("the new directory is not watched")
		}
	}
}

func TestComplaintsAreNotRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "tenants.json")
	w, log := watcherOf(t, path)
	w.follow(path)
	if n := strings.Count(log.String(), "cannot be watched"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

// TestAWatcherThatEnds leaves no channel that is ready for ever.
func TestAWatcherThatEnds(t *testing.T) {
	w, _ := watcherOf(t, filepath.Join(t.TempDir(), "tenants.json"))
	w.close()
	_, ok := <-w.events()
	w.stillOpen(ok)
	if ok || w.events() != nil || w.errors() != nil {
		t.Error("its channels are still waited for")
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
