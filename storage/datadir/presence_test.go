package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"mirrorborn.us/sqgate/internal/apierror"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// TestAVolumeThatIsMissing takes a data directory away, as a disk that is not
// mounted does, in the middle and before a start.
func TestAVolumeThatIsMissing(t *testing.T) {
	hasAttributes := unix.Setxattr(t.TempDir(), "user.sqgate.test", nil, 0) == nil
	for _, test := range []struct {
		name    string
		is      string         // the identity of the directory; "" = as it is
		take    func(w *world) // the directory is set aside already
		missing bool
	}{
		{"there is no directory", "", func(*world) {}, true},
		{"there is an empty mount point", "", func(w *world) {
			w.check(os.Mkdir(w.dir.Path, 0o700))
			w.identity = func(string) (string, error) { return "another disk", nil }
		}, true},
		{"there is an empty mount point on the same file system", "", func(w *world) { w.check(os.Mkdir(w.dir.Path, 0o700)) }, true},
		{"somebody emptied it", "", func(w *world) {
			w.check(os.Rename(w.dir.Path+".aside", w.dir.Path))
			w.check(os.Remove(filepath.Join(w.dir.Path, "n.phext")))
		}, false},
		{"it was copied", "", func(w *world) { w.check(os.CopyFS(w.dir.Path, os.DirFS(w.dir.Path+".aside"))) }, false},
		{"there is another disk with the number of the one before", "a disk/128/1.0", func(w *world) {
			w.check(os.Mkdir(w.dir.Path, 0o700))
			w.identity = func(string) (string, error) { return "a disk/128/2.0", nil }
		}, true},
		{"there is a clone of the empty disk", "a disk/2/1.0", func(w *world) { w.check(os.Mkdir(w.dir.Path, 0o700)) }, hasAttributes},
		{"there is another file system that says nothing of itself", "65735546-[0 0]/1", func(w *world) { w.check(os.Mkdir(w.dir.Path, 0o700)) }, true},
		{"it was moved to another disk", "", func(w *world) {
			w.check(os.Mkdir(w.dir.Path, 0o700))
			w.check(os.WriteFile(filepath.Join(w.dir.Path, "other.phext"), []byte("text"), 0o600))
			w.identity = func(string) (string, error) { return "another disk", nil }
		}, false},
	} {
		for _, start := range []string{"", ", after a start"} {
			t.Run(test.name+start, func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				if identity := test.is; identity != "" {
					w.identity = func(at string) (string, error) { _, err := os.Stat(at); return identity, err }
				}
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
				if unlock, err := w.dir.LockForWrite(t.Context(), w.tenant, nil); errors.Is(err, errVolumeMissing) != test.missing {
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

// TestAPartOfTheDataIsNotAllOfIt puts a directory with some of the phexts into the place of
// one that had more, as a copy that is under way is, or what somebody left below a mount.
func TestAPartOfTheDataIsNotAllOfIt(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.journalled("n.phext", "text")
	w.journalled("other.phext", "other")
	w.journalled("third.phext", "third")
	w.journalled("removed.phext", "removed")
	n, other := w.call("select", "p=n"), w.call("select", "p=other")
	read := func(call *rewrite.Call) (string, error) {
		v, err := w.dir.RecoveredView(t.Context(), call)
		if err != nil {
			return "", err
		}
		return v.Phext.Text(), nil
	}
	_, err := read(n)
	w.check(err)
	w.check(os.Rename(w.dir.Path, w.dir.Path+".aside"))
	w.check(os.Mkdir(w.dir.Path, 0o700))
	w.put("n.phext", "left")
	for _, start := range []bool{false, true} {
		if start {
			w.Dirs = New(w.Config)
			w.dir = w.Of(w.dir.Path)
		}
		for _, call := range []*rewrite.Call{other, n} {
			_, err := read(call)
			w.wantError(err, apierror.Unavailable, "not mounted")
		}
		_, _, err = w.dir.Hold()
		w.wantError(err, apierror.Unavailable, "not mounted")
	}
	if !strings.Contains(w.log.String(), "it lacks 3 of 4 phexts, such as other.phext, and another directory than before") {
		t.Errorf("the log does not say why: %s", w.log)
	}
	w.put("other.phext", "other") // somebody has removed the others before
	if text, err := read(other); err != nil || text != "other" {
		t.Errorf("when most of it is there: %q, %v", text, err)
	}
	mark, err := w.dir.readMark()
	w.check(err)
	if now, err := fsutil.IdentityOf(w.dir.Path); err != nil || mark.identity != now {
		t.Errorf("the mark of a directory that was moved is %+v, and it is %q, %v", mark, now, err)
	}
}

// TestAVolumeThatGoesAwayBeforeRecovery is not recovered into its mount point.
func TestAVolumeThatGoesAwayBeforeRecovery(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.journalled("n.phext", "text")
	call := w.call("select", "p=n")
	_, err := w.dir.RecoveredView(t.Context(), call)
	w.check(err)
	w.check(os.WriteFile(w.path("n.phext"), []byte("te"), 0o600))
	j, err := w.Journal.Of(w.dir.Path)
	w.check(err)
	_, err = j.Begin(journal.Mutation{File: "n.phext", Op: journal.Update, At: phext.Origin(), Text: "new"}, func() (journal.State, error) { return journal.State{Text: "text", Exists: true}, nil })
	w.check(err)
	w.dir.MarkUnrecovered()
	stop := w.StopChild
	w.StopChild = func(context.Context, string, string) error { // it was checked that the directory is there
		w.check(os.Rename(w.dir.Path, w.dir.Path+".aside"))
		return os.Mkdir(w.dir.Path, 0o700)
	}
	if _, err := w.dir.RecoveredView(t.Context(), call); err == nil {
		t.Error("a read is answered")
	}
	if all, err := os.ReadDir(w.dir.Path); err != nil || len(all) > 0 {
		t.Errorf("in the mount point: %v, %v", all, err)
	}
	w.StopChild = stop
	w.check(os.Remove(w.dir.Path))
	w.check(os.Rename(w.dir.Path+".aside", w.dir.Path))
	if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Text() != "new" {
		t.Errorf("when it is back: %v", err)
	}
}

// journalled writes a phext of one scroll as a commit does.
func (w *world) journalled(file, text string) {
	w.Helper()
	j, err := w.Journal.Of(w.dir.Path)
	w.check(err)
	pending, err := j.Begin(journal.Mutation{File: file, Op: journal.Update, At: phext.Origin(), Text: text}, func() (journal.State, error) { return journal.State{}, nil })
	w.check(err)
	w.put(file, text)
	id, err := w.Identify(w.path(file))
	w.check(err)
	w.check(pending.Done(id))
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
	w.check(w.dir.Forget("mary")) // one of several tenants was deleted
	if mark, err := w.dir.readMark(); mark == nil || err != nil {
		t.Errorf("the mark is gone, and a phext is there: %v", err)
	}
	w.check(os.RemoveAll(w.dir.Path))
	w.check(w.dir.Forget("will"))
	if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Exists() {
		t.Errorf("%v", err)
	}
}

// TestAMarkOfAnEarlierVersion has only the file system, and is as good as that.
func TestAMarkOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	call := presenceCall(t, w)
	w.check(w.dir.Recover(t.Context()))
	id, err := w.identity(w.dir.Path)
	w.check(err)
	mark := func(id string) {
		w.dir.lastHere.Store(nil) // as after a start
		w.check(os.MkdirAll(w.MarkDir, 0o700))
		w.check(fsutil.IgnoreMissing(os.Remove(w.markPath("will")))) // this version's
		w.check(os.WriteFile(w.markPath(w.dir.Path), []byte(id+"\n"+w.dir.Path+"\n"), 0o600))
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
	if m, err := w.dir.readMark(); err != nil || m.identity != id || m.file != w.markPath("will") {
		t.Errorf("when it was seen again: %+v, %v", m, err)
	}
	if _, err := os.Stat(w.markPath(w.dir.Path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the one before: %v", err)
	}
}

// TestMarksOfAnEarlierVersion are for paths. Each tenant gets that of its own, or the last one that it had; if it is
// removed then, no other one is there. Those who share a directory keep theirs.
func TestMarksOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.check(os.MkdirAll(w.MarkDir, 0o700))
	other := filepath.Join(w.root, "other")
	w.setTenants(w.entry(""), strings.NewReplacer(`"will"`, `"mary"`, "v1-0011", "v1-9911", w.dir.Path, other).Replace(w.entry(`,"shared_data_dir":true`)))
	put := func(path string, age time.Duration, of ...string) {
		m := mark{identity: "a disk" + path, path: path, tenants: of}
		w.check(os.WriteFile(w.markPath(path), []byte(m.text()), 0o600))
		w.check(os.Chtimes(w.markPath(path), time.Time{}, time.Now().Add(-age)))
	}
	for _, test := range []struct {
		at, want string
	}{{w.dir.Path, w.dir.Path}, {w.dir.Path + ".third", w.dir.Path + ".last"}} {
		put(w.dir.Path+".first", 2*time.Hour, "will")
		put(w.dir.Path+".last", time.Hour, "will")
		put(test.at, 3*time.Hour, "will")
		put(other, 0, "mary")
		w.check(w.AssignMarks())
		m, err := w.dir.readMark()
		w.check(err)
		if m.path != test.want || m.file != w.markPath("will") {
			t.Errorf("will's mark: %+v", m)
		}
		if m, err := w.Of(other).readMark(); err != nil || m.path != other {
			t.Errorf("mary's mark: %+v, %v", m, err)
		}
		w.check(os.Remove(m.file))
		w.check(w.AssignMarks())
		if m, err := w.dir.readMark(); m != nil || err != nil {
			t.Errorf("without will's mark: %+v, %v", m, err)
		}
	}
}

// TestWhoseMarksCount looks which marks of other tenants count for mary. She has the path that they were at.
func TestWhoseMarksCount(t *testing.T) {
	for _, test := range []struct {
		name   string
		mark   func(path string) mark
		newer  bool // mary was added after the mark was written
		counts bool
	}{
		{"of a tenant whose id is gone", func(path string) mark {
			return mark{path: path, tenants: []string{"will"}, kind: ofTenant, at: []string{path}}
		}, false, true},
		{"the same, before mary was added", func(path string) mark {
			return mark{path: path, tenants: []string{"will"}, kind: ofTenant, at: []string{path}}
		}, true, false},
		{"of a tenant that has moved on, and whose id is gone", func(path string) mark {
			return mark{path: path, tenants: []string{"will"}, kind: ofTenant, at: []string{path + ".next"}}
		}, false, false},
		{"of a tenant that was elsewhere, moved here, and whose id is gone", func(path string) mark {
			return mark{path: path + ".before", tenants: []string{"will"}, kind: ofTenant, at: []string{path}}
		}, false, true},
		{"of a tenant that is elsewhere", func(path string) mark {
			return mark{path: path, tenants: []string{"bill"}, kind: ofTenant, at: []string{path}}
		}, false, false},
		{"of a tenant, by an earlier version", func(path string) mark { return mark{path: path, tenants: []string{"will"}} }, false, true},
		{"of those who shared it before mary was added", func(path string) mark {
			return mark{path: path, tenants: []string{"will", "john"}, kind: ofPath, at: []string{path}}
		}, true, false},
	} {
		w := newWorld(t)
		w.keepMarks()
		incarnation := ""
		if test.newer {
			incarnation = fmt.Sprintf(`,"incarnation":%q`, tenants.NewIncarnation(time.Now().Add(time.Hour)))
		}
		bill := strings.NewReplacer(`"will"`, `"bill"`, "v1-0011", "v1-9911", w.dir.Path, w.dir.Path+".bill").Replace(w.entry(""))
		w.setTenants(strings.Replace(w.entry(incarnation), `"will"`, `"mary"`, 1), bill)
		w.check(w.dir.Recover(t.Context())) // the journal notes mary
		m := test.mark(w.dir.Path)
		m.identity, m.file = "a disk/2/1.0", w.markPath(m.tenants[0])
		if m.kind == ofPath {
			m.file = w.markPath(m.path)
		}
		w.check(errors.Join(os.MkdirAll(w.MarkDir, 0o700), os.WriteFile(m.file, []byte(m.text()), 0o600)))
		w.Dirs = New(w.Config)
		if got, err := w.Of(w.dir.Path).readMark(); err != nil || (got != nil) != test.counts {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
		mary, _ := w.current.Load().ByID("mary")
		w.check(w.PurgeLeft(t.Context(), mary))
		if _, err := os.Stat(m.file); err != nil {
			t.Errorf("%s: when mary was purged: %v", test.name, err)
		}
	}
}

// TestATenantWithAnotherID takes its mark along: when it moves with its directory at once, so that the path is free for
// others, and when nobody asks for it before it moves to a disk that is away.
func TestATenantWithAnotherID(t *testing.T) {
	for _, idle := range []bool{false, true} {
		w := newWorld(t)
		w.keepMarks()
		path, other := w.dir.Path, filepath.Join(w.root, "other")
		if unix.Setxattr(path, "user.sqgate.test", nil, 0) != nil {
			t.Skip("the file system has no extended attributes")
		}
		w.check(w.dir.Recover(t.Context()))
		w.journalled("n.phext", "text")
		w.dir.MarkWritten(path)
		entry := func(id, dir string) string {
			return strings.NewReplacer(`"will"`, fmt.Sprintf("%q", id), "v1-0011", "v1-"+map[string]string{"mary": "99", "bill": "88"}[id]+"11", path, dir).Replace(w.entry(""))
		}
		reload := func(entries ...string) {
			w.setTenants(entries...)
			w.NoteMoved(w.current.Load().All())
		}
		if idle {
			reload(entry("mary", path))
			w.check(os.Rename(path, path+".away"))
			reload(entry("mary", other))
			if _, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) {
				t.Errorf("without its disk: %v", err)
			}
			continue
		}
		w.check(os.Rename(path, other))
		reload(entry("mary", other))
		v, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n"))
		w.check(err)
		if v.Phext.Text() != "text" {
			t.Errorf("%q", v.Phext.Text())
		}
		reload(entry("mary", other), entry("bill", path))
		if _, err := w.Of(path).RecoveredView(t.Context(), w.call("select", "p=n")); err != nil {
			t.Errorf("whoever has the path next: %v", err)
		}
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

// TestAMarkOfThoseWhoHaveLeft keeps nobody else from the path, and still those who had it and may
// come back to it, and those whose disk is missing while they get another id.
func TestAMarkOfThoseWhoHaveLeft(t *testing.T) {
	entry := func(id, dir string) string {
		id, incarnation, _ := strings.Cut(id, "/")
		return fmt.Sprintf(`{"id":%q,"api_key":"pmb-v1-00112233445566778899aabbccdde%03d","data_dir":%q%s}`, id, id[0], dir, incarnation)
	}
	later := fmt.Sprintf(`/,"incarnation":%q`, tenants.NewIncarnation(time.Now().Add(time.Hour)))
	for _, test := range []struct {
		name    string
		moves   string // whose phexts were moved; they have called since
		next    string // the tenant at the path after the first one has left it; "" = there is none
		missing bool
	}{
		{"it is to be a new tenant's", "will", "", false},
		{"another one has it", "will", "mary", false},
		{"the one who left is back", "will", "will", true},
		{"nobody has left", "", "", true},
		{"the id was changed", "", "bill", true},
		{"another one was added later", "", "mary" + later, false},
		{"the id and the path were changed", "bill", "", false},
	} {
		for _, start := range []string{"", ", after a start"} {
			t.Run(test.name+start, func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				path, other := w.dir.Path, filepath.Join(w.root, "other")
				w.check(w.dir.Recover(t.Context()))
				w.journalled("n.phext", "text")
				_, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n"))
				w.check(err)
				var entries []string
				if test.moves != "" {
					w.check(os.Rename(path, other))
					w.setTenants(entry(test.moves, other))
					_, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n"))
					w.check(err)
					entries = append(entries, entry(test.moves, other))
				} else {
					w.check(os.Rename(path, path+".aside"))
				}
				if test.next == "will" {
					entries = nil
				}
				if test.next != "" {
					entries = append(entries, entry(test.next, path))
				}
				w.setTenants(entries...)
				if start != "" {
					w.Dirs = New(w.Config)
				}
				if err := w.Of(path).CheckPresent(); errors.Is(err, errVolumeMissing) != test.missing || !test.missing && err != nil {
					t.Errorf("%v", err)
				}
				if reason, _, err := w.Absence(path); err != nil || (reason != "") != test.missing {
					t.Errorf("it is absent: %q, %v", reason, err)
				}
				if test.next == "" {
					return
				}
				if _, err := w.Of(path).RecoveredView(t.Context(), w.call("select", "p=n")); errors.Is(err, errVolumeMissing) != test.missing || !test.missing && err != nil {
					t.Errorf("a read: %v", err)
				}
			})
		}
	}
}

// TestAMoveThatNobodyHasAskedFor is as good as any other when sqgate is started without the disk.
func TestAMoveThatNobodyHasAskedFor(t *testing.T) {
	for _, test := range []struct {
		name    string
		stopped bool // it was moved while sqgate was stopped
		link    bool // data_dir stays, and is a link now
		missing bool // that its disk is away is noticed
		known   bool // will was served before
	}{
		{"while sqgate runs", false, false, true, true},
		{"while sqgate is stopped", true, false, true, true},
		{"by a link", false, true, true, true},
		{"by a link, while sqgate is stopped", true, true, true, true},
		{"of one whom sqgate has never seen", false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.keepMarks()
			path, other := w.dir.Path, filepath.Join(w.root, "disk", "other")
			if test.known {
				w.check(w.dir.Recover(t.Context()))
				w.journalled("n.phext", "text")
			} else {
				w.put("n.phext", "text")
			}
			w.check(os.Mkdir(filepath.Dir(other), 0o700))
			w.check(os.Rename(path, other))
			entry := strings.Replace(w.entry(""), path, other, 1)
			if test.link {
				w.check(os.Symlink(other, path))
				entry = w.entry("")
			}
			reload := func() {
				w.setTenants(entry)
				w.tenant, _ = w.current.Load().ByID("will")
				w.dir = w.Of(w.tenant.DataDir)
			}
			if test.stopped {
				w.Dirs = New(w.Config)
			}
			reload()
			if w.dir.Path != other {
				t.Fatal(w.dir.Path)
			}
			w.NoteMoved(w.current.Load().All())

			w.check(os.Rename(other, path+".away")) // its disk
			w.Dirs = New(w.Config)
			reload()
			call := w.call("select", "p=n")
			if _, err := w.dir.RecoveredView(t.Context(), call); errors.Is(err, errVolumeMissing) != test.missing {
				t.Errorf("%v", err)
			}
			if !test.missing {
				return
			}
			if test.link { // the disk that has the link is away, too
				w.check(os.Remove(path))
				reload()
				if _, err := w.dir.RecoveredView(t.Context(), call); !errors.Is(err, errVolumeMissing) {
					t.Errorf("without the link: %v", err)
				}
				w.check(os.Symlink(other, path))
				reload()
			}
			w.check(os.Rename(path+".away", other))
			if v, err := w.dir.RecoveredView(t.Context(), call); err != nil || v.Phext.Text() != "text" {
				t.Errorf("when it is back: %v", err)
			}
		})
	}
}

// TestAMoveWithoutItsPhexts is refused, until they are there or somebody says that there are none.
func TestAMoveWithoutItsPhexts(t *testing.T) {
	for _, start := range []bool{false, true} {
		for _, others := range []bool{false, true} { // the path was another tenant's
			for _, noted := range []bool{false, true} { // else a request comes first
				for _, empty := range []bool{false, true} { // or there is no directory at all
					t.Run(fmt.Sprintf("start %v, others %v, noted %v, empty %v", start, others, noted, empty), func(t *testing.T) {
						w := newWorld(t)
						w.keepMarks()
						path, other := w.dir.Path, filepath.Join(w.root, "other")
						w.check(w.dir.Recover(t.Context()))
						w.journalled("n.phext", "will's")
						var entries []string
						if others {
							bill := strings.NewReplacer("will", "bill", "v1-0011", "v1-9911", path, other).Replace(w.entry(""))
							w.setTenants(w.entry(""), bill)
							w.dir = w.Of(other)
							w.check(os.Mkdir(other, 0o700))
							w.check(w.dir.Recover(t.Context()))
							w.journalled("n.phext", "bill's")
							w.check(w.dir.writeMark(other))
							w.check(os.RemoveAll(other))
							entries = append(entries, strings.Replace(bill, other, other+".moved", 1))
						}
						if empty {
							w.check(os.Mkdir(other, 0o700))
						}
						if start {
							w.Dirs = New(w.Config)
						}
						w.setTenants(append(entries, strings.Replace(w.entry(""), path, other, 1))...)
						if noted {
							w.NoteMoved(w.current.Load().All())
						}
						read := func() (string, error) {
							v, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n"))
							if err != nil {
								return "", err
							}
							return v.Phext.Text(), nil
						}
						for range 2 {
							if text, err := read(); !errors.Is(err, errVolumeMissing) {
								t.Errorf("without its phexts: %q, %v", text, err)
							}
						}
						if !strings.Contains(w.log.String(), "its tenant had phexts in "+path) {
							t.Errorf("the log: %s", w.log)
						}
						mark := w.Of(other).markFiles()[0]
						if noted { // somebody says that there are none
							w.check(os.Remove(mark))
							if text, err := read(); err != nil || text != "" {
								t.Errorf("without the mark: %q, %v", text, err)
							}
							w.Dirs = New(w.Config)
							w.NoteMoved(w.current.Load().All())
							if text, err := read(); err != nil || text != "" {
								t.Errorf("after a start: %q, %v", text, err)
							}
							return
						}
						w.check(os.RemoveAll(other))
						w.check(os.Rename(path, other))
						if text, err := read(); err != nil || text != "will's" {
							t.Errorf("with its phexts: %q, %v", text, err)
						}
						w.check(os.Rename(other, path))
						if text, err := read(); !errors.Is(err, errVolumeMissing) {
							t.Errorf("without its disk: %q, %v", text, err)
						}
					})
				}
			}
		}
	}
}

// TestAStateDirectoryWithoutMarks is one that was moved to another host: the marks stay behind, and the
// disk of the phexts is to be mounted first.
func TestAStateDirectoryWithoutMarks(t *testing.T) {
	for _, empty := range []bool{false, true} { // or there is no directory at all
		w := newWorld(t)
		w.keepMarks()
		if birth, err := fsutil.BirthOf(w.dir.Path); err != nil || birth == (fsutil.Birth{}) {
			t.Skip("the file system does not keep when a directory was made")
		}
		w.check(w.dir.Recover(t.Context()))
		w.journalled("n.phext", "text")
		w.check(w.dir.writeMark(w.dir.Path))
		w.check(os.RemoveAll(w.MarkDir))
		w.check(os.Rename(w.dir.Path, w.dir.Path+".aside"))
		if empty {
			w.check(os.Mkdir(w.dir.Path, 0o700))
		}
		start := func() {
			w.Dirs = New(w.Config)
			w.dir = w.Of(w.tenant.DataDir)
		}
		for range 2 {
			start()
			if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) {
				t.Errorf("without its disk (empty %v): %v", empty, err)
			}
		}
		w.check(os.RemoveAll(w.dir.Path))
		w.check(os.Rename(w.dir.Path+".aside", w.dir.Path))
		if v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); err != nil || v.Phext.Text() != "text" {
			t.Errorf("with its disk: %v", err)
		}
	}
}

// TestTheDiskOfWhoeverIsLeft in a shared directory is missed, although the mark may be older than that.
func TestTheDiskOfWhoeverIsLeft(t *testing.T) {
	for _, start := range []bool{false, true} {
		w := newWorld(t)
		will, mary := w.share()
		w.dir.MarkWritten(w.dir.Path)
		w.setTenants(will, mary)
		w.check(w.dir.Recover(t.Context()))
		w.journalled("mary.n.phext", "mary's")
		w.check(os.Mkdir(w.dir.Path+".other", 0o700))
		w.setTenants(strings.Replace(w.entry(""), `data"`, `data.other"`, 1), mary)
		w.check(w.dir.Recover(t.Context()))
		w.check(os.Rename(w.dir.Path, w.dir.Path+".away"))
		w.check(os.Mkdir(w.dir.Path, 0o700))
		if start {
			w.Dirs = New(w.Config)
		}
		w.tenant, _ = w.current.Load().ByID("mary")
		if _, err := w.Of(w.tenant.DataDir).RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) {
			t.Errorf("start %v: %v", start, err)
		}
	}
}

// TestMarksOfOneWhoIsPurged are gone, also one that an earlier version has written for a path that it had.
func TestMarksOfOneWhoIsPurged(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.check(w.dir.Recover(t.Context()))
	w.put("n.phext", "text")
	w.dir.MarkWritten(w.dir.Path)
	earlier := mark{identity: "a disk/2", path: w.dir.Path + ".before", tenants: []string{w.tenant.UniqueID()}}
	w.check(os.WriteFile(w.markPath(earlier.path), []byte(earlier.text()), 0o600))
	w.check(w.PurgeLeft(t.Context(), w.tenant))
	w.check(w.eachMark(func(m *mark) error { return fmt.Errorf("there is %+v", m) }))
	if of := journal.TenantAt(w.dir.Path); of != "" {
		t.Errorf("the directory says that it is of %q", of)
	}
}

// TestAMoveIsOnTheDisk syncs the directories that lead to the one that a tenant has got, each once,
// or that itself where sqgate may not.
func TestAMoveIsOnTheDisk(t *testing.T) {
	w := newWorld(t)
	link := filepath.Join(w.root, "links", "mary")
	w.check(os.Mkdir(filepath.Dir(link), 0o700))
	w.check(os.MkdirAll(filepath.Join(w.root, "closed", "mary"), 0o700))
	w.check(os.Symlink(filepath.Join(w.root, "closed", "mary"), link))
	w.setTenants(w.entry(""), fmt.Sprintf(`{"id":"bill","api_key":"pmb-v1-10112233445566778899aabbccddeeff","data_dir":%q}`, filepath.Join(w.root, "bill")),
		fmt.Sprintf(`{"id":"mary","api_key":"pmb-v1-20112233445566778899aabbccddeeff","data_dir":%q}`, link))
	var synced []string
	w.syncDir = func(path string) error {
		name, err := filepath.Rel(w.root, path)
		if synced = append(synced, name); name == "closed" {
			return fs.ErrPermission
		}
		return err
	}
	w.NoteMoved(w.current.Load().All())
	slices.Sort(synced)
	if got := strings.Join(synced, " "); got != ". closed closed/mary links" {
		t.Errorf("synced: %s", got)
	}
}

// TestWhatWasSeenOfAPath, or marked, by others or before the tenant had another path, does not
// count for whoever has it now.
func TestWhatWasSeenOfAPath(t *testing.T) {
	for name, test := range map[string]func(w *world, path, other string, goTo func(w *world, will, bill string)) (want string){
		"it is another's until its files have left": func(w *world, path, other string, goTo func(*world, string, string)) string {
			goTo(w, other, other+".bill")
			w.moveFiles(other, other+".bill")
			return ""
		},
		"it was another's, who had more": func(w *world, path, other string, goTo func(*world, string, string)) string {
			w.check(os.Rename(other, other+".bill"))
			w.check(os.Rename(path, other))
			goTo(w, other, other+".bill")
			return "will's"
		},
		"it was another's, who had more, and the files come later": func(w *world, path, other string, goTo func(*world, string, string)) string {
			goTo(w, other, other+".bill")
			w.check(os.Rename(other, other+".bill"))
			w.check(os.Rename(path, other))
			return "will's"
		},
		"it was the tenant's own": func(w *world, path, other string, goTo func(*world, string, string)) string {
			w.moveFiles(path, path+".new")
			goTo(w, path+".new", other)
			w.check(w.Of(path + ".new").Recover(w.Context()))
			goTo(w, path, other)
			return ""
		},
	} {
		for _, start := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", start ", start), func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				path, other := w.dir.Path, filepath.Join(w.root, "other")
				goTo := func(w *world, will, bill string) {
					w.setTenants(strings.Replace(w.entry(""), path, will, 1), strings.NewReplacer("will", "bill", "v1-0011", "v1-9911", path, bill).Replace(w.entry("")))
					w.NoteMoved(w.current.Load().All())
				}
				w.check(os.Mkdir(other, 0o700))
				goTo(w, path, other)
				for dir, files := range map[string][]string{path: {"n.phext", "m.phext"}, other: {"n.phext", "o.phext", "p.phext", "q.phext", "r.phext"}} {
					w.dir = w.Of(dir)
					w.check(w.dir.Recover(t.Context()))
					for _, file := range files {
						w.journalled(file, map[bool]string{true: "will's", false: "bill's"}[dir == path])
					}
					w.dir.MarkWritten(dir)
				}
				want := test(w, path, other, goTo)
				if start {
					w.Dirs = New(w.Config)
					w.NoteMoved(w.current.Load().All())
				}
				will, _ := w.current.Load().ByID("will")
				for range 2 {
					v, err := w.Of(will.DataDir).RecoveredView(t.Context(), w.call("select", "p=n"))
					switch {
					case want == "" && !errors.Is(err, errVolumeMissing):
						t.Fatalf("without its phexts: %v", err)
					case want != "" && (err != nil || v.Phext.Text() != want):
						t.Fatalf("with its phexts: %v\n%s", err, w.log)
					}
				}
			})
		}
	}
}

