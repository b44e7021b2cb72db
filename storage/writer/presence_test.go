package writer

import (
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
)

// TestADirectoryThatWasOnlyWrittenTo is put out of sight before a start, as a disk
// that is not mounted is: nothing is written to what is in its place.
func TestADirectoryThatWasOnlyWrittenTo(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := func(w *world) string { return filepath.Join(w.root, "data") }
	for name, write := range map[string]func(w *world){
		"once": func(w *world) {
			for _, dir := range []string{"data", "journal", "directories"} {
				check(os.RemoveAll(filepath.Join(w.root, dir)))
			}
			check(os.Mkdir(data(w), 0o700))
			w.restart()
			w.must(update(1, "one"))
		},
		"after its mark was removed": func(w *world) {
			check(os.RemoveAll(filepath.Join(w.root, "directories")))
			w.must(update(1, "again"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			write(w)
			check(os.Rename(data(w), data(w)+".aside"))
			check(os.Mkdir(data(w), 0o700))
			w.restart()
			_, err := w.commit(update(1, "second set"))
			w.wantError(err, apierror.Unavailable)
			if all, err := os.ReadDir(data(w)); err != nil || len(all) > 0 {
				t.Errorf("in its place: %v, %v", all, err)
			}
		})
	}
}

// TestAVolumeThatGoesAwayDuringAWrite is unmounted before each operation on the disk, one
// after the other. Nothing comes into the mount point, nothing is served from it, and what
// was acknowledged is there when the volume is back.
func TestAVolumeThatGoesAwayDuringAWrite(t *testing.T) {
	one := update(1, "changed")
	tear := func(a *attack) { _ = os.WriteFile(a.path(), []byte("torn"), 0o600) } // and no answer
	for name, test := range map[string]struct {
		spoil   func(*attack)
		prepare func(w *world)
		request func(w *world) Request
		after   string
	}{
		"one": {request: func(w *world) Request { return w.mutate(one.op, "n", one.c, one.text) }, after: "changed\x17two\x17three"},
		"one that is put back": {spoil: tear, prepare: func(w *world) { w.check(os.Chmod(w.path("n.phext"), 0o600)) }, // it is truncated
			request: func(w *world) Request { return w.mutate(one.op, "n", one.c, one.text) }, after: start},
		"by name": {request: func(w *world) Request { return w.mutate(rewrite.Update, "n", "a.name", "named") }},
		"a batch": {request: func(w *world) Request { r, _ := w.batchOfAll(); return r }},
	} {
		t.Run(name, func(t *testing.T) {
			again := true
			for at := 1; again; at++ {
				w := newWorld(t)
				if test.prepare != nil {
					test.prepare(w)
				}
				r := test.request(w)
				before, unmounted, data := w.file("n.phext"), false, filepath.Join(w.root, "data")
				from := w.disk.calls
				w.disk.each = func(call int) {
					if unmounted || call != from+at {
						return
					}
					unmounted = true
					w.check(os.Rename(data, data+".aside"))
					w.check(os.Mkdir(data, 0o700))
				}
				var err error
				w.during(test.spoil, func() { _, err = w.Commit(t.Context(), r) })
				if again = unmounted; !unmounted {
					break
				}
				if all, e := os.ReadDir(data); e != nil || len(all) > 0 {
					t.Errorf("before operation %d: in the mount point: %v, %v", at, all, e)
				}
				_, refused := w.commit(update(3, "into the mount point"))
				w.wantError(refused, apierror.Unavailable)
				w.check(os.Remove(data))
				w.check(os.Rename(data+".aside", data))
				after := test.after
				switch got := w.seen(); {
				case err == nil && after != "" && got != after, err == nil && after == "" && got == before:
					t.Errorf("before operation %d: acknowledged, and the phext is %q", at, got)
				case err != nil && got != before && apierror.From(err) != errNotKnown:
					t.Errorf("before operation %d: %v, and the phext is %q", at, err, got)
				}
			}
		})
	}
}
