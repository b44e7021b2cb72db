package tenants

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

// TestAFileThatIsMendedLater starts with each kind of bad file. Nobody is served, and
// a good file comes into force by itself.
func TestAFileThatIsMendedLater(t *testing.T) {
	for _, c := range []struct {
		name, says string
		make       func(t *testing.T, path string)
	}{
		{"missing", "is missing", func(*testing.T, string) {}},
		{"in a missing directory", "is missing", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}},
		{"empty", "is empty", func(t *testing.T, path string) { writeFile(t, path, "") }},
		{"not JSON", "line 1, column 14", func(t *testing.T, path string) { writeFile(t, path, `{"tenants": [}`) }},
		{"a bad field", "has a mistake in one of its fields", func(t *testing.T, path string) {
			writeFile(t, path, strings.Replace(fileOf("secretive"), "/d/", "d/", 1))
		}},
		{"a FIFO", "not a regular file", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a directory", "not a regular file", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "etc", "tenants.json")
				if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				c.make(t, path)
				w := run(t, Options{Path: path, Wait: true, notify: noWatcher})
				synctest.Wait()
				refusal := w.Current().Refusal()
				if refusal == nil || refusal.Kind != apierror.Unavailable || refusal.RetryAfter == 0 || !strings.Contains(refusal.Message, c.says) {
					t.Fatalf("callers are told %+v", refusal)
				}
				if strings.Contains(refusal.Message, "secretive") || strings.Contains(refusal.Message, path) {
					t.Errorf("callers are told too much: %s", refusal.Message)
				}
				if w.Status().Successful() || w.Current().Len() != 0 || strings.Count(w.log.String(), "level=ERROR") != 1 {
					t.Errorf("%+v, logged: %s", w.Status(), w.log)
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, fileOf("a"))
				time.Sleep(2 * defaultPoll) // on the clock of synctest
				if d := w.next(t); len(d.Added) != 1 || w.Current().Refusal() != nil || !w.Status().Successful() {
					t.Errorf("mended: %+v, %+v", d, w.Status())
				}
				<-w.Loaded()
			})
		})
	}
}

// TestAnEmptyListIsInForce tells a file without tenants from none.
func TestAnEmptyListIsInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	s, err := Open(Options{Path: path, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{"{": "ends before", strings.Repeat("[", 9): "ends before"} {
		writeFile(t, path, text)
		if err := s.Reload(); err == nil || !strings.Contains(s.Current().Refusal().Message, says) {
			t.Errorf("%v: callers are told %q", err, s.Current().Refusal().Message)
		}
	}
	writeFile(t, path, `{"tenants": []}`)
	if err := s.Reload(); err != nil || s.Current().Refusal() != nil {
		t.Errorf("%v, %v", err, s.Current().Refusal())
	}
	<-s.Loaded()
	before := s.Current()
	writeFile(t, path, "{")
	if err := s.Reload(); err == nil || s.Current() != before {
		t.Errorf("%v: what was loaded is gone", err)
	}
}

func TestAFileOfAnotherUser(t *testing.T) {
	if err := permissionError("/etc/sq/tenants.json"); !regexp.MustCompile(`\(chown \S+:\S+ /etc/sq/tenants\.json && chmod 600 /etc/sq/tenants\.json\)`).MatchString(err.Error()) {
		t.Errorf("%v", err)
	}
	if message := refusal(permissionError("/etc/sq/tenants.json")).Message; !strings.Contains(message, "may not be read") || strings.Contains(message, "/etc") {
		t.Errorf("callers are told %q", message)
	}
}
