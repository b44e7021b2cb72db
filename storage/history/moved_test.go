package history

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// movers is a machine with tenants whose directories change.
type movers struct {
	*world
	snapshot *tenants.Snapshot
	boots    int
	shared   bool
}

func newMovers(t *testing.T) *movers {
	m := &movers{world: &world{T: t, root: t.TempDir(), now: time.Now().Add(-time.Hour)}}
	t.Cleanup(func() { _ = m.set.Close() }) // a test that has failed may have closed it
	return m
}

// place makes these the tenants, with their directories below root.
func (m *movers) place(dirs map[string]string) {
	m.Helper()
	var entries []string
	for n, id := range slices.Sorted(maps.Keys(dirs)) {
		entries = append(entries, fmt.Sprintf(`{"id":%q,"api_key":"pmb-v1-%032d","data_dir":%q,"quota_mb":1,"shared_data_dir":%v}`, id, n, filepath.Join(m.root, dirs[id]), m.shared))
	}
	s, err := tenants.Parse([]byte(`{"tenants":[` + strings.Join(entries, ",") + `]}`))
	m.check(err)
	m.snapshot = s
}

// start starts sqgate. cut says that the machine was started anew before, after a power cut or
// in order.
func (m *movers) start(reboot, cut bool) {
	m.Helper()
	if m.set != nil {
		m.check(m.set.Close())
	}
	c := m.config("")
	if reboot {
		m.boots++
	}
	c.BootID, c.BootTime = fmt.Sprint("boot ", m.boots), time.Now()
	if cut {
		stopped, err := filepath.Glob(filepath.Join(m.root, "journal", "*", "stopped"))
		m.check(err)
		for _, path := range stopped {
			m.check(os.Remove(path))
		}
	}
	var err error
	m.set, err = journal.New(c)
	m.check(err)
	current := func() *tenants.Snapshot { return m.snapshot }
	m.Service = &Service{
		Dirs: datadir.New(datadir.Config{Tenants: current, Journal: m.set, ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: c.Logger,
			MarkDir: filepath.Join(m.root, "directories"), StopChild: func(context.Context, string, string) error { return nil }}),
		Ledger: quota.NewLedger(current, c.Logger),
	}
}

// as makes a tenant the one that is asked about.
func (m *movers) as(id string) {
	m.Helper()
	t, ok := m.snapshot.ByID(id)
	if !ok {
		m.Fatalf("there is no %s", id)
	}
	m.tenant = t
}

// write updates a scroll as a commit does.
func (m *movers) write(id, file, text string) time.Time {
	m.Helper()
	m.as(id)
	m.check(os.MkdirAll(m.tenant.DataDir, 0o700))
	d := m.Dirs.Of(m.tenant.DataDir)
	m.check(d.Recover(m.Context()))
	j, err := m.journalOf(m.tenant)
	m.check(err)
	before, err := m.Dirs.File(m.path(file))
	m.check(err)
	m.check(datadir.RecordEdit(j, file, before))
	m.check(m.make(j, journal.Mutation{File: file, Op: journal.Update, At: at(1), Text: text, Tenant: id, Key: "a key"}, datadir.StateOf(before)))
	d.MarkWritten(d.Path)
	return m.moment()
}

func (m *movers) mv(from, to string) {
	m.Helper()
	m.check(os.Rename(filepath.Join(m.root, from), filepath.Join(m.root, to)))
}

// recovered has a tenant's directory recovered, and expects these files in it.
func (m *movers) recovered(id, want string) {
	m.Helper()
	m.as(id)
	if err := m.Dirs.Of(m.tenant.DataDir).Recover(m.Context()); err != nil {
		m.Errorf("%s: %v", id, err)
	}
	m.wantFiles(want)
}