// TestAPathThatHadNothingBefore: the tenant has got phexts at another path since then.
func TestAPathThatHadNothingBefore(t *testing.T) {
	for _, noted := range []bool{false, true} { // else a request comes first
		w := newWorld(t)
		w.keepMarks()
		path, other := w.dir.Path, filepath.Join(w.root, "other")
		goTo := func(dir string) {
			w.setTenants(strings.Replace(w.entry(""), path, dir, 1))
			if noted {
				w.NoteMoved(w.current.Load().All())
			}
			w.dir = w.Of(dir)
		}
		w.check(w.dir.Recover(t.Context()))
		w.check(os.Mkdir(other, 0o700))
		goTo(other)
		w.check(w.dir.Recover(t.Context()))
		w.journalled("n.phext", "text")
		goTo(path)
		if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) {
			t.Errorf("noted %v: %v", noted, err)
		}
	}
}

// TestAMoveForWhoseMarkThereIsNoRoom is refused all the same until the phexts are there: the one before counts, or none
// is served.
func TestAMoveForWhoseMarkThereIsNoRoom(t *testing.T) {
	for _, marked := range []bool{false, true} {
		w := newWorld(t)
		w.keepMarks()
		path, other := w.dir.Path, filepath.Join(w.root, "other")
		w.check(w.dir.Recover(t.Context()))
		w.journalled("n.phext", "text")
		full := filepath.Join(w.root, "full")
		if marked {
			w.dir.MarkWritten(path)
			w.check(os.Mkdir(full, 0o700))
			if err := unix.Mount(w.MarkDir, full, "", unix.MS_BIND, ""); err != nil {
				t.Skip("nothing can be mounted: ", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(full, unix.MNT_DETACH) })
			w.check(unix.Mount("", full, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			w.MarkDir = full
		} else {
			w.check(os.Symlink("nothing", w.MarkDir))
		}
		w.check(os.Mkdir(other, 0o700))
		w.Dirs = New(w.Config)
		w.setTenants(strings.Replace(w.entry(""), path, other, 1))
		refused := func() {
			t.Helper()
			for range 2 {
				if _, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n")); err == nil {
					t.Error("a read without its phexts is answered")
				}
			}
		}
		refused()
		if marked { // there is room now
			w.check(unix.Mount("", full, "", unix.MS_BIND|unix.MS_REMOUNT, ""))
		} else {
			w.check(os.Remove(w.MarkDir))
		}
		refused()
		w.moveFiles(path, other)
		if v, err := w.Of(other).RecoveredView(t.Context(), w.call("select", "p=n")); err != nil || v.Phext.Text() != "text" {
			t.Errorf("with its phexts: %v", err)
		}
	}
}

// TestATenantThatComesBackToAPath of which it was the owner before another one had it for a moment. Its phexts were
// not there at all that time, as without their disk.
func TestATenantThatComesBackToAPath(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	path, other, disk := w.dir.Path, filepath.Join(w.root, "other"), filepath.Join(w.root, "disk")
	w.check(w.dir.Recover(t.Context()))
	w.journalled("n.phext", "text")
	w.dir.MarkWritten(path)
	w.check(errors.Join(os.Rename(path, disk), os.Mkdir(path, 0o700)))
	mary := strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(w.entry(""))
	w.setTenants(strings.Replace(w.entry(""), path, other, 1), mary)
	w.dir = w.Of(path)
	w.check(w.dir.Recover(t.Context()))
	w.setTenants(w.entry(""))
	for range 2 {
		if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) {
			t.Errorf("without the disk: %v", err)
		}
	}
	w.check(errors.Join(os.RemoveAll(path), os.Rename(disk, path)))
	if v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); err != nil || v.Phext.Text() != "text" {
		t.Errorf("with the disk: %v", err)
	}
}

