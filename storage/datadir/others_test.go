package datadir

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/journal"
)

// TestADirectoryThatBecomesAnothers puts something that leads to mary's directory into the place
// of will's, while nobody reloads the tenants file.
func TestADirectoryThatBecomesAnothers(t *testing.T) {
	for _, how := range []string{"a link", "a link above it", "a mount"} {
		for _, opened := range []bool{true, false} {
			name := how + ", and hers is in use"
			if !opened {
				name = how + ", and hers is not in use yet"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				above := filepath.Join(w.root, "above")
				will, mary := filepath.Join(above, "data"), filepath.Join(w.root, "mary", "data")
				w.check(os.MkdirAll(will, 0o700))
				w.check(os.MkdirAll(mary, 0o700))
				w.setTenants(strings.NewReplacer(filepath.Join(w.root, "data"), will).Replace(w.entry("")),
					strings.NewReplacer(filepath.Join(w.root, "data"), mary, "will", "mary", "0011", "9911").Replace(w.entry("")))
				w.tenant, _ = w.current.Load().ByID("will")
				w.dir = w.Of(will)
				hers, _ := w.current.Load().ByID("mary")
				w.put("n.phext", "will's")
				w.check(os.WriteFile(filepath.Join(mary, "n.phext"), []byte("mary's"), 0o600))
				w.check(os.WriteFile(filepath.Join(mary, "secret.phext"), []byte("mary's"), 0o600))
				w.NotePlaces(w.current.Load().All())
				n, secret, none := w.call("select", "p=n"), w.call("select", "p=secret"), w.call("select", "p=none")
				read := func(d *Dir, call *rewrite.Call) string {
					t.Helper()
					v, err := d.RecoveredView(t.Context(), call)
					w.check(err)
					return v.Phext.Text()
				}
				if got := read(w.dir, n); got != "will's" {
					t.Fatalf("will has %q", got)
				}
				if opened && read(w.Of(mary), n) != "mary's" {
					t.Fatal("mary does not have hers")
				}

				var undo func() error
				switch how {
				case "a link":
					w.check(os.Rename(will, will+".aside"))
					w.check(os.Symlink(mary, will))
					undo = func() error { return errors.Join(os.Remove(will), os.Rename(will+".aside", will)) }
				case "a link above it":
					w.check(os.Rename(above, above+".aside"))
					w.check(os.Symlink(filepath.Dir(mary), above))
					undo = func() error { return errors.Join(os.Remove(above), os.Rename(above+".aside", above)) }
				case "a mount":
					if err := unix.Mount(mary, will, "", unix.MS_BIND, ""); err != nil {
						t.Skip("nothing can be mounted: ", err)
					}
					undo = func() error { return unix.Unmount(will, unix.MNT_DETACH) }
				}
				undone := false
				t.Cleanup(func() {
					if !undone {
						w.check(undo())
					}
				})
				refused := func(what string, err error) {
					t.Helper()
					if e := apierror.From(err); e == nil || e.Kind != apierror.Unavailable || !strings.Contains(e.Message, "leads to another one") {
						t.Errorf("%s: %v", what, err)
					}
				}
				for range 2 {
					for what, call := range map[string]*rewrite.Call{"her phext of the same name": n, "her phext": secret, "a phext that nobody has": none} {
						_, err := w.dir.RecoveredView(t.Context(), call)
						refused(what, err)
						_, _, err = w.dir.CheckForSQ(call.FilePath(w.dir.Path))
						refused(what+", by SQ", err)
					}
					_, err := w.dir.Phexts(t.Context(), n)
					refused("a list", err)
					_, letGo, err := w.dir.Hold()
					letGo()
					refused("a write", err)
					unlock, err := w.LockExclusive(t.Context(), will)
					if err == nil {
						unlock()
					}
					refused("a backup", err)
					if got := read(w.Of(mary), secret); got != "mary's" {
						t.Errorf("mary has %q", got)
					}
				}
				w.dir.MarkUnrecovered()
				refused("recovery", w.dir.Recover(t.Context()))
				unlock, err := w.Of(mary).LockForWrite(t.Context(), hers, nil)
				w.check(err)
				unlock()
				if got := w.log.String(); strings.Count(got, "leads to another data directory") != 1 || !strings.Contains(got, "data_dir="+w.dir.Path) || !strings.Contains(got, "leads_to="+mary) {
					t.Errorf("the log: %s", got)
				}
				undone = true
				w.check(undo())
				if got := read(w.dir, n); got != "will's" {
					t.Errorf("when it is put right, will has %q", got)
				}
			})
		}
	}
}

