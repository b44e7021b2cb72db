package tenants

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// hardLinkWorld is a host with a few tenants. All links are at a new name.
type hardLinkWorld struct {
	t     *testing.T
	root  string
	now   *Snapshot
	links fsutil.Links
}

func newHardLinkWorld(t *testing.T) *hardLinkWorld {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &hardLinkWorld{t: t, root: root}
	for _, dir := range []string{"will", "bob", "shared", "etc", "state/journal/1", "archive", "log", "credentials", "snapshot", "will/old"} {
		w.must(os.MkdirAll(w.at(dir), 0o700))
	}
	w.now = parseTenants(t,
		map[string]any{"id": "will", "data_dir": w.at("will")}, map[string]any{"id": "bob", "data_dir": w.at("bob")},
		map[string]any{"id": "one", "data_dir": w.at("shared"), "shared_data_dir": true},
		map[string]any{"id": "two", "data_dir": w.at("shared"), "shared_data_dir": true})
	w.links = FollowLinks(func() *Snapshot { return w.now }, saysNothing, w.at("etc/tenants.json"), w.at("state"), w.at("archive"), w.at("log"), "", w.at("admin.key"), w.at("credentials"))
	return w
}

func (w *hardLinkWorld) at(path string) string { return filepath.Join(w.root, path) }

func (w *hardLinkWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *hardLinkWorld) write(path string) {
	w.t.Helper()
	w.must(os.WriteFile(w.at(path), []byte("text"), 0o600))
}

// settle has the directory look as if it had not changed for long.
func (w *hardLinkWorld) settle(dir string) {
	w.t.Helper()
	long := time.Now().Add(-time.Hour)
	w.must(os.Chtimes(w.at(dir), long, long))
}

func (w *hardLinkWorld) check(path string, want error) {
	w.t.Helper()
	f, _, opened := w.links.Open(w.at(path))
	_, identified := w.links.Identify(w.at(path))
	if !errors.Is(opened, want) || !errors.Is(identified, want) {
		w.t.Errorf("%s: %v, %v", path, opened, identified)
	}
	if f != nil {
		w.must(f.Close())
	}
}

// TestHardLinks are not served to files that are private, nor to those of other tenants.
// Those that a snapshot of the directory makes are.
func TestHardLinks(t *testing.T) {
	for _, test := range []struct {
		name, file, link string
		want             error
	}{
		{"tenants file", "etc/tenants.json", "will/a.phext", fsutil.ErrHardLink},
		{"file beside it", "etc/tenants.json.bak", "will/a.phext", fsutil.ErrHardLink},
		{"file of a key", "admin.key", "will/a.phext", fsutil.ErrHardLink},
		{"generated key", "state/admin-key", "will/a.phext", fsutil.ErrHardLink},
		{"names", "state/admin-key", "will/a.names.phext", fsutil.ErrHardLink},
		{"journal", "state/journal/1/1.segment", "will/a.phext", fsutil.ErrHardLink},
		{"archive", "archive/bob.tar.gz", "will/a.phext", fsutil.ErrHardLink},
		{"log", "log/bob.log", "will/a.phext", fsutil.ErrHardLink},
		{"credential", "credentials/admin-key", "will/a.phext", fsutil.ErrHardLink},
		{"other tenant's phext", "bob/b.phext", "will/a.phext", fsutil.ErrHardLink},
		{"file that another tenant's SQ is writing", "bob/.b.phext.before", "will/a.phext", fsutil.ErrHardLink},
		{"other tenant's phext from a shared directory", "bob/b.phext", "shared/one.a.phext", fsutil.ErrHardLink},
		{"other tenant's phext in a shared directory", "shared/two.a.phext", "shared/one.a.phext", fsutil.ErrHardLink},
		{"own phext in a shared directory", "shared/one.b.phext", "shared/one.a.phext", nil},
		{"own phext", "will/b.phext", "will/a.phext", nil},
		{"snapshot", "snapshot/a.phext", "will/a.phext", nil},
		{"snapshot of a shared directory", "snapshot/one.a.phext", "shared/one.a.phext", nil},
		{"snapshot in the data directory", "will/old/a.phext", "will/a.phext", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newHardLinkWorld(t)
			w.write(test.file)
			w.must(os.Link(w.at(test.file), w.at(test.link)))
			w.check(test.link, test.want)
			w.check(test.link, test.want) // as it was found before
		})
	}
}