// TestATenantThatWasElsewhereForAMoment while its disk was away: it is not served without its phexts, whatever others
// have written below the mount point, and whoever it has shared a directory with.
func TestATenantThatWasElsewhereForAMoment(t *testing.T) {
	for name, test := range map[string]struct {
		was, is string // where will was for a moment, and where it is then
		anew    bool   // bill, who had will's path, has begun anew at another one
	}{
		"at another path":                       {"other", "data", false},
		"and another one begins anew":           {"other", "data", true},
		"in a directory that others have, too":  {"shared", "data", false},
		"with others, and then at another path": {"shared", "other", false},
	} {
		for _, start := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", start ", start), func(t *testing.T) {
				w := newWorld(t)
				w.keepMarks()
				path, disk := w.dir.Path, filepath.Join(w.root, "disk")
				for _, dir := range []string{"other", "shared"} {
					w.check(os.Mkdir(filepath.Join(w.root, dir), 0o700))
				}
				w.check(w.dir.Recover(t.Context()))
				w.journalled("n.phext", "will's")
				w.dir.MarkWritten(path)
				goTo := func(will, bill string) {
					entries := []string{strings.Replace(w.entry(""), path, filepath.Join(w.root, will), 1)}
					for _, id := range []string{"bill", "mary"} {
						dir := map[string]string{"bill": bill, "mary": "shared"}[id]
						shared := ""
						if dir == "shared" {
							shared = `,"shared_data_dir":true`
						}
						entries = append(entries, fmt.Sprintf(`{"id":%q,"api_key":"pmb-v1-%s0112233445566778899aabbccddeeff","data_dir":%q%s}`, id, map[string]string{"bill": "8", "mary": "9"}[id], filepath.Join(w.root, dir), shared))
					}
					if will == "shared" {
						entries[0] = strings.TrimSuffix(entries[0], "}") + `,"shared_data_dir":true}`
					}
					w.setTenants(entries...)
					if start {
						w.Dirs = New(w.Config)
					}
					w.NoteMoved(w.current.Load().All())
				}
				write := func(dir, file string) {
					w.dir = w.Of(filepath.Join(w.root, dir))
					w.check(errors.Join(os.MkdirAll(w.dir.Path, 0o700), w.dir.Recover(t.Context())))
					w.journalled(file, "others'")
					w.dir.MarkWritten(w.dir.Path)
				}
				w.check(errors.Join(os.Rename(path, disk), os.Mkdir(path, 0o700)))
				goTo(test.was, "data")
				write("data", "n.phext") // below the mount point
				write("shared", "mary.n.phext")
				if test.was == "shared" {
					w.dir.MarkWritten(w.dir.Path)
				}
				goTo(test.is, "bills")
				if test.anew {
					if err := w.Of(filepath.Join(w.root, "bills")).Recover(t.Context()); !errors.Is(err, errVolumeMissing) {
						t.Errorf("before it begins anew: %v", err)
					}
					w.check(os.Remove(w.markPath("bill")))
					write("bills", "b.phext")
				}
				will, _ := w.current.Load().ByID("will")
				w.dir = w.Of(will.DataDir)
				for range 2 {
					if v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); !errors.Is(err, errVolumeMissing) && !errors.Is(err, errOthers) {
						t.Fatalf("without the disk: %v, %v", v.Phext, err)
					}
				}
				w.check(errors.Join(os.RemoveAll(will.DataDir), os.Rename(disk, will.DataDir)))
				if v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=n")); err != nil || v.Phext.Text() != "will's" {
					t.Errorf("with the disk: %v\n%s", err, w.log)
				}
				bill, _ := w.current.Load().ByID("bill") // its phexts are below the mount point
				if _, err := w.Of(bill.DataDir).RecoveredView(t.Context(), w.call("select", "p=n")); errors.Is(err, errVolumeMissing) == test.anew {
					t.Errorf("the other one: %v", err)
				}
			})
		}
	}
}

