package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// tight is a disk that is full at one write, of which it writes nothing or
// half.
type tight struct {
	n, at int
	half  bool
}

func (d *tight) write(f *os.File, b []byte, off int64) (int, error) {
	d.n++
	if d.n-1 != d.at {
		return f.WriteAt(b, off)
	}
	if !d.half {
		return 0, syscall.ENOSPC
	}
	n, err := f.WriteAt(b[:len(b)/2], off)
	return n, errors.Join(err, syscall.ENOSPC)
}

// TestAFullDiskAtEveryWrite makes the same mutations again and again. Each time
// the disk is full at another of the journal's writes. What fails must say so
// and leave nothing behind; everything else must be there after a restart.
func TestAFullDiskAtEveryWrite(t *testing.T) {
	for _, half := range []bool{false, true} {
		writes := 1000
		for i := 0; i < writes; i++ {
			d := &tight{at: i, half: half}
			failed := fillUp(t, d)
			if d.n <= i {
				writes = d.n
			} else if failed != 1 {
				t.Errorf("write %d: %d failures", i, failed)
			}
		}
		if writes < 20 || writes == 1000 {
			t.Errorf("%d writes: this is no test", writes)
		}
	}
}

func fillUp(t *testing.T, d *tight) (failed int) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Write = d.write })
	w.tune = func(s *settings) { s.inlineMax, s.segmentMax = 50, 500 }
	w.reopen()
	w.put("a.phext", text(strings.Repeat("long ", 20)))
	for i := range 10 {
		failed += w.attempt(t, update([]string{"a.phext", "b.phext"}[i%2], uint32(i), fmt.Sprint("text ", i)))
	}
	id := w.put("a.phext", text("by hand"))
	if err := w.j.RecordEdit("a.phext", text("by hand"), id); err != nil {
		failed++
		w.must(w.j.RecordEdit("a.phext", text("by hand"), id))
	}
	want := map[string]State{"a.phext": w.read("a.phext"), "b.phext": w.read("b.phext")}
	w.reopen()
	report := w.recover()
	if report.Dropped != 0 || report.Kept+report.Healed != 0 {
		t.Errorf("write %d: %+v", d.at, report)
	}
	for file, s := range want {
		got, err := w.j.At(file, w.now.Add(1e9))
		if err != nil || got != s || w.read(file) != s {
			t.Errorf("write %d: %s is %q, %v, want %q", d.at, file, got.Text, err, s.Text)
		}
	}
	w.must(w.set.Close())
	return failed
}

// attempt carries out m as far as the journal allows, and returns 1 if that
// fails.
func (w *world) attempt(t *testing.T, m Mutation) int {
	t.Helper()
	defer w.nothingHalf(t)
	p, err := w.j.Begin(m, func() (State, error) { return w.read(m.File), nil })
	if err != nil {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("begun with %v", err)
		}
		return 1
	}
	err = p.Done(w.put(m.File, w.read(m.File).After(m)))
	if err == nil {
		w.must(p.Sync())
		return 0
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("done with %v", err)
	}
	return 1
}

// nothingHalf expects the newest segment to have only whole records.
func (w *world) nothingHalf(t *testing.T) {
	t.Helper()
	if w.segments() == 0 {
		return
	}
	b, err := os.ReadFile(w.newest())
	if err != nil || boundary(t, string(b), len(b)) != len(b) {
		t.Errorf("half a record is left, %v", err)
	}
}

// TestNoRoomToComplete has a full disk in recovery. A pending mutation is
// aborted, except after a power cut: then the record of its end may be lost, and
// it may have been acknowledged.
func TestNoRoomToComplete(t *testing.T) {
	for _, powerCut := range []bool{false, true} {
		w := closing(t, newWorld(t, t.TempDir(), nil))
		w.put("a.phext", text(big))
		w.must(w.begin(update("a.phext", 2, "new")).Sync())
		if powerCut {
			w.cfg.BootID = "boot-2"
		}
		w.reopen()
		err := w.recoverWithoutRoom("a.phext")
		if (err != nil) != powerCut || w.read("a.phext") != text(big) {
			t.Errorf("power cut %v: %v, %q", powerCut, err, w.read("a.phext").Text)
		}
		want := 0
		if powerCut {
			want = 1
		}
		if again := w.recover(); again.Completed != want || again.Healed+again.Kept != 0 {
			t.Errorf("power cut %v: a second recovery, with room: %+v", powerCut, again)
		}
	}
}

