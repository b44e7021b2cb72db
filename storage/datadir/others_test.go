package datadir

import (
	"errors"
	"fmt"
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
	"mirrorborn.us/sqgate/tenants"
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
					strings.NewReplacer(filepath.Join(w.root, "data"), mary, "will", "mary", "v1-0011", "v1-9911").Replace(w.entry("")))
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
	w.setTenants(w.entry(""), strings.NewReplacer(will, mary, "will", "mary", "v1-0011", "v1-9911").Replace(w.entry("")))
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
	w := newPair(t)
	w.exchange(w.wills, w.marys)
	for _, dirs := range []*Dirs{w.Dirs, w.restarted()} {
		w.refuses(dirs, w.wills, w.marys)
	}
	w.exchange(w.wills, w.marys)
	for _, dirs := range []*Dirs{w.Dirs, w.restarted()} {
		w.want(dirs, w.wills, "will's")
		w.want(dirs, w.marys, "mary's")
	}
	// What the operator does on purpose: the tenants change places, too.
	w.place(w.marys, w.wills)
	w.exchange(w.wills, w.marys)
	for _, dirs := range []*Dirs{w.Dirs, w.restarted(), w.restarted()} {
		w.want(dirs, w.wills, "mary's")
		w.want(dirs, w.marys, "will's")
	}
	// A copy by hand, which has the attributes of what it was made from.
	out, err := exec.CommandContext(t.Context(), "cp", "-a", w.marys+"/.", w.wills).CombinedOutput()
	if err != nil {
		t.Skipf("%v: %s", err, out)
	}
	for range 2 {
		dirs := w.restarted()
		w.want(dirs, w.wills, "will's")
		w.want(dirs, w.marys, "will's")
	}
}

// TestADirectoryIsItsTenants has directories in each other's place after moves that nobody has asked for
// yet: their journals are of other paths, or others' by now.
func TestADirectoryIsItsTenants(t *testing.T) {
	for _, asked := range []bool{false, true} { // for will, and never for mary
		for _, start := range []bool{false, true} {
			t.Run(fmt.Sprintf("asked %v, start %v", asked, start), func(t *testing.T) {
				t.Run("after a move", func(t *testing.T) {
					w := newPair(t)
					disk := filepath.Join(w.root, "disk")
					w.check(os.Rename(w.wills, disk))
					w.place(disk, w.marys)
					w.areInEachOthersPlace(disk, w.marys, asked, start)
				})
				t.Run("after an exchange", func(t *testing.T) {
					w := newPair(t)
					w.exchange(w.wills, w.marys)
					w.place(w.marys, w.wills)
					w.areInEachOthersPlace(w.marys, w.wills, asked, start)
				})
				t.Run("one of which was never asked for", func(t *testing.T) {
					w := newPairWhere(t, false)
					w.check(w.restarted().Of(w.wills).Recover(t.Context()))
					w.exchange(w.wills, w.marys)
					dirs := w.Dirs
					if start {
						dirs = w.restarted()
					}
					if asked {
						w.refuses(dirs, w.wills, w.marys)
					} else {
						w.refuses(dirs, w.marys, w.wills)
					}
					w.exchange(w.wills, w.marys)
					w.want(dirs, w.wills, "will's")
					w.want(dirs, w.marys, "mary's")
				})
				t.Run("after another id", func(t *testing.T) {
					w := newPair(t)
					john := strings.Replace(w.entry(""), "will", "john", 1)
					w.setTenants(john, strings.NewReplacer("will", "mary", "v1-0011", "v1-9911", w.wills, w.marys).Replace(w.entry("")))
					w.exchange(w.wills, w.marys)
					dirs := w.Dirs
					if start {
						dirs = w.restarted()
					}
					w.refuses(dirs, w.marys, w.wills)
					w.exchange(w.wills, w.marys)
					w.want(dirs, w.wills, "will's")
					w.want(dirs, w.marys, "mary's")
				})
				t.Run("with no disk in the place of the other", func(t *testing.T) {
					w := newPair(t)
					disk := filepath.Join(w.root, "disk")
					w.place(disk, w.marys)
					if asked {
						w.check(os.Rename(w.wills, disk))
						w.want(w.Dirs, disk, "will's")
						w.check(os.Rename(disk, w.wills))
					}
					w.check(errors.Join(os.Mkdir(disk, 0o700), os.Rename(w.marys, w.marys+".aside"), os.Rename(w.wills, w.marys)))
					dirs := w.Dirs
					if start {
						dirs = w.restarted()
					}
					w.refuses(dirs, w.marys)
					w.check(errors.Join(os.Remove(disk), os.Rename(w.marys, disk), os.Rename(w.marys+".aside", w.marys)))
					w.want(dirs, disk, "will's")
					w.want(dirs, w.marys, "mary's")
				})
				t.Run("one that its tenant has left", func(t *testing.T) {
					w := newPair(t)
					disk := filepath.Join(w.root, "disk")
					if out, err := exec.CommandContext(t.Context(), "cp", "-r", w.wills, disk).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
					w.place(disk, w.wills)
					dirs := w.Dirs
					if start {
						dirs = w.restarted()
					}
					if asked {
						w.want(dirs, disk, "will's")
					}
					w.check(os.WriteFile(filepath.Join(w.wills, "n.phext"), []byte("mary's"), 0o600))
					w.want(dirs, w.wills, "mary's")
					w.want(dirs, disk, "will's")
				})
			})
		}
	}
}