// TestHardLinksThatCome are found though their directories were listed before.
func TestHardLinksThatCome(t *testing.T) {
	w := newHardLinkWorld(t)
	w.write("will/notes.phext")
	w.must(os.Link(w.at("will/notes.phext"), w.at("snapshot/notes.phext")))
	for _, dir := range []string{"state", "state/journal", "state/journal/1", "bob"} {
		w.settle(dir)
	}
	w.check("will/notes.phext", nil)
	w.write("state/journal/1/2.segment")
	w.must(os.Link(w.at("state/journal/1/2.segment"), w.at("will/leak.phext")))
	w.check("will/leak.phext", fsutil.ErrHardLink)

	// The verdict on a file is asked for again when it has another name.
	w.must(os.Link(w.at("will/notes.phext"), w.at("bob/notes.phext")))
	w.check("will/notes.phext", fsutil.ErrHardLink)
	w.must(os.Remove(w.at("bob/notes.phext")))
	w.check("will/notes.phext", nil)

	// And when its other name comes to lie in the directory of a tenant.
	w.now = parseTenants(t, map[string]any{"id": "will", "data_dir": w.at("will")}, map[string]any{"id": "eve", "data_dir": w.at("snapshot")})
	w.check("will/notes.phext", fsutil.ErrHardLink)
}

// TestHardLinksBesideTheTenantsFile has the tenants file in a data directory.
func TestHardLinksBesideTheTenantsFile(t *testing.T) {
	w := newHardLinkWorld(t)
	w.links = FollowLinks(func() *Snapshot { return w.now }, saysNothing, w.at("will/tenants.json"))
	w.write("will/tenants.json")
	w.write("will/b.phext")
	w.must(errors.Join(os.Link(w.at("will/tenants.json"), w.at("will/leak.phext")), os.Link(w.at("will/b.phext"), w.at("will/a.phext"))))
	w.check("will/leak.phext", fsutil.ErrHardLink)
	w.check("will/a.phext", nil)
}

// TestHardLinksAreNotLookedForAgain reads no directory for a file that is as it was.
func TestHardLinksAreNotLookedForAgain(t *testing.T) {
	w := newHardLinkWorld(t)
	w.write("will/a.phext")
	w.must(os.Link(w.at("will/a.phext"), w.at("snapshot/a.phext")))
	w.check("will/a.phext", nil)
	w.must(os.RemoveAll(w.at("bob")))
	w.must(os.Symlink("bob", w.at("bob"))) // looking into it is an error from now on
	w.check("will/a.phext", nil)
	w.must(os.Chmod(w.at("will/a.phext"), 0o640))
	w.check("will/a.phext", fsutil.ErrHardLink) // since nobody knows what is in bob's directory
}

// TestHardLinksToADirectoryThatComesBack are not served any more once it is there.
func TestHardLinksToADirectoryThatComesBack(t *testing.T) {
	for _, test := range []struct{ inPlace, soon bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		w := newHardLinkWorld(t)
		h := newHardLinks(func() *Snapshot { return w.now }, w.at("etc/tenants.json"), nil)
		w.write("bob/b.phext")
		w.must(os.Link(w.at("bob/b.phext"), w.at("will/a.phext")))
		id, err := fsutil.Identify(w.at("will/a.phext"))
		w.must(err)
		if test.soon { // it is there, away and back within a second
			h.mayServe(w.at("will/none.phext"), fsutil.FileID{})
		}
		w.must(os.Rename(w.at("bob"), w.at("away")))
		if test.inPlace { // of it is an empty one
			w.must(os.Mkdir(w.at("bob"), 0o700))
		}
		if !h.mayServe(w.at("will/a.phext"), id) {
			t.Error("a file is refused, and none of its other names is in sight")
		}
		w.must(errors.Join(os.RemoveAll(w.at("bob")), os.Rename(w.at("away"), w.at("bob"))))
		if !test.soon {
			h.looked = h.looked.Add(-settled)
		}
		if h.mayServe(w.at("will/a.phext"), id) {
			t.Errorf("another tenant's file is served: %+v", test)
		}
	}
}
