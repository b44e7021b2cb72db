package writer

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/tenants"
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

// TestADirectoryThatAWriteMakes has the id of its journal before it has a phext, so that it is
// never taken for another tenant's in whose place it comes to be.
func TestADirectoryThatAWriteMakes(t *testing.T) {
	for name, request := range map[string]func(w *world) Request{
		"one":     func(w *world) Request { return w.mutate(rewrite.Update, "n", scroll(1), "x") },
		"by name": func(w *world) Request { return w.mutate(rewrite.Update, "n", "a.name", "x") },
		"a batch": func(w *world) Request { return w.batch(op("update", scroll(1), "x"), op("update", "a.name", "y")) },
	} {
		for _, gone := range [][]string{{"data", "directories"}, {"data", "directories", "journal"}} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				data := filepath.Join(w.root, "data")
				if unix.Setxattr(data, "user.sqgate.test", nil, 0) != nil {
					t.Skip("the file system has no extended attributes")
				}
				w.sq.stop()
				w.check(w.journal.Close())
				for _, dir := range gone {
					w.check(os.RemoveAll(filepath.Join(w.root, dir)))
				}
				w.restart()
				j, err := w.journal.Of(data)
				w.check(err)
				if len(gone) == 2 { // the journal knows phexts, and somebody has to say that they are gone
					_, err = w.Commit(t.Context(), request(w))
					w.wantError(err, apierror.Unavailable)
					w.check(os.RemoveAll(filepath.Join(w.root, "directories")))
				}
				looked := 0
				look := func() {
					if looked++; !j.HasWritten(data) {
						t.Errorf("without %v, the directory has no id of its journal when its file %d is written", gone, looked)
					}
				}
				files := w.Writer.files
				w.Writer.files.replace = func(path string, content io.WriterTo) error { look(); return files.replace(path, content) }
				w.Writer.files.storeNames = func(path string, now, next *cache.Version, at phext.Coordinate) error {
					look()
					return files.storeNames(path, now, next, at)
				}
				w.during(func(a *attack) { look(); a.answer(a.pass()) }, func() { _, err = w.Commit(t.Context(), request(w)) })
				w.check(err)
				if looked == 0 {
					t.Error("nothing was written")
				}
			})
		}
	}
}

// TestADirectoryThatCannotBeMade has a write refused for a time, and the log says why.
func TestADirectoryThatCannotBeMade(t *testing.T) {
	w := newWorld(t)
	nowhere := filepath.Join(w.root, "link", "data")
	snapshot, err := tenants.Parse([]byte(`{"tenants":[{"id":"mary","api_key":"pmb-v1-00112233445566778899aabbccddeeff","data_dir":"` + nowhere + `"}]}`))
	w.check(err)
	w.snapshot.Store(snapshot)
	w.tenant, _ = snapshot.ByID("mary")
	w.check(os.Symlink(filepath.Join(w.root, "none", "none"), filepath.Dir(nowhere))) // not even root can make a directory there
	for _, request := range []Request{w.mutate(rewrite.Update, "n", scroll(1), "x"), w.mutate(rewrite.Update, "n", "a.name", "x"), w.batch(op("update", scroll(1), "x"))} {
		_, err = w.Commit(t.Context(), request)
		w.wantError(err, apierror.Unavailable)
	}
	if log := w.log.String(); !strings.Contains(log, "a data directory could not be made") || !strings.Contains(log, nowhere) {
		t.Error(log)
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
