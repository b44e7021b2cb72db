package journal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSomethingElseInThePlaceOfAPhext recovers a directory in which a phext's
// file has become something that is not to be read. The other file is recovered
// all the same, and the target of a link stays as it is. When a phext is there again, it is
// made what it should hold.
func TestSomethingElseInThePlaceOfAPhext(t *testing.T) {
	for name, swap := range map[string]func(path, secret string) error{
		"link": func(path, secret string) error { return os.Symlink(secret, path) },
		"FIFO": func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
	} {
		for _, finished := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				root := t.TempDir()
				w := closing(t, newWorld(t, root, nil))
				w.mutate(update("a.phext", 1, "a"))
				w.mutate(update("b.phext", 1, "b"))
				if !finished {
					w.begin(update("a.phext", 2, "new"))
				}
				w.put("b.phext", State{})
				w.cfg.BootID = "boot-2"
				secret := filepath.Join(root, "secret")
				w.must(errors.Join(os.WriteFile(secret, []byte("key"), 0o600), os.Remove(w.path("a.phext")), swap(w.path("a.phext"), secret)))
				(&model{world: w}).reopenAfterCut()
				w.recover()
				if got := w.read("b.phext"); got != text("b") {
					t.Errorf("the other phext: %+v", got)
				}
				if got, err := os.ReadFile(secret); string(got) != "key" {
					t.Errorf("the target of the link: %q, %v", got, err)
				}
				if info, err := os.Lstat(w.path("a.phext")); err != nil || info.Mode().IsRegular() {
					t.Errorf("what lies in the place of the phext: %v, %v", info, err)
				}
				w.must(os.Remove(w.path("a.phext")))
				w.put("a.phext", text("put right"))
				w.reopen()
				w.recover()
				want := text("a")
				if !finished {
					want = want.After(update("a.phext", 2, "new"))
				}
				if got := w.read("a.phext"); got != want || !slices.Contains(w.quarantined(), "put right") {
					t.Errorf("the phext that was put right: %+v", got)
				}
			})
		}
	}
}
