package history

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func (w *world) backup() []byte {
	w.Helper()
	var b bytes.Buffer
	w.check(w.Backup(w.Context(), w.tenant, &b))
	return b.Bytes()
}

func (w *world) restoreBackup(b []byte, target Target) ([]Restored, error) {
	w.Helper()
	result, err := w.RestoreBackup(w.Context(), w.tenant, target, bytes.NewReader(b))
	return result.Restored, err
}

// entries are the files in a backup.
func (w *world) entries(b []byte) string {
	w.Helper()
	var all []string
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(all, " ")
		}
		w.check(err)
		if h.Name == manifestName {
			continue
		}
		text, err := io.ReadAll(tr)
		w.check(err)
		if h.Mode != 0o600 || h.Typeflag != tar.TypeReg {
			w.Errorf("%+v", h)
		}
		all = append(all, h.Name+"="+string(text))
	}
}

func TestBackupAndRestoreBackup(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	w.update("n.names.phext", 1, "a.name")
	w.update("other.phext", 1, "else")
	w.check(os.WriteFile(w.path("n.phext.json"), []byte("[]"), 0o600)) // SQ's export is none of it
	b := w.backup()
	if got := w.entries(b); got != "n.names.phext=a.name n.phext=one other.phext=else" {
		t.Errorf("the backup holds %q", got)
	}
	w.check(os.Remove(w.path("n.phext.json")))

	w.update("n.phext", 1, "changed")
	w.update("new.phext", 1, "new")
	w.check(os.Remove(w.path("other.phext")))
	before := w.files()
	done, err := w.restoreBackup(b, Target{DryRun: true})
	w.check(err)
	w.wantFiles(before)
	want := []Restored{{"n", 3, true, false, false}, {"n.names", 6, false, false, false}, {"other", 4, true, true, false}, {"new", 0, true, false, true}}
	if !slices.Equal(done, want) {
		t.Errorf("dry: %+v", done)
	}
	done, err = w.restoreBackup(b, Target{})
	w.check(err)
	if !slices.Equal(done, want) {
		t.Errorf("%+v", done)
	}
	w.wantFiles("n.names.phext=a.name n.phext=one other.phext=else")
	events, err := w.list(w.tenant, Selection{Phext: ptr("new")})
	w.check(err)
	if e := events[len(events)-1]; e.Op != "remove" || e.Note != "restored from a backup" {
		t.Errorf("%+v", e)
	}
}

// TestRestoreOnePhextFromABackup touches it and its names alone.
func TestRestoreOnePhextFromABackup(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "one")
	w.update("n.names.phext", 1, "a.name")
	w.update("other.phext", 1, "else")
	b := w.backup()
	for _, file := range []string{"n.phext", "n.names.phext", "other.phext", "new.phext"} {
		w.update(file, 1, "changed")
	}
	done, err := w.restoreBackup(b, Target{Phext: ptr("n")})
	w.check(err)
	if len(done) != 2 {
		t.Errorf("%+v", done)
	}
	w.wantFiles("n.names.phext=a.name n.phext=one new.phext=changed other.phext=changed")
}

// TestABackupIsOfOneTenant, and can become another's.
func TestABackupIsOfOneTenant(t *testing.T) {
	w := open(t, true)
	w.update("will.n.phext", 1, "mine")
	w.update("mary.n.phext", 1, "hers")
	b := w.backup()
	if got := w.entries(b); got != "n.phext=mine" {
		t.Errorf("the backup holds %q", got)
	}
	w.tenant = w.mary
	_, err := w.restoreBackup(b, Target{From: "will"})
	w.check(err)
	w.wantFiles("mary.n.phext=mine will.n.phext=mine")
}

// writes calls f before the first byte goes through.
type writes struct {
	io.Writer
	f func()
}

func (w *writes) Write(b []byte) (int, error) {
	if w.f != nil {
		w.f()
		w.f = nil
	}
	return w.Writer.Write(b)
}

// TestABackupIsOfOneMoment: what is written to during the backup comes from the
// journal, and writes do not wait for whoever takes the backup. It is the journal's moment:
// here its clock is an hour behind.
func TestABackupIsOfOneMoment(t *testing.T) {
	w := newWorld(t)
	w.update("a.phext", 1, "before")
	w.update("b.phext", 1, "before")
	var b bytes.Buffer
	w.check(w.Backup(t.Context(), w.tenant, &writes{&b, func() {
		w.update("a.phext", 1, "after")
		w.update("b.phext", 1, "after")
		w.check(os.Remove(w.path("b.phext")))
	}}))
	if got := w.entries(b.Bytes()); got != "a.phext=before b.phext=before" {
		t.Errorf("the backup holds %q", got)
	}
}

// TestABackupOfWhatMayNotBeRead is refused, names the phext, and holds nothing any more.
func TestABackupOfWhatMayNotBeRead(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "text")
	w.check(os.Symlink("nowhere", w.path("linked.phext")))
	tenant := *w.tenant
	tenant.FollowLinks = true // the Dirs of the test follow none
	for range 2 {
		if err := w.Backup(w.Context(), &tenant, io.Discard); err == nil || !strings.Contains(err.Error(), `"linked"`) {
			t.Errorf("%v", err)
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	w.check(err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == filepath.Dir(w.path("n.phext")) {
			t.Error("the directory is still open")
		}
	}
}
