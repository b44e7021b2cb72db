package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// crashed is a journal with its data_dir after a crash, and what was true
// before.
type crashed struct {
	journal, data map[string]string // contents of the files, by name
	newest        string            // the segment that recovery reads
	boot          string            // in which sqgate died
	before        State             // of b.phext, before the pending batch
	aside         bool              // whether that file was renamed aside
	states        map[string][]State
	seen          map[string][]sight
	end           time.Time
}

// makeCrashed has two segments that ended and one in which sqgate died, with a
// checkpoint file, answers, an edit, an abort, and a torn phext.
func makeCrashed(t failer, root string) *crashed {
	w := newWorld(t, root, func(c *Config) { c.Sync = Off })
	w.tune = func(s *settings) { s.inlineMax, s.segmentMax = 60, 700 }
	w.reopen()
	c := &crashed{states: map[string][]State{}, seen: map[string][]sight{}}
	w.put("a.phext", text(strings.Repeat("long ", 14)))
	w.put("b.phext", text("short"))
	for _, f := range []string{"a.phext", "b.phext"} {
		c.states[f] = []State{w.read(f)}
	}
	w.steps(c)
	last := []Mutation{update("b.phext", 3, "under way"), update("b.phext", 4, "as well")}
	c.before = w.read("b.phext")
	w.beginTogether(last)
	whole := c.parts(w.read("b.phext"), last)
	w.put("b.phext", text(whole.Text[:4]))
	c.newest, c.boot, c.end = filepath.Base(w.newest()), w.cfg.BootID, w.now
	w.must(w.set.Close())
	c.journal, c.data = contents(t, w.j.dir), contents(t, w.data)
	return c
}

func (w *world) steps(c *crashed) {
	for i := range 24 {
		w.now = w.now.Add(time.Second)
		file := []string{"a.phext", "b.phext"}[i%2]
		switch {
		case i == 20:
			w.must(w.j.RecordEdit(file, text("by hand"), w.put(file, text("by hand"))))
		case i == 7:
			both := []Mutation{update(file, 1, "one"), update(file, 2, "of two")}
			p := w.beginTogether(both)
			w.must(p.Done(w.put(file, c.parts(w.read(file), both))))
		case i == 21:
			w.must(w.begin(update(file, 1, "refused")).Abort())
		default:
			m := update(file, uint32(i%3+1), fmt.Sprint("text ", i))
			m.Idempotency, m.Answer = fmt.Sprint("key-", i), fmt.Sprint("answer ", i)
			w.mutate(m)
		}
		c.states[file] = append(c.states[file], w.read(file))
		c.seen[file] = append(c.seen[file], sight{w.j.lastTime, w.read(file)})
	}
}

// parts adds the states between s and the one after two mutations, and returns
// that one.
func (c *crashed) parts(s State, two []Mutation) State {
	file, whole := two[0].File, s.After(two[0]).After(two[1])
	c.states[file] = append(c.states[file], s.After(two[0]), s.After(two[1]), whole)
	return whole
}

func contents(t failer, dir string) map[string]string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

// damage is done to one file of a journal.
type damage struct {
	file string
	pos  int
	bit  uint8 // 0 to 7: the bit to flip at pos; otherwise the file is cut at pos
}

func (d damage) to(b string) string {
	if d.bit > 7 {
		return b[:d.pos]
	}
	return b[:d.pos] + string([]byte{b[d.pos] ^ 1<<d.bit}) + b[d.pos+1:]
}

// after damages c and starts sqgate again.
func (c *crashed) after(t failer, root string, d damage, boot string) *world {
	w := newWorld(t, root, func(c *Config) { c.Sync, c.BootID = Off, boot })
	w.tune = func(s *settings) { s.inlineMax, s.segmentMax = 60, 700 }
	w.reopen()
	w.now = c.end
	w.must(os.MkdirAll(w.j.dir, 0o700))
	for name, b := range c.journal {
		if name == d.file {
			b = d.to(b)
		}
		w.must(os.WriteFile(filepath.Join(w.j.dir, name), []byte(b), 0o600))
	}
	for name, b := range c.data {
		w.put(name, text(b))
	}
	if c.aside {
		w.lay(BeforePath(w.path("b.phext")), &c.before.Text)
	}
	return w
}