// gives has will move from P to Q, and mary, whose own directory is at M, come to P.
func gives(t *testing.T) (m *movers, early time.Time) {
	m = newMovers(t)
	m.place(map[string]string{"mary": "m", "will": "p"})
	m.start(true, false)
	m.write("will", "n.phext", "will's old")
	early = m.write("will", "secret.phext", "will's secret")
	m.write("will", "n.phext", "will's")
	m.write("mary", "n.phext", "mary's")
	return m, early
}

func (m *movers) swap() {
	m.mv("p", "q")
	m.mv("m", "p")
	m.place(map[string]string{"mary": "p", "will": "q"})
}

// TestAPathThatAnotherTenantGets shows nothing of the one that had it before, restores nothing
// of it, and writes nothing of it into its place, whenever sqgate is started.
func TestAPathThatAnotherTenantGets(t *testing.T) {
	for _, test := range []struct {
		name                string
		stop, reboot, cut   bool
		waits               bool // nobody has the path for a while
		again, againPowered bool // another start follows
	}{
		{name: "while sqgate runs"},
		{name: "while sqgate runs, and nobody has it for a while", waits: true},
		{name: "while sqgate is stopped", stop: true},
		{name: "and a reboot", stop: true, reboot: true},
		{name: "and a power cut", stop: true, reboot: true, cut: true},
		{name: "while sqgate runs, and a power cut", again: true, againPowered: true},
		{name: "while sqgate runs, and a restart", again: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, early := gives(t)
			m.swap()
			if test.waits {
				m.place(map[string]string{"will": "q"})
				m.recovered("will", "n.phext=will's secret.phext=will's secret")
				m.place(map[string]string{"mary": "p", "will": "q"})
			}
			if test.stop {
				m.start(test.reboot, test.cut)
			}
			look := func() {
				t.Helper()
				m.as("mary")
				if got := m.events(nil, ""); got != "" {
					t.Errorf("mary's history, before she calls: %s", got)
				}
				m.recovered("mary", "n.phext=mary's")
				for _, phext := range []*string{nil, ptr("n")} {
					if got := m.events(phext, ""); got != "" {
						t.Errorf("mary's history: %s", got)
					}
				}
				_, err := m.list(m.tenant, Selection{Phext: ptr("secret")})
				m.wantError(err, apierror.NotFound, "no phext")
				// Before its first record, her journal knows the state that she came with.
				for _, target := range []Target{{At: early}, {At: early, Phext: ptr("n")}, {At: early, Phext: ptr("secret"), To: ptr("copy")}} {
					if done, err := m.Restore(t.Context(), m.tenant, target); err == nil && len(done) > 1 || slices.ContainsFunc(done, func(r Restored) bool { return r.Changed || r.Phext != "n" }) {
						t.Errorf("mary restores %+v, %v", done, err)
					}
				}
				m.wantFiles("n.phext=mary's")
			}
			look()
			if test.again {
				m.start(test.againPowered, test.againPowered)
				look()
			}
			m.write("mary", "n.phext", "mary's new")
			if got := m.events(nil, ""); got != "update n" {
				t.Errorf("mary's history: %s", got)
			}
			m.recovered("will", "n.phext=will's secret.phext=will's secret")
			m.write("will", "n.phext", "will's new")
			m.start(true, true)
			m.check(os.WriteFile(m.path("n.phext"), []byte("wil"), 0o600)) // the power cut has left this
			m.recovered("will", "n.phext=will's new secret.phext=will's secret")
			m.recovered("mary", "n.phext=mary's new")
		})
	}
}

