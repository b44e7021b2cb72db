package history

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	goleak.VerifyTestMain(m)
}

// world is a Service for one tenant "will", or for two in one directory.
type world struct {
	*testing.T
	*Service
	root         string
	tenant, mary *tenants.Tenant // mary is there only in a shared directory
	set          *journal.Set
	now          time.Time            // of the journal; each change is a second later
	syncs        atomic.Int64         // of the journal's files
	onSync       func(*os.File) error // of one of them; nil = nothing
	each         func()               // is called before each record of the journal, if it is set
}

func newWorld(t *testing.T) *world { return open(t, false) }

func open(t *testing.T, shared bool) *world {
	w := &world{T: t, root: t.TempDir(), now: time.Now().Add(-time.Hour)}
	data := filepath.Join(w.root, "data")
	w.check(os.Mkdir(data, 0o700))
	entries := fmt.Sprintf(`{"id":"will","api_key":"pmb-v1-00112233445566778899aabbccddeeff","data_dir":%q,"quota_mb":1,"shared_data_dir":%v}`, data, shared)
	if shared {
		entries += "," + strings.NewReplacer("will", "mary", "v1-0011", "v1-9911").Replace(entries)
	}
	snapshot, err := tenants.Parse([]byte(`{"tenants":[` + entries + `]}`))
	w.check(err)
	current := func() *tenants.Snapshot { return snapshot }
	w.tenant, _ = snapshot.ByID("will")
	w.mary, _ = snapshot.ByID("mary")
	w.set, err = journal.New(w.config("this boot"))
	w.check(err)
	t.Cleanup(func() { _ = w.set.Close() }) // some tests have closed it before
	log := w.config("").Logger
	w.Service = &Service{
		Dirs: datadir.New(datadir.Config{Tenants: current, Journal: w.set, ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: log,
			StopChild: func(context.Context, string, string) error { return nil }}),
		Ledger: quota.NewLedger(current, log),
	}
	return w
}

func (w *world) config(boot string) journal.Config {
	return journal.Config{Dir: filepath.Join(w.root, "journal"), Quarantine: filepath.Join(w.root, "quarantine"), Sync: journal.Batch,
		Turn:   func() *fairqueue.Turn { return w.Dirs.Turns.Turn(fairqueue.Operator) },
		BootID: boot, History: 24 * time.Hour, Logger: slog.New(slog.DiscardHandler),
		Datasync: w.sync, Now: func() time.Time {
			if w.each != nil {
				w.each()
			}
			w.now = w.now.Add(time.Second)
			return w.now
		}}
}

func (w *world) sync(f *os.File) error {
	w.syncs.Add(1)
	if w.onSync == nil {
		return nil
	}
	return w.onSync(f)
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(file string) string {
	return filepath.Join(w.Dirs.Of(w.tenant.DataDir).Path, file)
}

// file is what a file holds; "-" is none.
func (w *world) file(name string) string {
	w.Helper()
	text, err := os.ReadFile(w.path(name))
	if os.IsNotExist(err) {
		return "-"
	}
	w.check(err)
	return string(text)
}

// files are all files with what they hold.
func (w *world) files() string {
	w.Helper()
	entries, err := os.ReadDir(filepath.Dir(w.path("x")))
	w.check(err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name()+"="+w.file(e.Name()))
	}
	return strings.Join(all, " ")
}

func (w *world) wantFiles(want string) {
	w.Helper()
	if got := w.files(); got != want {
		w.Errorf("the directory holds %q, want %q", got, want)
	}
}

// update writes a scroll as a commit does, without SQ, and returns the moment after it.
func (w *world) update(file string, scroll int, text string) (after time.Time) {
	w.Helper()
	w.check(w.Dirs.Of(w.tenant.DataDir).Recover(w.Context()))
	j, err := w.journalOf(w.tenant)
	w.check(err)
	before, err := w.Dirs.File(w.path(file))
	w.check(err)
	m := journal.Mutation{File: file, Op: journal.Update, At: at(scroll), Text: text, Tenant: "will", Key: "a key"}
	w.check(w.make(j, m, datadir.StateOf(before)))
	return w.moment()
}

// named makes a phext one whose scrolls have these names, and are these names. more is
// the text of one more scroll.
func (w *world) named(more string, names ...string) (after time.Time) {
	w.Helper()
	w.check(w.Dirs.Of(w.tenant.DataDir).Recover(w.Context()))
	j, err := w.journalOf(w.tenant)
	w.check(err)
	all := strings.Join(names, "\x17")
	for file, text := range map[string]string{"n.phext": all + "\x1c" + more, "n.names.phext": all} {
		before, err := journal.ReadState(nil, w.path(file))
		w.check(err)
		w.check(w.make(j, journal.Mutation{File: file, Op: journal.Replace, Text: text, Tenant: "will"}, before))
	}
	return w.moment()
}

// make makes a mutation and writes the file.
func (w *world) make(j *journal.Journal, m journal.Mutation, state journal.State) error {
	pending, err := j.Begin(m, func() (journal.State, error) { return state, nil })
	if err != nil {
		return err
	}
	next := state.After(m)
	if err := os.WriteFile(w.path(m.File), []byte(next.Text), 0o600); err != nil {
		return err
	}
	id, err := fsutil.Identify(w.path(m.File))
	if err != nil {
		return err
	}
	return pending.Done(id)
}

func (w *world) moment() time.Time {
	w.now = w.now.Add(time.Second)
	return w.now
}

func at(scroll int) phext.Coordinate { return phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, uint32(scroll)} }

func coordinate(scroll int) string { return at(scroll).String() }

func (w *world) wantError(err error, kind apierror.Kind, words string) {
	w.Helper()
	e := apierror.From(err)
	if e == nil || e.Kind != kind || !strings.Contains(err.Error(), words) {
		w.Errorf("%v, want %+v: ...%s...", err, kind, words)
	}
}

func (w *world) restore(target Target) []Restored {
	w.Helper()
	done, err := w.Restore(w.Context(), w.tenant, target)
	w.check(err)
	return done
}

// list is the first page of a tenant's history.
func (w *world) list(t *tenants.Tenant, sel Selection) ([]journal.Event, error) {
	sel.Limit = MostEvents
	page, err := w.Events(w.Context(), t, sel)
	if err == nil {
		page.Release()
	}
	return page.Events, err
}

// events are the operations in a phext's history, oldest first.
func (w *world) events(phext *string, coordinate string) string {
	w.Helper()
	all, err := w.list(w.tenant, Selection{Phext: phext, Coordinate: coordinate})
	w.check(err)
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Op+" "+e.File)
	}
	return strings.Join(lines, ", ")
}

func ptr(s string) *string { return &s }

// untouched checks that f changes no file.
func (w *world) untouched(f func()) {
	w.Helper()
	before := w.files()
	f()
	w.wantFiles(before)
}
