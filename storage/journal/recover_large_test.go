package journal

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRecoveryOfMuch recovers 1 GB in 200 phexts after 10,000 mutations and a
// power cut that left half of the phexts outdated or torn. It logs how long
// that took. It needs SQTEST_LARGE=1.
func TestRecoveryOfMuch(t *testing.T) {
	if testing.Short() || os.Getenv("SQTEST_LARGE") == "" {
		t.Skip("SQTEST_LARGE is not set")
	}
	const files, mutations, scrolls, size = 200, 10_000, 5_000, 1 << 20
	w := closing(t, newWorld(t, t.TempDir(), nil))
	base := strings.Repeat(strings.Repeat("x", 5*size/scrolls)+"\x17", scrolls)
	drafts := make([]replayState, files)
	for i := range drafts {
		name := fmt.Sprint(i, ".phext")
		w.put(name, text(base))
		drafts[i] = replayState{base: text(base)}
	}
	begun := time.Now()
	for i := range mutations {
		n := i % files
		m := update(fmt.Sprint(n, ".phext"), uint32(i%900+1), fmt.Sprint("mutation ", i))
		p := w.begin(m)
		drafts[n].apply(m)
		w.must(p.Done(w.put("touched", text("x")))) // the time that SQ would take does not matter
		w.must(p.Sync())
	}
	_, bytes, err := diskUsage(w.j.dir)
	w.must(err)
	t.Logf("%d mutations of %d phexts were journalled in %v, %d bytes", mutations, files, time.Since(begun), bytes)
	for i := range drafts {
		want := drafts[i].state()
		switch i % 4 {
		case 0:
			want.Text = want.Text[:len(want.Text)/2]
		case 1:
			continue // it stays as it was at first
		}
		w.put(fmt.Sprint(i, ".phext"), want)
	}
	w.cfg.BootID = "boot-2"
	w.reopen()
	begun = time.Now()
	r := w.recover()
	t.Logf("recovered in %v: checked %d, healed %d", time.Since(begun), r.Checked, r.Healed)
	if r.Checked != files || r.Healed != files/2 || r.Kept != 0 {
		t.Errorf("%+v", r)
	}
	for i := range drafts {
		if got := w.read(fmt.Sprint(i, ".phext")); got != drafts[i].state() {
			t.Errorf("phext %d is wrong", i)
		}
	}
}
