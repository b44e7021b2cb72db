package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/phext"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	goleak.VerifyTestMain(m)
}

// failer is implemented by tests, benchmarks and properties.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// world is a data_dir with its journal, a clock, and a machine that can
// restart.
type world struct {
	t    failer
	cfg  Config
	data string
	now  time.Time
	set  *Set
	j    *Journal
	tune func(*settings)
}

func newWorld(t failer, root string, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, data: filepath.Join(root, "data", "will"), now: time.Unix(1_700_000_000, 0)}
	w.cfg = Config{
		Dir: filepath.Join(root, "journal"), Quarantine: filepath.Join(root, "quarantine"),
		Sync: Batch, History: 7 * 24 * time.Hour, BootID: "boot-1",
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
		Datasync: func(*os.File) error { return nil }, // no power is cut in tests
	}
	if change != nil {
		change(&w.cfg)
	}
	w.must(os.MkdirAll(w.data, 0o755))
	w.open()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	w.t.Helper()
	var err error
	w.set, err = New(w.cfg)
	w.must(err)
	w.set.cfg.syncDir = func(string) error { return nil }
	w.set.cfg.replace = func(path string, content io.WriterTo, mode fs.FileMode, _ bool) error {
		return fsutil.ReplaceFrom(path, content, mode, false)
	}
	if w.tune != nil {
		w.tune(&w.set.cfg)
	}
	w.j, err = w.set.Of(w.data)
	w.must(err)
}

// reopen restarts sqgate.
func (w *world) reopen() {
	w.t.Helper()
	w.must(w.set.Close())
	w.open()
}

func (w *world) path(file string) string { return filepath.Join(w.data, file) }

func (w *world) read(file string) State {
	w.t.Helper()
	s, err := ReadState(nil, w.path(file))
	w.must(err)
	return s
}

// put makes a file hold s, as SQ or somebody else would.
func (w *world) put(file string, s State) fsutil.FileID {
	w.t.Helper()
	if s.Exists {
		w.must(os.WriteFile(w.path(file), []byte(s.Text), 0o644))
	} else if err := os.Remove(w.path(file)); err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	id, err := fsutil.Identify(w.path(file))
	w.must(err)
	return id
}

func (w *world) begin(m Mutation) *Pending {
	w.t.Helper()
	p, err := w.j.Begin(m, func() (State, error) { return ReadState(nil, w.path(m.File)) })
	w.must(err)
	return p
}

// mutate carries out a mutation completely.
func (w *world) mutate(m Mutation) {
	w.t.Helper()
	p := w.begin(m)
	w.must(p.Done(w.put(m.File, w.read(m.File).After(m))))
	w.must(p.Sync())
}

func (w *world) recover() Report {
	w.t.Helper()
	at, release := w.held()
	defer release()
	r, err := w.j.RecoverAt(context.Background(), at)
	w.must(err)
	return r
}

// held is the path by which the gateway uses the data_dir.
func (w *world) held() (at string, release func()) {
	w.t.Helper()
	at, release, err := fsutil.HoldDir(w.data)
	if errors.Is(err, fs.ErrNotExist) {
		return w.data, func() {}
	}
	w.must(err)
	return at, release
}

// recoverFor recovers the directory once it belongs to a tenant, the only one that there is.
func (w *world) recoverFor(tenant string) Report { return w.recoverAmong(tenant) }

// recoverAmong does so where there are others, too.
func (w *world) recoverAmong(tenant string, others ...string) Report {
	w.t.Helper()
	_, err := w.j.Claim(Owners{Tenants: []string{tenant}, Exists: func(t string) bool { return slices.Contains(others, t) }})
	w.must(err)
	return w.recover()
}

func (w *world) newest() string {
	w.t.Helper()
	numbers, _, err := segments(w.j.dir)
	w.must(err)
	return filepath.Join(w.j.dir, segmentName(numbers[len(numbers)-1]))
}

// frameOf is the frame of a record that is encoded already.
func frameOf(payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	return append(binary.LittleEndian.AppendUint64(b, xxh3.Hash(payload)), payload...)
}

func at(n uint32) phext.Coordinate { return phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, n} }

func update(file string, n uint32, text string) Mutation {
	return Mutation{File: file, Op: Update, At: at(n), Text: text, Tenant: "will", Key: "abcd"}
}

func text(s string) State { return State{Text: s, Exists: true} }

func closing(t *testing.T, w *world) *world {
	t.Cleanup(func() {
		if err := w.set.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}