// TestATenantThatMovesBack finds there what it brings along: what it wrote or removed at the
// other path stays so, and its history goes on.
func TestATenantThatMovesBack(t *testing.T) {
	for _, shared := range []bool{false, true} {
		for _, test := range []struct {
			name              string
			stop, reboot, cut bool
		}{{name: "while sqgate runs"}, {"while sqgate is stopped", true, false, false}, {"and a reboot", true, true, false}, {"and a power cut", true, true, true}} {
			t.Run(fmt.Sprintf("%s, shared: %v", test.name, shared), func(t *testing.T) {
				m := newMovers(t)
				m.shared = shared
				prefix, others, all := "", "", map[string]string{"will": "p"}
				if shared {
					prefix, others, all = "will.", "mary.n.phext=mary's ", map[string]string{"will": "p", "mary": "p"}
				}
				n, x := prefix+"n.phext", prefix+"x.phext"
				m.place(all)
				m.start(true, false)
				if shared {
					m.write("mary", "mary.n.phext", "mary's")
				}
				m.write("will", x, "removed later")
				m.write("will", n, "old")
				m.check(os.Mkdir(filepath.Join(m.root, "q"), 0o700))
				move := func(from, to string) {
					t.Helper()
					m.mv(filepath.Join(from, n), filepath.Join(to, n))
					if _, err := os.Stat(filepath.Join(m.root, from, x)); err == nil {
						m.mv(filepath.Join(from, x), filepath.Join(to, x))
					}
					all["will"] = to
					m.place(all)
				}
				move("p", "q")
				m.recovered("will", n+"=old "+x+"=removed later")
				early := m.write("will", n, "new")
				if shared {
					m.recovered("mary", "mary.n.phext=mary's")
				}
				m.as("will")
				m.check(os.Remove(m.path(x)))
				if test.stop {
					m.start(false, false)
				}
				move("q", "p")
				if test.stop {
					m.start(test.reboot, test.cut)
				}
				m.recovered("will", others+n+"=new")
				if got := m.events(ptr("n"), ""); !strings.HasPrefix(got, "update n") {
					t.Errorf("its history: %s", got)
				}
				m.write("will", n, "newer")
				m.restore(Target{At: early.Add(time.Minute), Phext: ptr("n"), DryRun: true})
				m.check(os.WriteFile(m.path(n), []byte("ne"), 0o600)) // a power cut has left this
				m.start(true, true)
				m.recovered("will", others+n+"=newer")
			})
		}
	}
}

// TestADirectoryThatIsReplaced is not made what the one before it was.
func TestADirectoryThatIsReplaced(t *testing.T) {
	m := newMovers(t)
	if birth, err := fsutil.BirthOf(m.root); birth == (fsutil.Birth{}) {
		t.Skipf("the file system does not keep when a directory was made: %v", err)
	}
	m.place(map[string]string{"will": "p"})
	m.start(true, false)
	m.write("will", "a.phext", "a")
	m.write("will", "n.phext", "backup")
	m.as("will")
	m.check(os.CopyFS(filepath.Join(m.root, "backup"), os.DirFS(m.tenant.DataDir)))
	m.write("will", "n.phext", "later")
	m.mv("p", "broken")
	m.mv("backup", "p")
	m.start(true, true)
	m.recovered("will", "a.phext=a n.phext=backup")
	m.start(true, true)
	m.recovered("will", "a.phext=a n.phext=backup")
	if got := m.events(ptr("n"), ""); got != "update n, update n, edited n" {
		t.Errorf("the history: %s", got)
	}
}

// TestAJournalWithoutANote, as an earlier version leaves it, counts as that of the tenant that
// has its path.
func TestAJournalWithoutANote(t *testing.T) {
	m := newMovers(t)
	m.place(map[string]string{"will": "p"})
	m.start(true, false)
	m.write("will", "n.phext", "old")
	m.write("will", "n.phext", "new")
	notes, err := filepath.Glob(filepath.Join(m.root, "journal", "*", "owner"))
	m.check(err)
	if len(notes) != 1 {
		t.Fatalf("notes: %q", notes)
	}
	m.check(os.Remove(notes[0]))
	m.check(os.WriteFile(m.path("n.phext"), []byte("ne"), 0o600)) // a power cut has left this
	m.start(true, true)
	m.recovered("will", "n.phext=new")
	if got := m.events(ptr("n"), ""); got != "update n, update n" {
		t.Errorf("the history: %s", got)
	}
	if _, err := os.Stat(notes[0]); err != nil {
		t.Error(err)
	}
}
