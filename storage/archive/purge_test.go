package archive

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPurgeRemovesOneTenant purges beside tenants whose ids begin with the same
// letters, and beside files of somebody else.
func TestPurgeRemovesOneTenant(t *testing.T) {
	s := newStore(t)
	const stamp = "20260304T120000.000000005Z"
	own := []string{"a-" + stamp + ".tar.gz", "a-20250304T120000.000000000Z.tar.gz", "a-" + stamp + ".tar.gz.partial", "a.deleting", "a.deleting.partial"}
	others := []string{
		"a-b-" + stamp + ".tar.gz", "a-b.deleting", "a." + stamp + "-" + stamp + ".tar.gz", "a." + stamp + ".deleting",
		"b-" + stamp + ".tar.gz", "a-" + stamp, "a-notes.tar.gz", "a-20260304.tar.gz", "aa-" + stamp + ".tar.gz.partial", "a.tar.gz",
	}
	files := map[string]string{}
	for _, name := range append(own, others...) {
		files[name] = name
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fillDir(t, s.dir, files)
	data := t.TempDir()
	for _, id := range []string{"a", "a.20260304T120000.000000005Z"} { // as restores that were killed leave them
		if err := os.Mkdir(stagingDir(id, data), 0o700); err != nil {
			t.Fatal(err)
		}
		fillDir(t, stagingDir(id, data), map[string]string{"a.phext": "text"})
	}
	for _, want := range []int{2, 0} {
		if n, err := s.Purge("a", data); err != nil || n != want {
			t.Errorf("%d archives, %v, want %d", n, err, want)
		}
	}
	for _, name := range own {
		delete(files, name)
	}
	sameFiles(t, contents(t, s.dir), files)
	if left, err := os.ReadDir(data); err != nil || len(left) != 1 || left[0].Name() != ".restoring-a.20260304T120000.000000005Z" {
		t.Errorf("in the data directory: %v, %v", left, err)
	}
	_, err := s.Purge("../a", data)
	wantError(t, err, errBadRequest)
	if n, err := New(filepath.Join(t.TempDir(), "none"), s.now).Purge("a", data); n != 0 || err != nil {
		t.Errorf("without a directory: %d, %v", n, err)
	}
}
