package journal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// platter knows what may be left after a power cut.
type platter struct {
	durable map[string]int64   // synced bytes of the files of the journal, by path
	written map[string][]State // states of phexts since they were last synced, by file
	aside   map[string][]State // states at their BeforePath since the directory was last synced
}

func (p *platter) settle(f *os.File) error {
	delete(p.written, filepath.Base(f.Name()))
	return nil
}

func (p *platter) sync(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		p.durable[f.Name()] = info.Size()
	}
	return err
}

// cut removes from the segments what was not synced, or a part of that, and
// sometimes adds rubbish.
func (p *platter) cut(t *rapid.T, dir string) {
	paths, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		end := rapid.Int64Range(p.durable[path], info.Size()).Draw(t, "survives")
		if err := os.Truncate(path, end); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "rubbish") {
			if err := os.Truncate(path, info.Size()); err != nil { // NULs
				t.Fatal(err)
			}
		}
	}
}

// old draws what may be on the disk of a file that SQ wrote and did not sync. A
// file that was created again may be missing.
func old(t *rapid.T, states []State, createdAgain bool) State {
	if createdAgain && rapid.IntRange(0, 3).Draw(t, "not there") == 0 {
		return State{}
	}
	s := rapid.SampledFrom(states).Draw(t, "state on disk")
	if !s.Exists {
		return s
	}
	s.Text = s.Text[:rapid.IntRange(0, len(s.Text)).Draw(t, "written")]
	if rapid.IntRange(0, 3).Draw(t, "NULs") == 0 {
		s.Text += "\x00\x00\x00"
	}
	return s
}

// TestAPowerCutLosesNothingAcknowledged mutates until the power is cut, also
// while SQ writes. SQ's files may be in any state that the kernel may have
// written. Every mutation for which Sync returned must be there.
func TestAPowerCutLosesNothingAcknowledged(t *testing.T) {
	untilPowerCut(t, Batch, true, func(t *rapid.T, m *model, file string, all []attempt) {
		last := all[len(all)-1]
		if got, want := m.read(file), all[len(all)-2].after(); got != want && !last.mayHaveLeft(got, want) {
			t.Fatalf("%s: %q %v, want %q %v", file, got.Text, got.Exists, want.Text, want.Exists)
		}
	})
}

// TestAPowerCutTakesNoPhextWhateverThePolicy does so with the policy Off, also
// while SQ writes. Each file must be in one of its states, or one of them must
// be in its history.
func TestAPowerCutTakesNoPhextWhateverThePolicy(t *testing.T) {
	untilPowerCut(t, Off, true, func(t *rapid.T, m *model, file string, all []attempt) {
		known := func(s State) bool {
			return slices.ContainsFunc(all, func(a attempt) bool { return s == a.before || a.mayHaveLeft(s, a.before) })
		}
		got := m.read(file)
		if known(got) {
			return
		}
		if before, err := m.j.At(file, m.cut); err != nil || !known(before) {
			t.Fatalf("%s: %q %v is none of its states, and neither is %q in its history: %v", file, got.Text, got.Exists, before.Text, err)
		}
	})
}

// attempt is a batch and the state before it.
type attempt struct {
	before State
	made   []Mutation
	whole  bool // all of it happens, or nothing
}

// mayHaveLeft says whether an attempt that was interrupted may have left a state.
func (a attempt) mayHaveLeft(got, before State) bool {
	if a.whole {
		return got == before || got == before.AfterAll(a.made)
	}
	return someOf(got, before, a.made)
}

// written are the states of a file while it is written.
func (a attempt) written(t *rapid.T) []State {
	if a.whole {
		return []State{a.before.AfterAll(a.made)}
	}
	return halfways(t, a.before, a.made)
}

func (a attempt) after() State {
	s := a.before
	for _, m := range a.made {
		s = s.After(m)
	}
	return s
}

// untilPowerCut calls check for each file after the recovery. all is what was
// begun of the file: first an attempt without mutations, last one that may be
// pending. SQ may have begun with that one if atSQ is set, or if the old file is
// on the disk, aside.
func untilPowerCut(t *testing.T, policy Policy, atSQ bool, check func(t *rapid.T, m *model, file string, all []attempt)) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(root) }() // what is left does no harm
		disk := &platter{durable: map[string]int64{}, written: map[string][]State{}, aside: map[string][]State{}}
		m := newModel(t, root, func(c *Config) { c.Sync, c.Datasync = policy, disk.sync })
		tune := m.tune
		m.tune = func(s *settings) { tune(s); s.syncPhext = disk.settle }
		m.reopen()
		defer func() { m.must(m.set.Close()) }()
		all := m.runUntilPowerCut(t, disk, atSQ)
		for _, file := range m.files {
			check(t, m, file, all[file])
		}
	})
}

