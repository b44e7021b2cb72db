package history

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

// wantUnfinished checks that an error says that a part may be done, and how to go on.
func wantUnfinished(t *testing.T, err error, words ...string) {
	t.Helper()
	e := apierror.From(err)
	if e == nil || e.Kind != apierror.NotKnown || strings.Contains(err.Error(), "nothing was") {
		t.Fatalf("the error is %v, of kind %+v", err, e)
	}
	for _, want := range words {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %q, want ...%s...", err, want)
		}
	}
}

// TestARestoreOfWhichAPartIsDone never says that nothing was changed, whatever its error is.
func TestARestoreOfWhichAPartIsDone(t *testing.T) {
	for how, stop := range map[string]func(w *world){
		"its disk vanishes": func(w *world) {
			w.check(os.Rename(filepath.Dir(w.path("x")), filepath.Dir(w.path("x"))+" elsewhere"))
			w.check(os.Mkdir(filepath.Dir(w.path("x")), 0o700))
		},
		"a phext is a directory": func(w *world) {
			w.check(os.Remove(w.path("b.phext")))
			w.check(os.Mkdir(w.path("b.phext"), 0o700))
		},
	} {
		for from, restore := range map[string]func(w *world, then time.Time, backup []byte) (int, error){
			"the history": func(w *world, then time.Time, _ []byte) (int, error) {
				done, err := w.Restore(w.Context(), w.tenant, Target{At: then})
				return len(done), err
			},
			"a backup": func(w *world, _ time.Time, backup []byte) (int, error) {
				result, err := w.RestoreBackup(w.Context(), w.tenant, Target{}, strings.NewReader(string(backup)))
				return len(result.Restored), err
			},
		} {
			t.Run(how+", from "+from, func(t *testing.T) {
				w := newWorld(t)
				w.update("a.phext", 1, "old")
				then := w.update("b.phext", 1, "old")
				backup := w.backup()
				w.update("a.phext", 1, "new")
				w.update("b.phext", 1, "new")
				records := 0
				w.each = func() { // the first is of a
					if records++; records == 2 {
						stop(w)
					}
				}
				n, err := restore(w, then, backup)
				w.each = nil
				again := "with the same backup"
				if from == "the history" {
					again = "at=" + then.UTC().Format(time.RFC3339Nano)
				}
				wantUnfinished(t, err, "repeat it", again)
				if n > 1 {
					t.Errorf("%d phexts were restored", n)
				}
			})
		}
	}
}

// TestARestoreOfOnePhextThatFails is of none, and may say so.
func TestARestoreOfOnePhextThatFails(t *testing.T) {
	w := newWorld(t)
	then := w.update("a.phext", 1, "old")
	w.update("a.phext", 1, "new")
	w.check(os.Remove(w.path("a.phext")))
	w.check(os.Mkdir(w.path("a.phext"), 0o700))
	done, err := w.Restore(t.Context(), w.tenant, Target{At: then, Phext: ptr("a")})
	if len(done) > 0 || err == nil || apierror.IsUnfinished(err) {
		t.Errorf("%+v, %v", done, err)
	}
}
