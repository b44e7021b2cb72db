package tenants

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// testStore is a Store that does not run, with its log and the number of changes
// that it reported.
type testStore struct {
	*Store
	path    string
	log     bytes.Buffer
	changes int
}

func open(t *testing.T, text string) *testStore {
	t.Helper()
	s := &testStore{path: filepath.Join(t.TempDir(), "tenants.json")}
	writeFile(t, s.path, text)
	store, err := Open(Options{Path: s.path, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		OnChange: func(_, now *Snapshot, _ Diff) {
			s.changes++
			if s.Current() != now {
				t.Error("the new snapshot was not in force when it was told of")
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.Store = store
	return s
}

func (s *testStore) errorsLogged() int { return strings.Count(s.log.String(), "level=ERROR") }

func TestABrokenFileChangesNothing(t *testing.T) {
	s := open(t, fileOf("a"))
	before := s.Current()
	// The last two files have the same mistake.
	for _, broken := range []string{`{"tenants": [`, strings.Replace(fileOf("a", "b"), "/d/b", "d/b", 1), strings.Replace(fileOf("a", "b"), "/d/b", "e/b", 1)} {
		writeFile(t, s.path, broken)
		s.log.Reset()
		for range 3 {
			s.reloadIfChanged()
		}
		if s.Current() != before || s.Status().Successful() || s.changes != 0 {
			t.Errorf("%q was taken into force", broken)
		}
		if s.errorsLogged() != 1 || strings.Contains(s.log.String(), "key-of-") {
			t.Errorf("logged: %s", &s.log)
		}
	}
	writeFile(t, s.path, fileOf("a", "b"))
	s.reloadIfChanged()
	if s.Current().Len() != 2 || !s.Status().Successful() || s.changes != 1 {
		t.Errorf("mended: %d tenants, %v, %d changes", s.Current().Len(), s.Status().Err, s.changes)
	}
}

func TestAFileThatIsGone(t *testing.T) {
	s := open(t, fileOf("a"))
	before := s.Current()
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.reloadIfChanged()
	}
	if s.errorsLogged() != 1 || s.Status().Successful() || s.Current() != before {
		t.Errorf("%+v, logged: %s", s.Status(), &s.log)
	}
	if err := s.Reload(); err == nil || s.Current() != before {
		t.Errorf("%v", err)
	}
	writeFile(t, s.path, fileOf("a"))
	s.reloadIfChanged()
	if s.Current() != before || !s.Status().Successful() || s.changes != 0 || !strings.Contains(s.log.String(), "sound again") {
		t.Errorf("back again: %+v, %d changes, logged: %s", s.Status(), s.changes, &s.log)
	}
}

func TestReload(t *testing.T) {
	s := open(t, fileOf("a", "b"))
	if err := s.Reload(); err != nil || s.changes != 0 {
		t.Errorf("read again without a change: %v, %d changes", err, s.changes)
	}
	writeFile(t, s.path, fileOf("b", "a"))
	if err := s.Reload(); err != nil || s.Current().All()[0].ID != "b" || s.changes != 1 {
		t.Errorf("another order: %v, %v first", err, s.Current().All()[0].ID)
	}
	writeFile(t, s.path, fileOf("c"))
	if err := s.Reload(); err != nil || s.Current().Len() != 1 || s.changes != 2 {
		t.Errorf("another file: %v, %d tenants", err, s.Current().Len())
	}
}

func TestReloadOnChangeFalse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tenants.json")
		writeFile(t, path, `{"tenants": [], "reload_on_change": false}`)
		w := run(t, Options{Path: path, notify: noWatcher})
		writeFile(t, path, fileOf("a"))
		time.Sleep(10 * defaultPoll) // on the clock of synctest
		synctest.Wait()
		if w.Current().Len() != 0 {
			t.Error("the file was looked at")
		}
		if err := w.Reload(); err != nil || w.Current().Len() != 1 {
			t.Errorf("%v, %d tenants", err, w.Current().Len())
		}
		<-w.changes
		writeFile(t, path, fileOf("a", "b")) // which asks to be watched from now on
		if d := w.next(t); len(d.Added) != 1 {
			t.Errorf("%+v", d)
		}
	})
}

func TestReadableByOthers(t *testing.T) {
	s := open(t, fileOf("a"))
	if strings.Contains(s.log.String(), "level=WARN") {
		t.Errorf("mode 0600: %s", &s.log)
	}
	writeFile(t, s.path, fileOf("a", "b"))
	if err := os.Chmod(s.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil || !strings.Contains(s.log.String(), "chmod 600") {
		t.Errorf("%v, logged: %s", err, &s.log)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	if _, err := Open(Options{Path: path, Logger: nil}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	writeFile(t, path, strings.Replace(fileOf("a"), "/d/a", "d/a", 1))
	if _, err := Open(Options{Path: path, Logger: nil}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("a bad file: %v", err)
	}
}

func TestAFIFOInItsPlaceIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}