// TestAPathThatIsAnothersForAMoment while its disk is away: that one has phexts elsewhere, and is not served there. The
// first one is, once the disk is back.
func TestAPathThatIsAnothersForAMoment(t *testing.T) {
	for _, start := range []bool{false, true} {
		w := newWorld(t)
		w.keepMarks()
		path, marys, other, disk := w.dir.Path, filepath.Join(w.root, "marys"), filepath.Join(w.root, "other"), filepath.Join(w.root, "disk")
		mary := strings.NewReplacer("will", "mary", "v1-0011", "v1-9911", path, marys).Replace(w.entry(""))
		w.setTenants(w.entry(""), mary)
		for _, dir := range []string{path, marys} {
			w.check(os.MkdirAll(dir, 0o700))
			w.dir = w.Of(dir)
			w.check(w.dir.Recover(t.Context()))
			w.journalled(filepath.Base(dir)+".phext", "text")
			w.dir.MarkWritten(dir)
		}
		w.check(errors.Join(os.Rename(path, disk), os.Mkdir(path, 0o700)))
		w.setTenants(strings.Replace(w.entry(""), path, other, 1), strings.Replace(mary, marys, path, 1))
		if start {
			w.Dirs = New(w.Config)
		}
		w.dir = w.Of(path)
		missing := func() {
			t.Helper()
			if _, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=data")); !errors.Is(err, errVolumeMissing) {
				t.Errorf("start %v: %v", start, err)
			}
		}
		missing()
		w.setTenants(w.entry(""), mary)
		missing()
		w.check(errors.Join(os.Remove(path), os.Rename(disk, path)))
		if v, err := w.dir.RecoveredView(t.Context(), w.call("select", "p=data")); err != nil || v.Phext.Text() != "text" {
			t.Errorf("with its disk: %v", err)
		}
	}
}