// boundary returns where the last whole record before pos ends.
func boundary(t failer, segment string, pos int) int {
	good, err := walkRecords(strings.NewReader(segment), int64(pos), func(record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return int(good)
}

// survives checks that a damage invents nothing and loses nothing before it,
// and that what was dropped is reported.
func (c *crashed) survives(t failer, root string, d damage, boot string) {
	w := c.after(t, root, d, boot)
	defer func() { w.must(w.set.Close()) }()
	report, err := w.j.Recover(context.Background())
	if err != nil && !errors.Is(err, ErrDamaged) {
		t.Fatalf("%+v: %v", d, err)
	}
	for _, file := range slices.Sorted(maps.Keys(c.states)) {
		got := w.read(file)
		// Beside a file that was renamed aside, what is there may be torn. It counts if
		// it is a text that no interrupted write leaves and the journal is whole, or
		// if the journal is cut between two records and does not know the file.
		counts := report.Dropped == 0 && (boot == c.boot || d.file == c.newest)
		found := got.Text == c.data[file] && (counts || !c.aside || file != "b.phext")
		if !found && !slices.Contains(c.states[file], got) {
			t.Fatalf("%+v: %s became %q", d, file, got.Text)
		}
	}
	if err == nil {
		w.noneAside(t)
	}
	c.saysWhatItDropped(t, w, d, report)
	c.keepsTheMoments(t, w, d)
	w.mutate(update("a.phext", 1, "and it goes on"))
	w.mutate(update("b.phext", 1, "and it goes on"))
}

func (c *crashed) saysWhatItDropped(t failer, w *world, d damage, report Report) {
	if d.file != c.newest {
		if report.Dropped != 0 {
			t.Fatalf("%+v: dropped %d bytes of another segment", d, report.Dropped)
		}
		return
	}
	original, end := c.journal[d.file], boundary(t, c.journal[d.file], d.pos)
	lost := len(d.to(original)) - end
	if report.Dropped != int64(lost) || (lost > 0) != (len(report.Quarantined) > 0 && strings.Contains(report.Quarantined[0], "journal-damage")) {
		t.Fatalf("%+v: dropped %d bytes, should be %d; set aside %v", d, report.Dropped, lost, report.Quarantined)
	}
	if lost > 0 {
		if b, err := os.ReadFile(report.Quarantined[0]); err != nil || string(b) != d.to(original)[end:] {
			t.Fatalf("%+v: the quarantine holds %d bytes, %v", d, len(b), err)
		}
	}
	if end == 0 {
		return // no header: the segment is gone
	}
	b, err := os.ReadFile(filepath.Join(w.j.dir, d.file))
	if err != nil || !strings.HasPrefix(string(b), original[:end]) {
		t.Fatalf("%+v: records before the damage are lost", d)
	}
	if boundary(t, string(b), len(b)) != len(b) {
		t.Fatalf("%+v: the damage is still there", d)
	}
}

// keepsTheMoments checks the state at each moment. Because of the damage it may
// be an older one, but never one that did not exist.
func (c *crashed) keepsTheMoments(t failer, w *world, d damage) {
	for _, file := range slices.Sorted(maps.Keys(c.seen)) {
		for _, s := range c.seen[file] {
			got, err := w.j.At(file, time.Unix(0, s.from))
			if errors.Is(err, ErrDamaged) || errors.Is(err, ErrBeyondHistory) {
				if d.file == c.newest && !c.mayLose(t, d, s.from) {
					t.Fatalf("%+v: %s at a moment before the damage: %v", d, file, err)
				}
				continue
			}
			if err != nil || got.Text != c.data[file] && !slices.Contains(c.states[file], got) {
				t.Fatalf("%+v: %s was never %q, %v", d, file, got.Text, err)
			}
			if got != s.state && !c.mayLose(t, d, s.from) {
				t.Fatalf("%+v: %s is %q, was %q", d, file, got.Text, s.state.Text)
			}
		}
	}
}

// mayLose says whether the records of a moment are at or behind the damage.
func (c *crashed) mayLose(t failer, d damage, moment int64) bool {
	segment, ok := c.journal[d.file]
	if !ok || !strings.HasSuffix(d.file, segmentSuffix) {
		return strings.HasSuffix(d.file, ".chk")
	}
	last := int64(0)
	_, err := walkRecords(strings.NewReader(segment), int64(boundary(t, segment, d.pos)), func(r record) error { last = r.time; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return moment > last
}

// TestEveryByteDamaged cuts the newest segment and flips a bit of it at every
// seventh byte, and the other files at fewer. SQTEST_EVERY_BYTE=1 has it do so at
// every byte.
func TestEveryByteDamaged(t *testing.T) {
	c := makeCrashed(t, t.TempDir())
	root, n := t.TempDir(), 0
	for _, file := range slices.Sorted(maps.Keys(c.journal)) {
		stride := 37
		if file == c.newest {
			stride = 1
		}
		if os.Getenv("SQTEST_EVERY_BYTE") == "" {
			stride *= 7
		}
		for pos := 0; pos < len(c.journal[file]); pos += stride {
			for _, bit := range []uint8{uint8(pos % 8), 8} {
				if file == pathFile {
					continue
				}
				n++
				c.aside = n/4%2 == 1
				dir := filepath.Join(root, fmt.Sprint(n))
				c.survives(t, dir, damage{file, pos, bit}, []string{"boot-1", "boot-2"}[n/2%2])
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d damages of %d files", n, len(c.journal))
}

// FuzzRecovery is TestEveryByteDamaged at any place and with any phexts found.
func FuzzRecovery(f *testing.F) {
	c := makeCrashed(f, f.TempDir())
	names := slices.Sorted(maps.Keys(c.journal))
	f.Add(uint8(0), uint16(0), uint8(0), false, false, "", "")
	f.Add(uint8(1), uint16(100), uint8(3), true, false, "long", "sh\x00\x00")
	f.Add(uint8(5), uint16(9), uint8(8), true, true, "caf\xc3", "text 1")
	f.Add(uint8('T'), uint16(63), uint8(0), false, true, "0", "0")
	f.Add(uint8(0x18), uint16(117), uint8(8), true, true, "0", "0")
	f.Fuzz(func(t *testing.T, file uint8, pos uint16, bit uint8, reboot, aside bool, a, b string) {
		d := damage{file: names[int(file)%len(names)], bit: bit}
		if d.file == pathFile {
			return
		}
		d.pos = int(pos) % len(c.journal[d.file])
		found := *c
		found.aside = aside
		found.data = map[string]string{"a.phext": a, "b.phext": b}
		boot := "boot-1"
		if reboot {
			boot = "boot-2"
		}
		found.survives(t, t.TempDir(), d, boot)
	})
}
