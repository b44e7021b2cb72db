package history

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// journalsWith is the paths of the directories whose journals hold a text, below root.
func (m *movers) journalsWith(text string) (paths []string) {
	m.Helper()
	m.check(m.set.Close())
	m.check(filepath.WalkDir(filepath.Join(m.root, "journal"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(content), text) {
			_, name, _ := strings.Cut(filepath.Base(filepath.Dir(path)), "-")
			paths = append(paths, name)
		}
		return err
	}))
	slices.Sort(paths)
	m.set = nil
	m.start(false, false)
	return slices.Compact(paths)
}

// purge removes a tenant's phexts, and purges it.
func (m *movers) purge(id string, others map[string]string) {
	m.Helper()
	m.as(id)
	files, err := filepath.Glob(m.path("*.phext"))
	m.check(err)
	for _, file := range files {
		if m.tenant.OwnFile(filepath.Base(file)) {
			m.check(os.Remove(file))
		}
	}
	unlock, err := m.Dirs.LockExclusive(m.Context(), m.tenant.DataDir)
	m.check(err)
	m.check(m.Dirs.Of(m.tenant.DataDir).Forget(m.tenant.UniqueID()))
	m.check(m.Purge(m.Context(), m.tenant))
	unlock()
	m.place(others)
}

// TestAPurgeErasesWhatATenantHasLeft follows it to the journals of the paths that it had before,
// and takes nothing from others that have these now, or have shared them.
func TestAPurgeErasesWhatATenantHasLeft(t *testing.T) {
	share := func(m *movers) {
		m.shared = true
		m.mv("q", "s")
		m.mv("s/secret.phext", "s/will.secret.phext")
		m.mv("m/n.phext", "s/mary.n.phext")
		m.place(map[string]string{"mary": "s", "will": "s"})
		m.write("will", "will.n.phext", "a secret")
		m.write("mary", "mary.n.phext", "mary's new")
	}
	follow := func(m *movers) {
		m.mv("m", "p")
		m.place(map[string]string{"mary": "p", "will": "q"})
	}
	for _, test := range []struct {
		name    string
		moves   func(m *movers)
		mary    string // where she is then
		history string // hers
		left    string // journals that keep the texts
	}{
		{"nobody has the path", func(m *movers) {}, "m", "update n", ""},
		{"after a start", func(m *movers) { m.start(true, true) }, "m", "update n", ""},
		{"another one has it, and has not asked for it", follow, "p", "", ""},
		{"another one has it", func(m *movers) {
			follow(m)
			m.write("mary", "n.phext", "mary's new")
		}, "p", "update n", ""},
		{"another one has had it", func(m *movers) {
			follow(m)
			m.write("mary", "n.phext", "mary's new")
			m.mv("p", "m")
			m.place(map[string]string{"mary": "m", "will": "q"})
		}, "m", "update n, edited n", ""},
		{"it shares a directory now, whose journal stays", share, "s", "update n", "s"},
		{"it has shared a directory, whose journal stays", func(m *movers) {
			share(m)
			m.place(map[string]string{"mary": "s", "will": "r"})
			m.check(os.Mkdir(filepath.Join(m.root, "r"), 0o700))
		}, "s", "update n", "s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMovers(t)
			m.place(map[string]string{"mary": "m", "will": "p"})
			m.start(true, false)
			m.write("will", "secret.phext", "a secret")
			m.write("mary", "n.phext", "mary's")
			m.mv("p", "q")
			m.place(map[string]string{"mary": "m", "will": "q"})
			m.recovered("will", "secret.phext=a secret")
			test.moves(m)
			m.purge("will", map[string]string{"mary": test.mary})
			m.as("mary")
			m.check(m.Dirs.Of(m.tenant.DataDir).Recover(t.Context()))
			if got := m.events(nil, ""); got != test.history {
				t.Errorf("mary's history is %q", got)
			}
			if got := strings.Join(m.journalsWith("a secret"), " "); got != test.left {
				t.Errorf("the texts are in the journals of %q", got)
			}
			if test.mary == "p" {
				return
			}
			m.shared = false
			m.place(map[string]string{"mary": test.mary, "will": "p"}) // another one, with the same id
			m.check(os.RemoveAll(filepath.Join(m.root, "p")))
			m.as("will")
			m.check(m.Dirs.Of(m.tenant.DataDir).Recover(t.Context())) // and no mark says that a disk is missing
			if got := m.events(nil, ""); got != "" {
				t.Errorf("whoever has the id next has the history %s", got)
			}
		})
	}
}