// TestALinkIntoADirectoryThatItsTenantHasLeft is followed, and into one that is only away is not.
func TestALinkIntoADirectoryThatItsTenantHasLeft(t *testing.T) {
	w := newPair(t)
	marys := filepath.Join(w.root, "mary's")
	w.check(os.Rename(w.marys, marys))
	w.setTenants(w.entry(`,"follow_links":true`), strings.NewReplacer("will", "mary", "v1-0011", "v1-9911", w.wills, w.marys).Replace(w.entry("")))
	links := tenants.FollowLinks(w.current.Load, TenantOf, filepath.Join(w.root, "etc", "tenants.json"))
	follows := func() bool {
		return links(filepath.Join(w.wills, "l.phext"), filepath.Join(marys, "big", "l.phext"), fsutil.FileID{})
	}
	if follows() {
		t.Error("it is away, and the link is followed")
	}
	w.check(errors.Join(os.Mkdir(w.marys, 0o700), os.Rename(filepath.Join(marys, "n.phext"), filepath.Join(w.marys, "n.phext"))))
	if !follows() {
		t.Error("mary has left it, and the link is not followed")
	}
}

// pair is a world with two tenants that have a phext each.
type pair struct {
	*world
	wills, marys string // their data directories, at the beginning
	n            *rewrite.Call
}

func newPair(t *testing.T) *pair { return newPairWhere(t, true) }

// newPairWhere is newPair where mary may not have called yet.
func newPairWhere(t *testing.T, marysCalled bool) *pair {
	w := &pair{world: newWorld(t)}
	w.wills, w.marys, w.n = filepath.Join(w.root, "data"), filepath.Join(w.root, "mary"), w.call("select", "p=n")
	w.check(os.Mkdir(w.marys, 0o700))
	if unix.Setxattr(w.marys, "user.sqgate.test", nil, 0) != nil {
		t.Skip("the file system has no extended attributes")
	}
	w.place(w.wills, w.marys)
	for dir, text := range map[string]string{w.wills: "will's", w.marys: "mary's"} {
		w.check(os.WriteFile(filepath.Join(dir, "n.phext"), []byte(text), 0o600))
		if dir == w.marys && !marysCalled {
			continue
		}
		w.want(w.Dirs, dir, text)
		j, err := w.JournalOf(w.Of(dir))
		w.check(err)
		id, err := fsutil.Identify(filepath.Join(dir, "n.phext"))
		w.check(err)
		w.check(j.RecordEdit("n.phext", journal.State{Exists: true, Text: text}, id))
	}
	return w
}

