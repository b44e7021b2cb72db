package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/rewrite"
)

// TestAVolumeThatIsMissing takes a data directory away, as a disk that is not
// mounted does, in the middle and before a start.
func TestAVolumeThatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name    string
		take    func(w *world) // the directory is set aside already
		missing bool
	}{
		{"there is no directory", func(*world) {}, true},
		{"there is an empty mount point", func(w *world) {
			w.check(os.Mkdir(w.dir.Path, 0o700))
			w.identity = func(string) (string, error) { return "another disk", nil }
		}, true},
		{"there is an empty mount point on the same file system", func(w *world) { w.check(os.Mkdir(w.dir.Path, 0o700)) }, true},
		{"somebody emptied it", func(w *world) {
			w.check(os.Rename(w.dir.Path+".aside", w.dir.Path))
			w.check(os.Remove(filepath.Join(w.dir.Path, "n.phext")))
		}, false},
		{"it was copied", func(w *world) { w.check(os.CopyFS(w.dir.Path, os.DirFS(w.dir.Path+".aside"))) }, false},
		{"it was moved to another disk", func(w *world) {
			w.check(os.Mkdir(w.dir.Path, 0o700))
			w.check(os.WriteFile(filepath.Join(w.dir.Path, "other.phext"), []byte("text"), 0o600))
			w.identity = func(string) (string, error) { return "another disk", nil }
		}, false},
	} {
		for _, start := range []string{"", ", after a start"} {
			t.Run(test.name+start, func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				w.check(os.WriteFile(filepath.Join(w.dir.Path, "n.phext"), []byte("text"), 0o600))
				call := presenceCall(t, w)
				if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Text() != "text" {
					t.Fatalf("%v, %v", v, err)
				}
				aside := w.dir.Path + ".aside"
				w.check(os.Rename(w.dir.Path, aside))
				test.take(w)
				if start != "" {
					restarted := New(w.Config)
					restarted.identity = w.identity
					w.Dirs, w.dir = restarted, restarted.Of(w.dir.Path)
				}
				for range 2 {
					_, err := w.dir.RecoveredView(t.Context(), call)
					if got := errors.Is(err, errVolumeMissing); got != test.missing || !got && err != nil {
						t.Errorf("a read: %v", err)
					}
				}
				if _, _, err := w.dir.CheckForSQ(call.FilePath(w.dir.Path)); errors.Is(err, errVolumeMissing) != test.missing {
					t.Errorf("a read that SQ answers: %v", err)
				}
				if unlock, err := w.dir.LockForWrite(t.Context(), w.tenant, nil); start == "" && err != nil || start != "" && errors.Is(err, errVolumeMissing) != test.missing {
					t.Errorf("a write: %v", err)
				} else if err == nil {
					unlock()
				}
				if unlock, err := w.LockExclusive(t.Context(), w.dir.Path); errors.Is(err, errVolumeMissing) != test.missing {
					t.Errorf("a backup: %v", err)
				} else if err == nil {
					unlock()
				}
				if n := w.Missing(); (n == 1) != test.missing {
					t.Errorf("%d are missing", n)
				}
				if n := strings.Count(w.log.String(), "a data directory is missing"); (n == 1) != test.missing {
					t.Errorf("%d lines say that it is missing", n)
				}
				if !test.missing {
					return
				}
				w.check(os.RemoveAll(w.dir.Path))
				w.check(os.Rename(aside, w.dir.Path))
				if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Text() != "text" || w.Missing() != 0 {
					t.Errorf("when it is back: %v, %d are missing", err, w.Missing())
				}
			})
		}
	}
}

// TestADirectoryThatWasEmptiedOnPurpose may be away afterwards.
func TestADirectoryThatWasEmptiedOnPurpose(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.check(os.WriteFile(filepath.Join(w.dir.Path, "n.phext"), []byte("text"), 0o600))
	call := presenceCall(t, w)
	if _, err := w.dir.RecoveredView(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	w.check(os.RemoveAll(w.dir.Path))
	w.check(w.dir.Forget())
	if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Exists() {
		t.Errorf("%v", err)
	}
}

// TestAMarkOfAnEarlierVersion has only the file system, and is as good as that.
func TestAMarkOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	call := presenceCall(t, w)
	id, err := w.identity(w.dir.Path)
	w.check(err)
	mark := func(id string) {
		w.check(os.MkdirAll(w.MarkDir, 0o700))
		w.check(os.WriteFile(w.dir.mark, []byte(id+"\n"+w.dir.Path+"\n"), 0o600))
	}
	for _, test := range []struct {
		marked  string
		missing bool
	}{{fileSystemOf(id), false}, {"another disk", true}, {id, false}, {id + "1", true}} {
		mark(test.marked)
		if err := w.dir.CheckPresent(); errors.Is(err, errVolumeMissing) != test.missing {
			t.Errorf("%q: %v", test.marked, err)
		}
	}
	mark(fileSystemOf(id))
	w.put("n.phext", "text")
	if _, err := w.dir.RecoveredView(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(w.dir.mark); err != nil || markedIdentity(text) != id {
		t.Errorf("when it was seen again: %q, %v", text, err)
	}
}

// keepMarks is a start with a directory for marks.
func (w *world) keepMarks() {
	w.MarkDir = filepath.Join(w.root, "directories")
	w.Dirs = New(w.Config)
	w.dir = w.Of(w.tenant.DataDir)
}

func presenceCall(t *testing.T, w *world) *rewrite.Call {
	t.Helper()
	head, err := rewrite.ParseHead("GET", "/select", "p=n", RewriteTenant(w.tenant))
	w.check(err)
	call, err := head.Call(nil)
	w.check(err)
	return call
}