func (m *model) runUntilPowerCut(t *rapid.T, disk *platter, atSQ bool) map[string][]attempt {
	segment, all := uint64(0), map[string][]attempt{}
	for _, file := range m.files {
		all[file] = []attempt{{before: m.read(file)}}
	}
	begin := func() (attempt, *Pending) {
		made := drawSet(t, m.files)
		file := made[0].File
		a := attempt{m.read(file), made, rapid.Bool().Draw(t, "all or nothing")}
		p := m.beginAttempt(a)
		if m.j.seg.number != segment {
			segment = m.j.seg.number
			m.settleRemovals(disk)
			clear(disk.aside)
		}
		all[file] = append(all[file], a)
		return a, p
	}
	for range rapid.IntRange(1, 40).Draw(t, "mutations") {
		a, p := begin()
		before, made, states := a.before, a.made, a.written(t)
		file, last := made[0].File, states[len(states)-1]
		if len(disk.written[file]) == 0 {
			disk.written[file] = []State{before}
		}
		m.createAgain(t, disk, p, a)
		if rapid.Bool().Draw(t, "synced while SQ works") {
			m.must(p.Sync())
		}
		m.must(p.Done(m.put(file, last)))
		m.must(p.Sync())
		if !p.CheckpointDurable() {
			t.Fatalf("%s: its checkpoint is not on disk", file)
		}
		disk.written[file] = append(disk.written[file], states...)
	}
	attempted, p := begin()
	last, before := attempted.made, attempted.before
	if before.Text != "" && !p.CheckpointDurable() {
		t.Fatalf("%s: what it holds is not on disk", last[0].File)
	}
	surelyAside := ""
	if file := last[0].File; before.Text != "" && last[0].Op <= Delete { // SQ does not make the others
		if len(disk.written[file]) == 0 {
			disk.written[file] = []State{before}
		}
		aside := m.createAgain(t, disk, p, attempted)
		if aside && !atSQ {
			surelyAside = file
		}
		if aside || atSQ {
			disk.written[file] = append(disk.written[file], attempted.written(t)...)
		}
	}
	disk.cut(t, m.j.dir)
	for file, states := range disk.written {
		m.put(file, old(t, states, file != last[0].File || p.CheckpointDurable()))
	}
	for file, states := range disk.aside {
		if file == surelyAside || rapid.Bool().Draw(t, "still aside") {
			aside := old(t, states, false)
			m.lay(BeforePath(m.path(file)), &aside.Text)
		}
	}
	m.cfg.BootID, m.cfg.BootTime, m.cut = "boot-2", time.Now().Add(time.Hour), m.now
	m.now = m.now.Add(time.Hour)
	m.reopenAfterCut()
	m.recover()
	m.noneAside(t)
	for _, file := range m.files {
		if file != last[0].File {
			all[file] = append(all[file], attempt{before: all[file][len(all[file])-1].after()})
		}
	}
	return all
}

// createAgain has SQ create the file again, at random, where the writer would.
// The old file was renamed aside, and its removal may not be on the disk.
func (m *model) createAgain(t *rapid.T, disk *platter, p *Pending, a attempt) bool {
	file, before, made := a.made[0].File, a.before, a.made
	if a.whole || !before.Exists || made[0].Op > Delete || !p.CheckpointDurable() || !rapid.Bool().Draw(t, "created again") {
		return false
	}
	disk.aside[file] = append(disk.aside[file], disk.written[file]...)
	return true
}

// settleRemovals is the effect of the sync of the data_dir in a rotation: files
// that were removed do not come back.
func (m *model) settleRemovals(disk *platter) {
	for file := range disk.written {
		if !m.read(file).Exists {
			delete(disk.written, file)
		}
	}
}

// reopenAfterCut closes the files of the old process without the sync of
// Set.Close, which would write again what was cut off.
func (m *model) reopenAfterCut() {
	for _, f := range append(m.j.seg.unsynced, m.j.seg.f) {
		m.must(f.Close())
	}
	m.j.seg, m.j.isOpen = nil, false
	m.reopen()
}
