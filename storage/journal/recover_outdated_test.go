package journal

import (
	"fmt"
	"strings"
	"testing"
)

// TestAnOutdatedFileOfManyStates updates one scroll often, and then has a power
// cut bring back the file of each earlier state, whole or cut short. None is
// taken for an edit, however many states there were before and after it.
func TestAnOutdatedFileOfManyStates(t *testing.T) {
	const updates = 90
	for _, tail := range []string{"", "\x17last", "\x18last"} {
		var states []string
		base := newWorld(t, t.TempDir(), nil)
		closing(t, base)
		base.put("a.phext", text("first\x17"+strings.Repeat("x", 9)+tail))
		for n := range updates {
			base.mutate(update("a.phext", 2, fmt.Sprintf("text of update %d", n)))
			states = append(states, base.read("a.phext").Text)
		}
		want := states[updates-1]
		for n, s := range states[:updates-1] {
			for _, found := range []string{s, s[:len(s)-1], s + "\x00\x00"} {
				if strings.HasPrefix(want, found) {
					continue // merely torn
				}
				base.put("a.phext", text(found))
				base.cfg.BootID = fmt.Sprintf("boot %d of %d", n, len(found))
				v, err := base.j.view(true)
				base.must(err)
				report := Report{}
				r := base.j.recovery(v, base.j.dataDir, &report)
				r.sameBoot = false
				logs, err := v.fileLogs(r.segment)
				base.must(err)
				f := &fileRecovery{recovery: r, name: "a.phext", path: base.path("a.phext"), log: logs["a.phext"], found: text(found)}
				older, err := f.older()
				v.close()
				if base.must(err); !older {
					t.Errorf("update %d of %d, %q: taken for an edit", n, updates, found)
				}
			}
		}
	}
}

// TestAnOutdatedFileIsBroughtUpToDate is the whole way for one of them.
func TestAnOutdatedFileIsBroughtUpToDate(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.put("a.phext", text("first"))
	var stale State
	for n := range 80 {
		w.mutate(update("a.phext", 2, fmt.Sprintf("text of update %d", n)))
		if n == 66 {
			stale = w.read("a.phext")
		}
	}
	want := w.read("a.phext")
	w.put("a.phext", stale)
	w.cfg.BootID = "boot-2"
	(&model{world: w}).reopenAfterCut()
	if r := w.recover(); r.Healed != 1 || r.Kept != 0 || w.read("a.phext") != want {
		t.Errorf("%+v: %q, want %q", r, w.read("a.phext").Text, want.Text)
	}
}

// TestWhereAFileEndsInTheSearch has files that are cut between two scrolls, and
// files that hold what a state holds but are written otherwise.
func TestWhereAFileEndsInTheSearch(t *testing.T) {
	for _, c := range []struct {
		found, state string
		want         bool
	}{
		{"", "a", true},
		{"a", "a", true},
		{"a", "ab", true},
		{"ab", "a", false},
		{"a\x17", "a\x17b", true},
		{"a\x17", "a\x17\x17b", true},
		{"a\x17", "a\x18b", false},
		{"a\x17", "a", false},
		{"a\x18", "a\x18\x17b", true},
		{"a\x18\x17", "a\x18b", false},
		{"\x17", "\x17\x17b", true},
		{"\x17", "\x18b", false},
		{"a\x17\x18b", "a\x18b", false},
		{"a\x17\x18", "a\x18b", false},
	} {
		look := newSearch(c.found)
		if err := look.start(text(c.state), nil); err != nil {
			t.Fatal(err)
		}
		look.state.rendered = true
		if got := look.matches(); got != c.want {
			t.Errorf("%q as a beginning of %q: %v", c.found, c.state, got)
		}
	}
}
