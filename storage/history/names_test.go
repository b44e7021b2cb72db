package history

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// wantOwnScrolls checks that no name has the scroll of another one in a phext.
func (w *world) wantOwnScrolls(v datadir.View) {
	w.Helper()
	for name := range v.Names.Phext.All() {
		if text, ok := v.Phext.Phext.Select(name.At); ok && text != name.Text {
			w.Errorf("%s shows the scroll of %s", name.Text, text)
		}
	}
}

// onDisk is the phext and its names as a kill would leave them.
func (w *world) onDisk() datadir.View {
	w.Helper()
	parsed := func(file string) *cache.Version {
		text, err := os.ReadFile(w.path(file))
		w.check(fsutil.IgnoreMissing(err))
		return cache.NewVersion(string(text), fsutil.FileID{})
	}
	return datadir.View{Phext: parsed("n.phext"), Names: parsed("n.names.phext")}
}

// TestANameNeverHasAnothersScroll restores a phext and its names, back and forth. Whenever
// the journal is flushed, it looks at what readers see, and at what a kill would leave.
func TestANameNeverHasAnothersScroll(t *testing.T) {
	states := [][]string{{"salary", "both"}, {"public", "both", "new"}, {"both", "public"}, {"both"}}
	everyPair := []int{0, 1, 0, 2, 1, 2, 0, 3, 1, 3, 2, 3}
	ways := map[string]func(w *world, then time.Time, backup *bytes.Buffer) error{
		"by the tenant": func(w *world, then time.Time, _ *bytes.Buffer) error {
			_, err := w.RestoreOwn(w.Context(), w.tenant, w.own(`"phext": "n"`, then))
			return err
		},
		"all phexts": func(w *world, then time.Time, _ *bytes.Buffer) error {
			_, err := w.Restore(w.Context(), w.tenant, Target{At: then})
			return err
		},
		"from a backup": func(w *world, _ time.Time, backup *bytes.Buffer) error {
			_, err := w.RestoreBackup(w.Context(), w.tenant, Target{}, bytes.NewReader(backup.Bytes()))
			return err
		},
	}
	for size, more := range map[string]string{"small": "more", "large": strings.Repeat("x", journal.Small)} {
		pairs := everyPair
		if size == "large" {
			pairs = pairs[:4] // each takes longer
		}
		w := newWorld(t)
		w.SpoolDir = w.root
		w.tenant.QuotaBytes = 100 << 20
		call, err := locate(w.tenant, "n", "")
		w.check(err)
		view := func() datadir.View {
			v, err := w.Dirs.Of(w.tenant.DataDir).View(call)
			w.check(err)
			return v
		}
		var times []time.Time
		var backups []*bytes.Buffer
		for _, names := range states {
			times, backups = append(times, w.named(more, names...)), append(backups, new(bytes.Buffer))
			w.check(w.Backup(t.Context(), w.tenant, backups[len(backups)-1]))
		}
		from := len(states) - 1
		for name, restore := range ways {
			for _, to := range pairs {
				before, syncs := view(), 0
				w.onSync = func(*os.File) error {
					syncs++
					w.wantOwnScrolls(w.onDisk())
					seen := view()
					w.wantOwnScrolls(seen)
					if size == "small" && (seen.Phext.Text() != before.Phext.Text() || seen.Names.Text() != before.Names.Text()) {
						t.Errorf("%s, %s, %q to %q: readers see a part of it", size, name, states[from], states[to])
					}
					return nil
				}
				w.check(restore(w, times[to], backups[to]))
				w.onSync = nil
				if syncs == 0 {
					t.Error("nothing was looked at")
				}
				if all, now := strings.Join(states[to], "\x17"), view(); now.Phext.Text() != all+"\x1c"+more || now.Names.Text() != all {
					t.Errorf("%s, %s, %q to %q: %.20q, named %q", size, name, states[from], states[to], now.Phext.Text(), now.Names.Text())
				}
				from = to
			}
		}
		w.givenBack()
	}
}

// TestAScrollNeverComesUnderAnothersName restores one scroll, by its number or its name.
func TestAScrollNeverComesUnderAnothersName(t *testing.T) {
	for _, test := range []struct {
		name       string
		then, now  []string // the scrolls by coordinate, which are their names
		stale      string   // is a name at the second coordinate, without a scroll
		coordinate string
		want       string // "" = it is refused
	}{
		{"it has the same name", []string{"one", "two"}, []string{"one", "two"}, "", coordinate(2), "n.names.phext=one\x17two n.phext=one\x17two"},
		{"it has another name", []string{"one", "salary"}, []string{"one", "public"}, "", coordinate(2), ""},
		{"there is a name alone", []string{"one", "salary"}, []string{"one"}, "public", coordinate(2), "n.names.phext=one n.phext=one\x17salary"},
		{"there is its name alone", []string{"one", "two"}, []string{"one"}, "two", coordinate(2), "n.names.phext=one\x17two n.phext=one\x17two"},
		{"it was not there", []string{"one"}, []string{"one", "two"}, "", coordinate(2), "n.names.phext=one n.phext=one"},
		{"its name has moved", []string{"one", "two"}, []string{"two"}, "", "two", "n.names.phext=two n.phext=two"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			then := w.named("", test.then...)
			w.named("", test.now...)
			if test.stale != "" {
				w.update("n.names.phext", 2, test.stale)
			}
			target := Target{At: then, Phext: ptr("n"), Coordinate: test.coordinate}
			if test.want == "" {
				w.untouched(func() {
					if _, err := w.Restore(t.Context(), w.tenant, target); !errors.Is(err, errOtherName) {
						t.Errorf("%v", err)
					}
				})
				return
			}
			w.restore(target)
			w.wantFiles(test.want)
		})
	}
}

func TestNamesBelongToTheirPhext(t *testing.T) {
	files := []string{"x.names.phext", "x.phext.names.phext", "y.phext", ".names.phext", "x.phext.phext", "x.phext", ".phext", "z.names.phext", "y.names.phext"}
	want := "[[x.phext x.names.phext] [x.phext.phext x.phext.names.phext] [y.phext y.names.phext] [.phext .names.phext] [z.names.phext]]"
	if got := fmt.Sprint(withNames(files)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
