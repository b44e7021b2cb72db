package journal

import (
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// platter is what survives a power cut: what was synced.
type platter struct {
	durable map[string]int64   // bytes of the journal's files, by path
	written map[string][]State // states of phexts since they were last synced, by name
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

// cut takes from the segments what was not synced, and sometimes leaves some
// of it, or rubbish.
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

// old is what SQ may have left on the disk of a file, which it never syncs.
func old(t *rapid.T, states []State) State {
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

// TestAPowerCutLosesNothingAcknowledged mutates until the power goes, with SQ's
// files in whatever state the kernel had written, and expects every mutation
// that was flushed.
func TestAPowerCutLosesNothingAcknowledged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(root) }() // a leftover harms nobody
		disk := &platter{durable: map[string]int64{}, written: map[string][]State{}}
		m := newModel(t, root, func(c *Config) { c.Datasync = disk.sync })
		tune := m.tune
		m.tune = func(s *settings) { tune(s); s.settle = disk.settle }
		m.reopen()
		defer func() { m.must(m.set.Close()) }()
		m.runUntilPowerCut(t, disk)
	})
}

func (m *model) runUntilPowerCut(t *rapid.T, disk *platter) {
	segment := uint64(0)
	for range rapid.IntRange(1, 40).Draw(t, "mutations") {
		all := drawSet(t, m.files)
		before := m.read(all[0].File)
		p := m.beginTogether(all)
		if m.j.seg.number != segment {
			segment = m.j.seg.number
			m.settleRemovals(disk)
		}
		states := halfways(t, before, all)
		file, last := all[0].File, states[len(states)-1]
		if len(disk.written[file]) == 0 {
			disk.written[file] = []State{before}
		}
		m.must(p.Done(m.put(file, last)))
		m.must(p.Flushed())
		disk.written[file] = append(disk.written[file], states...)
	}
	want := map[string]State{}
	for _, file := range m.files {
		want[file] = m.read(file)
	}
	last := drawSet(t, m.files)
	m.beginTogether(last)
	if m.j.seg.number != segment {
		m.settleRemovals(disk)
	}
	disk.cut(t, m.j.dir)
	for file, states := range disk.written {
		m.put(file, old(t, states))
	}
	m.cfg.BootID = "boot-2"
	m.reopenAfterCut()
	m.recover()
	for _, file := range m.files {
		got := m.read(file)
		if got != want[file] && !(file == last[0].File && someOf(got, want[file], last)) {
			t.Fatalf("%s: %q %v, want %q %v", file, got.Text, got.Exists, want[file].Text, want[file].Exists)
		}
	}
}

// settleRemovals is what the sync of the data_dir does at a rotation: files that
// are gone stay gone.
func (m *model) settleRemovals(disk *platter) {
	for file := range disk.written {
		if !m.read(file).Exists {
			delete(disk.written, file)
		}
	}
}

// reopenAfterCut drops the old process's handles. Closing in order would sync
// them, and bring back what was cut off.
func (m *model) reopenAfterCut() {
	for _, f := range append(m.j.seg.fresh, m.j.seg.f) {
		m.must(f.Close())
	}
	m.j.seg, m.j.isOpen = nil, false
	m.reopen()
}
