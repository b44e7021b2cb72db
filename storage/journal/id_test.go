package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestADirectoryThatIsMade gets the id of its journal once that is on the disk, and keeps one that
// it has.
func TestADirectoryThatIsMade(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	if unix.Setxattr(w.data, idAttribute, nil, 0) != nil {
		t.Skip("the file system has no extended attributes")
	}
	w.must(os.Remove(w.data))
	w.recoverFor("will")
	w.must(w.j.MakeDataDir(w.data))
	if id := idAt(w.data); id != "" {
		t.Errorf("%q, and the journal may come back with another", id)
	}
	w.must(os.Remove(w.data))
	p := w.begin(update("a.phext", 1, "refused"))
	w.must(p.Refuse())
	w.must(w.j.MakeDataDir(w.data))
	if !w.j.HasWritten(w.data) {
		t.Error("it has no id")
	}
	w.must(unix.Setxattr(w.data, idAttribute, []byte("OTHER "+attributeOf(w.data)), 0))
	w.must(w.j.MakeDataDir(w.data))
	if id := idAt(w.data); id != "OTHER" {
		t.Errorf("it was another journal's, and has %q", id)
	}
	w.must(errors.Join(os.Remove(w.data), os.Remove(filepath.Dir(w.data))))
	if _, err := w.j.Adopt(w.data, "a.phext", State{}, text("of the bucket"), ""); err != nil || !w.j.HasWritten(w.data) {
		t.Errorf("from the bucket: it has the id %q, %v", idAt(w.data), err)
	}
}