// moveFiles moves the phexts of a directory, which stays.
func (w *world) moveFiles(from, to string) {
	w.Helper()
	w.check(os.MkdirAll(to, 0o700))
	names, err := PhextFiles(from)
	w.check(err)
	for _, name := range names {
		w.check(os.Rename(filepath.Join(from, name), filepath.Join(to, name)))
	}
}

// TestAMarkForWhichThereWasNoRoom is made as soon as there is, also if nobody writes.
func TestAMarkForWhichThereWasNoRoom(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	identity := w.identity
	w.identity = func(string) (string, error) { return "", errors.New("no space left on device") }
	w.put("n.phext", "text")
	call := presenceCall(t, w)
	for range 2 {
		if _, err := w.dir.RecoveredView(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		w.dir.markAgain()
	}
	if n := strings.Count(w.log.String(), "could not be marked"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	w.identity = identity
	w.dir.markAgain()
	if mark, err := w.dir.readMark(); mark == nil || err != nil {
		t.Errorf("there is no mark: %v", err)
	}
}

// TestADirectoryThatIsAwayForAMoment while a phext is looked for, or while it is looked whether the directory
// is there: its phexts are not missing.
func TestADirectoryThatIsAwayForAMoment(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	path, empty := w.dir.Path, filepath.Join(w.root, "empty")
	w.put("n.phext", "text")
	_, err := w.dir.RecoveredView(t.Context(), presenceCall(t, w))
	w.check(err)
	w.check(os.Mkdir(empty, 0o700))
	exchange := func() { w.check(unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, empty, unix.RENAME_EXCHANGE)) }

	identity := w.identity
	w.identity = func(at string) (string, error) {
		defer func() { w.identity = identity }()
		id, err := identity(at)
		exchange() // it is back
		return id, err
	}
	w.dir.lastHere.Store(nil)
	exchange()
	if err := w.dir.CheckPresent(); !errors.Is(err, errVolumeMissing) {
		t.Errorf("while it is away: %v", err)
	}
	if err := w.dir.CheckPresent(); err != nil {
		t.Errorf("when it is back: %v", err)
	}

	reads := 0
	v, err := w.dir.readPhext(w.path("n.phext"), func(path string) (*cache.Version, error) {
		if reads++; reads == 1 {
			exchange()
			defer exchange()
		}
		return w.File(path)
	})
	if err != nil || v.Text() != "text" {
		t.Errorf("%v", err)
	}
}

// TestWhoBeginsWithoutThePhexts that were lost goes on with others after a start, also where the file system says
// nothing of itself.
func TestWhoBeginsWithoutThePhexts(t *testing.T) {
	w := newWorld(t)
	w.keepMarks()
	w.identity = func(string) (string, error) { return "65735546-[0 0]/1", nil }
	w.check(w.dir.Recover(t.Context()))
	for _, file := range []string{"a.phext", "b.phext", "c.phext"} {
		w.journalled(file, "text")
		w.check(os.Remove(w.path(file)))
	}
	w.put("n.phext", "new")
	w.dir.MarkWritten(w.dir.Path)
	identity := w.identity
	w.Dirs = New(w.Config)
	w.identity = identity
	w.check(w.Of(w.dir.Path).CheckPresent())
}