// TestAMountBeforeTheStart has two data directories lead to one place from the beginning.
func TestAMountBeforeTheStart(t *testing.T) {
	w := newWorld(t)
	will, mary := filepath.Join(w.root, "data"), filepath.Join(w.root, "mary")
	w.check(os.Mkdir(mary, 0o700))
	w.setTenants(w.entry(""), strings.NewReplacer(will, mary, "will", "mary", "0011", "9911").Replace(w.entry("")))
	if err := unix.Mount(mary, will, "", unix.MS_BIND, ""); err != nil {
		t.Skip("nothing can be mounted: ", err)
	}
	w.NotePlaces(w.current.Load().All())
	errs := []error{w.Of(will).Recover(t.Context()), w.Of(mary).Recover(t.Context())}
	w.check(unix.Unmount(will, unix.MNT_DETACH))
	for _, err := range errs {
		if !errors.Is(err, errOthers) {
			t.Error(err)
		}
	}
	w.check(errors.Join(w.Of(will).Recover(t.Context()), w.Of(mary).Recover(t.Context())))
}

// TestTwoDirectoriesThatChangePlaces are served to nobody, as when two disks are mounted in each
// other's place, while sqgate runs or before it starts.
func TestTwoDirectoriesThatChangePlaces(t *testing.T) {
	w := newWorld(t)
	will, mary := filepath.Join(w.root, "data"), filepath.Join(w.root, "mary")
	w.check(os.Mkdir(mary, 0o700))
	if unix.Setxattr(mary, "user.sqgate.test", nil, 0) != nil {
		t.Skip("the file system has no extended attributes")
	}
	w.setTenants(w.entry(""), strings.NewReplacer(will, mary, "will", "mary", "0011", "9911").Replace(w.entry("")))
	n := w.call("select", "p=n")
	read := func(dirs *Dirs, dir string) (string, error) {
		v, err := dirs.Of(dir).RecoveredView(t.Context(), n)
		if err != nil {
			return "", err
		}
		return v.Phext.Text(), nil
	}
	want := func(dirs *Dirs, dir, want string) {
		t.Helper()
		if got, err := read(dirs, dir); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	for _, dir := range []string{will, mary} {
		w.check(os.WriteFile(filepath.Join(dir, "n.phext"), []byte("of "+filepath.Base(dir)), 0o600))
		want(w.Dirs, dir, "of "+filepath.Base(dir))
		j, err := w.JournalOf(w.Of(dir))
		w.check(err)
		id, err := fsutil.Identify(filepath.Join(dir, "n.phext"))
		w.check(err)
		w.check(j.RecordEdit("n.phext", journal.State{Exists: true, Text: "of " + filepath.Base(dir)}, id))
	}
	change := func() {
		w.check(errors.Join(os.Rename(will, will+".aside"), os.Rename(mary, will), os.Rename(will+".aside", mary)))
	}
	restarted := func() *Dirs {
		c := w.Config
		set, err := journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"), BootID: "next boot", Logger: c.Logger})
		w.check(err)
		t.Cleanup(func() { w.check(set.Close()) })
		c.Journal = set
		ds := New(c)
		ds.NotePlaces(w.current.Load().All())
		return ds
	}
	change()
	for _, dirs := range []*Dirs{w.Dirs, restarted()} {
		for _, dir := range []string{will, mary} {
			if got, err := read(dirs, dir); !errors.Is(err, errOthers) {
				t.Errorf("%s has %q, %v", dir, got, err)
			}
		}
	}
	change()
	for _, dirs := range []*Dirs{w.Dirs, restarted()} {
		want(dirs, will, "of data")
		want(dirs, mary, "of mary")
	}
	// What the operator does on purpose: the tenants change places, too.
	w.setTenants(strings.NewReplacer(will, mary).Replace(w.entry("")), strings.NewReplacer("will", "mary", "0011", "9911").Replace(w.entry("")))
	change()
	for _, dirs := range []*Dirs{w.Dirs, restarted(), restarted()} {
		want(dirs, will, "of mary")
		want(dirs, mary, "of data")
	}
	// A copy by hand, which has the attribute of what it was made from.
	out, err := exec.CommandContext(t.Context(), "cp", "-a", mary+"/.", will).CombinedOutput()
	if err != nil {
		t.Skipf("%v: %s", err, out)
	}
	for range 2 {
		dirs := restarted()
		want(dirs, will, "of data")
		want(dirs, mary, "of data")
	}
}

// TestADirectoryThatIsMovedWhileItIsServed is known to the journal before the next write: after a
// cut of power, what was acknowledged since is repaired.
func TestADirectoryThatIsMovedWhileItIsServed(t *testing.T) {
	for _, how := range []string{"moved to another disk", "made anew"} {
		w := newWorld(t)
		write := func(text string) {
			t.Helper()
			unlock, err := w.dir.LockForWrite(t.Context(), w.tenant, nil)
			w.check(err)
			defer unlock()
			if how == "made anew" {
				w.check(os.MkdirAll(w.dir.Path, 0o700))
			}
			w.journalled("n.phext", text)
		}
		write("before")
		aside := w.dir.Path + ".aside"
		w.check(os.Rename(w.dir.Path, aside))
		if how == "moved to another disk" {
			w.check(os.CopyFS(w.dir.Path, os.DirFS(aside)))
		}
		write("acknowledged")
		w.put("n.phext", "ack") // as a cut of power leaves it
		c := w.Config
		w.check(w.Journal.Close())
		notes, err := filepath.Glob(filepath.Join(w.root, "journal", "*", "stopped"))
		w.check(err)
		for _, note := range notes { // nobody has stopped it in order
			w.check(os.Remove(note))
		}
		set, err := journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"), BootID: "next boot", BootTime: time.Now().Add(time.Hour), Logger: c.Logger})
		w.check(err)
		t.Cleanup(func() { w.check(set.Close()) })
		c.Journal = set
		v, err := New(c).Of(w.dir.Path).RecoveredView(t.Context(), w.call("select", "p=n"))
		w.check(err)
		if got := v.Phext.Text(); got != "acknowledged" {
			t.Errorf("%s: %q", how, got)
		}
	}
}

// TestADiskWithTheNumberOfAnother is told from it by its attribute: the roots of file systems have
// one inode number, and their devices may change numbers.
func TestADiskWithTheNumberOfAnother(t *testing.T) {
	w := newWorld(t)
	if unix.Setxattr(w.dir.Path, "user.sqgate.journal", []byte("A 1"), 0) != nil {
		t.Skip("the file system has no extended attributes")
	}
	w.check(w.dir.CheckPresent())
	here := w.dir.place.Load()
	w.check(unix.Setxattr(w.dir.Path, "user.sqgate.journal", []byte("B 1"), 0))
	w.check(w.dir.CheckPresent())
	if now := w.dir.place.Load(); now == here || now.Node != here.Node {
		t.Error("it was not looked whose the directory is")
	}
}

// TestACopyWithTheInodeOfWhatItWasMadeFrom is recovered before the next write, as any other
// directory that takes the place of one.
func TestACopyWithTheInodeOfWhatItWasMadeFrom(t *testing.T) {
	w := newWorld(t)
	if birth, err := fsutil.BirthOf(w.dir.Path); err != nil || birth == (fsutil.Birth{}) {
		t.Skip("the file system keeps no times of birth")
	}
	w.check(w.dir.Recover(t.Context()))
	before := *w.dir.place.Load()
	before.birth = fsutil.Birth{} // as of what was removed
	w.dir.place.Store(&before)
	w.check(w.dir.CheckPresent())
	if w.dir.Recovered() {
		t.Error("it is taken for the directory that was there")
	}
	w.check(w.dir.Recover(t.Context()))
	w.check(w.dir.CheckPresent())
	if !w.dir.Recovered() {
		t.Error("it is recovered for nothing")
	}
}

// TestALinkInThePlaceOfADirectory is followed only by whoever reads the tenants file: what is
// there has another journal.
func TestALinkInThePlaceOfADirectory(t *testing.T) {
	w := newWorld(t)
	w.put("n.phext", "text")
	w.check(w.dir.Recover(t.Context()))
	moved := w.dir.Path + ".moved"
	w.check(os.CopyFS(moved, os.DirFS(w.dir.Path)))
	w.check(os.RemoveAll(w.dir.Path))
	w.check(os.Symlink(moved, w.dir.Path))
	if err := w.dir.CheckPresent(); err != ErrTenantChanged {
		t.Errorf("%v", err)
	}
}

// TestATenantThatLeavesItsPlaceToAnother takes its directory with it. The next one has none yet.
func TestATenantThatLeavesItsPlaceToAnother(t *testing.T) {
	w := newWorld(t)
	place, moved := w.dir.Path, filepath.Join(w.root, "moved")
	n := w.call("select", "p=n")
	w.put("n.phext", "will's")
	w.check(w.dir.Recover(t.Context()))
	j, err := w.JournalOf(w.dir)
	w.check(err)
	id, err := fsutil.Identify(w.path("n.phext"))
	w.check(err)
	w.check(j.RecordEdit("n.phext", journal.State{Exists: true, Text: "will's"}, id))
	w.check(os.Rename(place, moved))
	w.setTenants(strings.NewReplacer(place, moved).Replace(w.entry("")), strings.NewReplacer("will", "mary", "0011", "9911").Replace(w.entry("")))
	w.check(w.Of(place).Recover(t.Context()))
	v, err := w.Of(moved).RecoveredView(t.Context(), n)
	w.check(err)
	if got := v.Phext.Text(); got != "will's" {
		t.Errorf("will has %q", got)
	}
}