func (w *world) recoverWithoutRoom(file string) error {
	v, err := w.j.view(true)
	w.must(err)
	defer v.close()
	r := w.j.recovery(v, w.j.dataDir, &Report{})
	all, err := v.fileLogs(r.segment)
	w.must(err)
	r.replace = func(string, State) error { return syscall.ENOSPC }
	return r.file(file, all[file], false)
}

// TestAFullDiskKeepsNoEndOut fills the disk while a mutation is pending. The
// record of its end must still find room.
func TestAFullDiskKeepsNoEndOut(t *testing.T) {
	full, taken := false, map[string]int64{}
	write := func(f *os.File, b []byte, off int64) (int, error) {
		if full && off+int64(len(b)) > taken[f.Name()] {
			return 0, syscall.ENOSPC
		}
		return f.WriteAt(b, off)
	}
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Write = write }))
	w.set.cfg.allocate = func(f *os.File, off, n int64) error {
		if full {
			return syscall.ENOSPC
		}
		taken[f.Name()] = off + n
		return nil
	}
	for i := range 200 {
		full = false
		m := update("a.phext", 1, strings.Repeat("x", 100*i))
		p := w.begin(m)
		full = true
		if i%2 == 0 {
			w.must(p.Abort())
			continue
		}
		w.must(p.Done(w.put("a.phext", w.read("a.phext").After(m))))
	}
	if _, err := w.j.Begin(update("a.phext", 1, strings.Repeat("x", 1<<20)), nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("begun without room for its end: %v", err)
	}
	want := w.read("a.phext")
	full = false
	w.reopen()
	if r := w.recover(); r.Completed+r.Healed+r.Kept != 0 || r.Dropped != 0 || w.read("a.phext") != want {
		t.Errorf("%+v", r)
	}
}

// TestAnEndThatWasLost cannot record the end of a mutation, and crashes in the
// next one. The file must hold both.
func TestAnEndThatWasLost(t *testing.T) {
	broken := false
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) {
		c.Write = func(f *os.File, b []byte, off int64) (int, error) {
			if broken {
				return 0, syscall.EIO
			}
			return f.WriteAt(b, off)
		}
	}))
	w.mutate(update("a.phext", 1, "one"))
	m := update("a.phext", 2, "two")
	p := w.begin(m)
	broken = true
	if err := p.Done(w.put("a.phext", w.read("a.phext").After(m))); !errors.Is(err, syscall.EIO) {
		t.Errorf("done: %v", err)
	}
	broken = false
	w.begin(update("a.phext", 3, "three"))
	w.put("a.phext", text(""))
	w.reopen()
	if w.recover(); w.read("a.phext") != text("one\x17two\x17three") {
		t.Errorf("recovered %q", w.read("a.phext").Text)
	}
}

// TestRecoveryWaitsForRoom has two files that a crash has torn, and room for neither at
// first. Recovery says what is needed, keeps no copy of each attempt, and goes on later.
func TestRecoveryWaitsForRoom(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	want := map[string]State{}
	for _, file := range []string{"a.phext", "b.phext", "whole.phext"} {
		w.put(file, text("before\x17"+file))
		w.mutate(update(file, 1, "after"))
		want[file] = w.read(file)
	}
	torn := text("no UTF-8: \xff")
	w.put("a.phext", torn)
	w.put("b.phext", torn)
	w.reopen()
	replace := w.j.cfg.replace
	w.j.cfg.replace = func(path string, _ io.WriterTo, _ fs.FileMode, _ bool) error {
		return &fs.PathError{Op: "write", Path: path, Err: syscall.EDQUOT}
	}
	for range 3 {
		_, err := w.j.Recover(t.Context())
		var waits *NoRoomError
		if !errors.As(err, &waits) || waits.Dir != w.data || len(waits.Files) != 2 || waits.Bytes() != int64(len(want["a.phext"].Text)*2) {
			t.Fatalf("%+v: %v", waits, err)
		}
		if w.read("a.phext") != torn || w.read("whole.phext") != want["whole.phext"] {
			t.Error("the files changed")
		}
	}
	if copies, err := os.ReadDir(w.cfg.Quarantine); err != nil && !errors.Is(err, fs.ErrNotExist) || len(copies) > 0 {
		t.Errorf("%d copies, %v", len(copies), err)
	}
	w.j.cfg.replace = replace
	if r := w.recover(); r.Healed != 2 || len(r.Quarantined) != 2 {
		t.Errorf("%+v", r)
	}
	for file, s := range want {
		if w.read(file) != s {
			t.Errorf("%s: %q", file, w.read(file).Text)
		}
	}
}
