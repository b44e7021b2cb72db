package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestAFileOfTheJournalThatIsNoFile is an error, and keeps nobody waiting.
func TestAFileOfTheJournalThatIsNoFile(t *testing.T) {
	for file, read := range map[string]func(j *Journal, path string) error{
		ownerFile:   func(j *Journal, _ string) error { _, err := j.cfg.noteOf(j.dir); return err },
		answersFile: func(j *Journal, _ string) error { _, err := j.loadAnswers(); return err },
		seenFile:    func(j *Journal, _ string) error { _, err := j.loadSeen(1); return err },
		secretFile:  func(j *Journal, _ string) error { _, err := j.secretLocked(); return err },
		floorFile:   func(j *Journal, _ string) error { _, err := j.readFloor(); return err },
		"1-1.chk":   func(_ *Journal, path string) error { _, err := readExternal(path, 0, nil); return err },
		segmentName(9): func(j *Journal, _ string) error {
			_, err := (&view{j: j}).file(&segmentView{number: 9})
			return err
		},
	} {
		for kind, put := range map[string]func(path string) error{
			"a FIFO":           func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a link":           func(path string) error { return os.Symlink(pathFile, path) },
			"a link to a FIFO": func(path string) error { return errors.Join(unix.Mkfifo(path+"~", 0o600), os.Symlink(path+"~", path)) },
		} {
			t.Run(file+", "+kind, func(t *testing.T) {
				w := closing(t, newWorld(t, t.TempDir(), nil))
				w.mutate(update("a.phext", 1, "one"))
				w.must(w.set.Close())
				path := filepath.Join(w.j.dir, file)
				w.must(errors.Join(fsutil.IgnoreMissing(os.Remove(path)), put(path)))
				w.open()
				if err := read(w.j, path); !errors.Is(err, fsutil.ErrNotRegular) {
					t.Errorf("%v", err)
				}
				w.must(os.Remove(path))
			})
		}
	}
}

// TestALinkInThePlaceOfACheckpoint leads to a file that stays as it is.
func TestALinkInThePlaceOfACheckpoint(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	w.tune = func(s *settings) { s.inlineMax = 1 }
	w.reopen()
	closing(t, w)
	w.put("b.phext", text("a long text"))
	w.mutate(update("a.phext", 1, "one"))
	other := filepath.Join(w.cfg.Dir, "other")
	path := filepath.Join(w.j.dir, checkpointName(w.j.seg.number, w.j.seg.seq+1))
	w.must(errors.Join(os.WriteFile(other, []byte("of somebody else"), 0o600), os.Symlink(other, path)))
	if _, err := w.j.Begin(update("b.phext", 1, "x"), func() (State, error) { return w.read("b.phext"), nil }); err == nil {
		t.Error("a mutation was begun")
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "of somebody else" {
		t.Errorf("%q, %v", got, err)
	}
}
