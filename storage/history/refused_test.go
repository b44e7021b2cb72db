package history

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/storage/journal"
)

// failing is a text of which one reading fails.
type failing struct {
	text     string
	readings int
	fails    int // the number of that one
}

func (f *failing) Size() int64 { return int64(len(f.text)) }

func (f *failing) WriteTo(w io.Writer) (int64, error) {
	if f.readings++; f.readings == f.fails {
		return 0, syscall.EIO
	}
	n, err := io.WriteString(w, f.text)
	return int64(n), err
}

// failsAt begins a restore of a phext with its names, in which one reading of the phext's
// new text fails. Somebody has edited the phext, so the journal is flushed before the file is
// replaced.
func (w *world) failsAt(reading int) (r *restore, text *failing, restore func() error) {
	w.Helper()
	w.named("", "salary", "both", "new")
	w.named("", "public", "both", "old")
	w.check(os.WriteFile(w.path("n.phext"), []byte("public\x17both\x17old, edited"), 0o600))
	r, release, err := w.begin(w.Context(), w.tenant, Target{}, "")
	w.check(err)
	text = &failing{text: strings.Repeat("x", journal.Small+1), fails: reading}
	of, err := r.plan("n.phext", journal.State{Source: text, Exists: true})
	w.check(err)
	names, err := r.plan("n.names.phext", journal.State{Text: "salary\x17both\x17new", Exists: true})
	w.check(err)
	return r, text, func() error {
		defer release()
		return r.apply(of, names)
	}
}

// TestARestoreThatFailsTakesTheNamesBack, and is not made after a power cut either.
func TestARestoreThatFailsTakesTheNamesBack(t *testing.T) {
	refused := 0
	for reading := 1; ; reading++ {
		w := newWorld(t)
		r, text, restore := w.failsAt(reading)
		synced := map[string]int64{} // bytes of the journal's files
		w.onSync = func(f *os.File) error {
			info, err := f.Stat()
			synced[f.Name()] = info.Size()
			return err
		}
		before := w.files()
		err := restore()
		if text.readings < reading {
			w.check(err)
			break
		}
		if err == nil { // it was read for a comparison
			continue
		}
		refused++
		if got := w.files(); !errors.Is(err, syscall.EIO) || got != before || r.began {
			t.Errorf("reading %d failed: %v, and there is %.100q", reading, err, got)
		}
		w.onSync = nil
		w.check(w.set.Close())
		for path, size := range synced {
			if filepath.Ext(path) == ".seg" {
				w.check(os.Truncate(path, size))
			}
		}
		w.recoverAfterCut()
		if got := w.files(); got != before {
			t.Errorf("reading %d failed: after a power cut there is %.100q", reading, got)
		}
	}
	if refused < 2 { // for the journal, and for the file
		t.Errorf("only %d readings failed", refused)
	}
}

// TestARefusalThatMayNotBeOnTheDisk is none: recovery may make the restore.
func TestARefusalThatMayNotBeOnTheDisk(t *testing.T) {
	w := newWorld(t)
	r, text, restore := w.failsAt(3)
	w.onSync = func(*os.File) error {
		if text.readings == 3 {
			return syscall.ENOSPC
		}
		return nil
	}
	if err := restore(); !errors.Is(err, syscall.EIO) || !r.began || r.dir.Recovered() {
		t.Errorf("%v; it may have changed something: %v; recovered: %v", err, r.began, r.dir.Recovered())
	}
	w.onSync = nil
}
