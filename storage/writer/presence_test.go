package writer

import (
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
)

// TestADirectoryThatWasOnlyWrittenTo is put out of sight before a start, as a disk
// that is not mounted is: nothing is written to what is in its place.
func TestADirectoryThatWasOnlyWrittenTo(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := func(w *world) string { return filepath.Join(w.root, "data") }
	for name, write := range map[string]func(w *world){
		"once": func(w *world) {
			for _, dir := range []string{"data", "journal", "directories"} {
				check(os.RemoveAll(filepath.Join(w.root, dir)))
			}
			check(os.Mkdir(data(w), 0o700))
			w.restart()
			w.must(update(1, "one"))
		},
		"after its mark was removed": func(w *world) {
			check(os.RemoveAll(filepath.Join(w.root, "directories")))
			w.must(update(1, "again"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			write(w)
			check(os.Rename(data(w), data(w)+".aside"))
			check(os.Mkdir(data(w), 0o700))
			w.restart()
			_, err := w.commit(update(1, "second set"))
			w.wantError(err, apierror.Unavailable)
			if all, err := os.ReadDir(data(w)); err != nil || len(all) > 0 {
				t.Errorf("in its place: %v, %v", all, err)
			}
		})
	}
}