// place is a reload in which these are the directories of will and mary.
func (w *pair) place(wills, marys string) {
	w.Helper()
	at := func(dir string) string { return strings.Replace(w.entry(""), w.wills, dir, 1) }
	w.setTenants(at(wills), strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(at(marys)))
}

func (w *pair) exchange(one, other string) {
	w.Helper()
	w.check(errors.Join(os.Rename(one, one+".aside"), os.Rename(other, one), os.Rename(one+".aside", other)))
}

// restarted is another process, on a machine that was booted since.
func (w *pair) restarted() *Dirs {
	w.Helper()
	c := w.Config
	set, err := journal.New(journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"), BootID: "next boot", Logger: c.Logger})
	w.check(err)
	w.Cleanup(func() { w.check(set.Close()) })
	c.Journal = set
	ds := New(c)
	ds.NotePlaces(w.current.Load().All())
	return ds
}

func (w *pair) want(dirs *Dirs, dir, want string) {
	w.Helper()
	v, err := dirs.Of(dir).RecoveredView(w.Context(), w.n)
	if err != nil || v.Phext.Text() != want {
		w.Errorf("%s: %v, want %q", dir, err, want)
	}
}

func (w *pair) refuses(dirs *Dirs, paths ...string) {
	w.Helper()
	for _, dir := range paths {
		if _, err := dirs.Of(dir).RecoveredView(w.Context(), w.n); !errors.Is(err, errOthers) {
			w.Errorf("%s: %v", dir, err)
		}
	}
}

// areInEachOthersPlace exchanges the directories of will and mary by mistake, and puts that right.
func (w *pair) areInEachOthersPlace(wills, marys string, asked, start bool) {
	w.Helper()
	if asked {
		w.want(w.Dirs, wills, "will's")
	}
	w.exchange(wills, marys)
	dirs := w.Dirs
	if start {
		dirs = w.restarted()
	}
	w.refuses(dirs, wills, marys)
	w.exchange(wills, marys)
	w.want(dirs, wills, "will's")
	w.want(dirs, marys, "mary's")
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
	w.setTenants(strings.NewReplacer(place, moved).Replace(w.entry("")), strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(w.entry("")))
	w.check(w.Of(place).Recover(t.Context()))
	v, err := w.Of(moved).RecoveredView(t.Context(), n)
	w.check(err)
	if got := v.Phext.Text(); got != "will's" {
		t.Errorf("will has %q", got)
	}
}

// TestADirectoryOfAPurgedTenant, whose disk was away when it was purged, is not served to the next one at its path.
func TestADirectoryOfAPurgedTenant(t *testing.T) {
	for _, c := range []struct {
		name   string
		phexts bool // are in the directory
		purged bool // else the tenants file was edited
		next   string
		want   error
	}{
		{"purged", true, true, "will", errOthers},
		{"purged, and another id", true, true, "mary", errOthers},
		{"purged, without phexts", false, true, "will", nil},
		{"removed by hand", true, false, "will", nil},
	} {
		w := newWorld(t)
		if unix.Setxattr(w.dir.Path, "user.sqgate.test", nil, 0) != nil {
			t.Skip("the file system has no extended attributes")
		}
		w.keepMarks()
		w.setTenants(w.entry(`, "incarnation": "20260131T150405.000000000Z"`))
		if w.check(w.dir.Recover(t.Context())); c.phexts {
			w.put("n.phext", "text")
		}
		if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(w.root, "journal")
		if c.purged {
			dir += ".now"
			w.check(w.notePurged(journal.TenantAt(w.dir.Path)))
		}
		set, err := journal.New(journal.Config{Dir: dir, Quarantine: filepath.Join(w.root, "quarantine"), Logger: w.Logger})
		w.check(err)
		w.Journal = set
		w.setTenants(strings.Replace(w.entry(`, "incarnation": "20260201T150405.000000000Z"`), `"will"`, `"`+c.next+`"`, 1))
		w.Dirs = New(w.Config)
		if err := w.Of(w.dir.Path).Recover(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		w.check(set.Close())
	}
}
