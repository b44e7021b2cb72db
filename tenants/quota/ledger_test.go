package quota

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledgerOf makes a ledger of one tenant with files in its own directory.
func ledgerOf(t *testing.T, quota int64, files map[string]int) (*Ledger, *tenants.Tenant, *strings.Builder) {
	t.Helper()
	snapshot, err := tenants.Parse(fmt.Appendf(nil, `{"tenants": [{"id": "a", "api_key": "key-of-a", "data_dir": %q}]}`, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	tenant := snapshot.All()[0]
	tenant.QuotaBytes, tenant.MaxPhexts = quota, 100
	for name, size := range files {
		put(t, tenant, name, size)
	}
	var log strings.Builder
	return NewLedger(func() *tenants.Snapshot { return snapshot }, slog.New(slog.NewTextHandler(&log, nil))), tenant, &log
}

func put(t *testing.T, tenant *tenants.Tenant, name string, size int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tenant.DataDir, name), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

func write(file string, now, after int64) Write {
	return Write{File: file, Size: now, After: after}
}

func TestReserve(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 1000, map[string]int{"x.phext": 600, "y.phext": 300, "not-a-phext": 5000, "x.phext.json": 5000})
	if use, err := ledger.Use(tenant); err != nil || use != (Use{Bytes: 900, Phexts: 2}) {
		t.Fatalf("%+v, %v", use, err)
	}
	for _, c := range []struct {
		name  string
		write Write
		ok    bool
	}{
		{"to the byte", write("x.phext", 600, 700), true},
		{"one byte more", write("x.phext", 600, 701), false},
		{"a new file that fits", write("z.phext", -1, 100), true},
		{"a new file that does not", write("z.phext", -1, 101), false},
		{"shrinks", write("x.phext", 600, 599), true},
		{"removes", Write{File: "x.phext", Size: 600, Removes: true}, true},
	} {
		r, err := ledger.Reserve(tenant, c.write)
		var refused *ExceededError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", c.name, err)
		}
		if r != nil {
			r.Release()
		}
	}
	put(t, tenant, "x.phext", 2000) // past the quota, without a reservation
	if err := ledger.Recount(tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Reserve(tenant, write("x.phext", 2000, 1990)); err != nil {
		t.Errorf("shrinking past the quota: %v", err)
	}
}

func TestMaxPhexts(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, map[string]int{"x.phext": 1, "y.phext": 1})
	tenant.MaxPhexts = 2
	var refused *ExceededError
	if _, err := ledger.Reserve(tenant, write("z.phext", -1, 1)); !errors.As(err, &refused) || refused.Phexts != 2 || refused.MaxPhexts != 2 {
		t.Errorf("one phext more: %v", err)
	}
	if r, err := ledger.Reserve(tenant, write("y.phext", 1, 2)); err != nil {
		t.Errorf("one of those that there are: %v", err)
	} else {
		r.Release()
	}
}

func TestOneWarningForEachCrossing(t *testing.T) {
	ledger, tenant, log := ledgerOf(t, 1000, map[string]int{"x.phext": 100})
	for _, step := range []struct{ size, warnings int }{
		{899, 0}, {900, 1}, {950, 1}, {880, 1}, {910, 1}, {849, 1}, {1000, 2}, {0, 2},
	} {
		r, err := ledger.Reserve(tenant, write("x.phext", ledger.sizeOf(filepath.Join(tenant.DataDir, "x.phext")), int64(step.size)))
		if err != nil {
			t.Fatal(err)
		}
		put(t, tenant, "x.phext", step.size)
		if part := r.Release(); part != float64(step.size)/1000 {
			t.Errorf("at %d bytes: %v", step.size, part)
		}
		if n := strings.Count(log.String(), "nearly used up"); n != step.warnings {
			t.Errorf("at %d bytes: %d warnings, want %d", step.size, n, step.warnings)
		}
	}
}

func TestFreeDisk(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, map[string]int{"x.phext": 500})
	ledger.disks.free = func(string) (int64, error) { return diskMargin + 1000, nil }
	var full *DiskError
	if _, err := ledger.Reserve(tenant, write("x.phext", 500, 1001)); !errors.As(err, &full) {
		t.Errorf("more than there is: %v", err)
	}
	if r, err := ledger.Reserve(tenant, write("x.phext", 500, 400)); err != nil {
		t.Errorf("shrinking: %v", err)
	} else {
		r.Release()
	}
	first, err := ledger.Reserve(tenant, write("x.phext", 500, 900))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Reserve(tenant, write("y.phext", -1, 101)); !errors.As(err, &full) {
		t.Errorf("what another write has reserved was given away: %v", err)
	}
	first.Release()
	if r, err := ledger.Reserve(tenant, write("y.phext", -1, 1000)); err != nil {
		t.Errorf("after it was done: %v", err)
	} else {
		r.Release()
	}
}

// patience bounds every wait. Only a failing test waits that long.
const patience = 30 * time.Second

// TestChangesByOthers has somebody else write a file. The watcher's events are
// taken here, as Run does.
func TestChangesByOthers(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, map[string]int{"x.phext": 1})
	w := ledger.newWatcher()
	defer w.close()
	ledger.update(t.Context(), w, true)
	put(t, tenant, "y.phext", 10)
	want, deadline := Use{Bytes: 11, Phexts: 2}, time.After(patience)
	for {
		select {
		case e := <-w.events:
			ledger.fileChanged(e.Name)
		case <-deadline:
			t.Fatal("the change was not noticed")
		}
		use, err := ledger.Use(tenant)
		if err != nil {
			t.Fatal(err)
		}
		if use == want {
			return
		}
	}
}

func TestADirectoryMadeByAWriteIsWatched(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, nil)
	tenant.DataDir = filepath.Join(tenant.DataDir, "new")
	w := ledger.newWatcher()
	defer w.close()
	ledger.update(t.Context(), w, true)
	r, err := ledger.Reserve(tenant, write("x.phext", -1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tenant.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, tenant, "x.phext", 1)
	r.Release()
	select {
	case <-ledger.refresh:
	default:
		t.Fatal("Run is not told")
	}
	if ledger.update(t.Context(), w, false); !w.watched[tenant.DataDir] {
		t.Error("the directory is not watched")
	}
}

// TestADiskMountedLaterIsCounted: a directory takes the place of one that was counted.
func TestADiskMountedLaterIsCounted(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 1000, map[string]int{"x.phext": 900})
	aside := tenant.DataDir + ".aside"
	swap := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, empty := range []func(){func() {}, func() {
		if err := os.Mkdir(tenant.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
	}} {
		swap(tenant.DataDir, aside)
		empty()
		if use, err := ledger.Use(tenant); err != nil || use.Bytes != 0 {
			t.Errorf("without the disk: %+v, %v", use, err)
		}
		_ = os.Remove(tenant.DataDir)
		swap(aside, tenant.DataDir)
		var exceeded *ExceededError
		if _, err := ledger.Reserve(tenant, write("y.phext", -1, 200)); !errors.As(err, &exceeded) {
			t.Errorf("with it: %v", err)
		}
		if use, err := ledger.Use(tenant); err != nil || use.Bytes != 900 {
			t.Errorf("with it: %+v, %v", use, err)
		}
	}
}

func TestTenantsThatAreGone(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, map[string]int{"x.phext": 1})
	w := ledger.newWatcher()
	defer w.close()
	ledger.update(t.Context(), w, true)
	if ledger.accounts[keyOf(tenant)] == nil || !w.watched[tenant.DataDir] {
		t.Fatal("not even known while it was there")
	}
	ledger.current = func() *tenants.Snapshot { return &tenants.Snapshot{} }
	ledger.update(t.Context(), w, false)
	if len(ledger.accounts) != 0 || len(w.watched) != 0 {
		t.Errorf("%d accounts, %d watches", len(ledger.accounts), len(w.watched))
	}
}

func TestWhatClientsAreTold(t *testing.T) {
	for _, test := range []struct {
		err        error
		kind       apierror.Kind
		message    string
		retryAfter time.Duration
	}{
		{&ExceededError{Used: 1, Quota: 2, Needed: 3}, apierror.QuotaExceeded,
			"the quota is 2 bytes, 1 are used, and this write would make it 3: delete something, or ask the operator for more", 0},
		{&ExceededError{Phexts: 3, MaxPhexts: 2}, apierror.QuotaExceeded,
			"the tenant has 3 phexts, and 2 is the most it may have: delete one, or ask the operator for more", 0},
		{&DiskError{Free: -1, Needed: 5}, apierror.DiskFull,
			"the disk has 0 bytes left for this, and SQ could need 5 to write the phext: nothing was changed; the operator has to make room", 0},
		{&LimitError{Limit: 7, Of: "calls", Per: "day", RetryAfter: time.Hour}, apierror.RateLimited,
			"this tenant may make 7 calls a day: try again in 1h0m0s", time.Hour},
	} {
		told := apierror.From(fmt.Errorf("with context: %w", test.err))
		if told == nil || told.Kind != test.kind || told.Message != test.message || told.RetryAfter != test.retryAfter {
			t.Errorf("%v: %+v", test.err, told)
		}
	}
}

func TestUseOfSomeFiles(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 1000, map[string]int{"x.phext": 600, "x.names.phext": 30, "y.phext": 300})
	use, err := ledger.UseOf(tenant, func(file string) bool { return strings.HasPrefix(file, "x.") })
	if err != nil || use != (Use{Bytes: 630, Phexts: 1}) {
		t.Errorf("%+v, %v", use, err)
	}
}

// onTheWay is a Coming of some files, by name.
type onTheWay map[string]int64

func (o *onTheWay) Left() map[string]int64 { return maps.Clone(*o) }
func (o *onTheWay) Lacks(file string) bool { _, lacks := (*o)[file]; return lacks }

// TestWhatIsToCome counts from the first moment, whatever is on the disk meanwhile.
func TestWhatIsToCome(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 1000, map[string]int{"here.phext": 100, "old.phext": 500, "gone.phext": 90})
	tenant.MaxPhexts = 4
	var coming *onTheWay
	ledger.FollowFetches(func(dataDir string) Coming {
		if dataDir != tenant.DataDir || coming == nil {
			return nil
		}
		return coming
	})
	w := ledger.newWatcher()
	defer w.close()
	ledger.update(t.Context(), w, true)
	want := func(when string, want Use) {
		t.Helper()
		if use, err := ledger.Use(tenant); err != nil || use != want {
			t.Errorf("%s: %+v, %v, want %+v", when, use, err, want)
		}
	}
	want("before", Use{Bytes: 690, Phexts: 3})
	coming = &onTheWay{"old.phext": 200, "gone.phext": -1, "a.phext": 300, "a.names.phext": 50, "b.phext": 250, "not-a-phext": 5000}
	all := Use{Bytes: 900, Phexts: 4}
	want("at the beginning", all)
	if err := ledger.Recount(tenant); err != nil {
		t.Fatal(err)
	}
	want("counted again", all)
	if use, err := ledger.UseOf(tenant, func(file string) bool { return strings.HasPrefix(file, "a.") }); err != nil || use != (Use{Bytes: 350, Phexts: 1}) {
		t.Errorf("of some: %+v, %v", use, err)
	}
	var refused *ExceededError
	if _, err := ledger.Reserve(tenant, write("c.phext", -1, 1)); !errors.As(err, &refused) || refused.Phexts != 4 {
		t.Errorf("one phext more: %v", err)
	}
	if _, err := ledger.Reserve(tenant, write("here.phext", 100, 201)); !errors.As(err, &refused) || refused.Used != 900 {
		t.Errorf("one byte more: %v", err)
	}
	r, err := ledger.Reserve(tenant, write("here.phext", 100, 200))
	if err != nil {
		t.Fatal("to the byte:", err)
	}
	put(t, tenant, "here.phext", 200)
	if part := r.Release(); part != 1 {
		t.Errorf("%v of the quota is used", part)
	}
	all.Bytes = 1000
	for _, step := range []struct {
		file string
		size int
	}{{"a.phext", 7}, {"a.phext", 300}, {"old.phext", 200}} { // the first is not what it is to be
		put(t, tenant, step.file, step.size)
		ledger.fileChanged(filepath.Join(tenant.DataDir, step.file))
		want("while it comes", all)
		if int64(step.size) == (*coming)[step.file] {
			delete(*coming, step.file)
			ledger.fileChanged(filepath.Join(tenant.DataDir, step.file))
			want("when it has come", all)
		}
	}
	put(t, tenant, "a.phext", 400) // by somebody else, after it has come
	ledger.fileChanged(filepath.Join(tenant.DataDir, "a.phext"))
	want("after it has come", Use{Bytes: 1100, Phexts: 4})
	coming = &onTheWay{"b.phext": 10}
	want("from another fetch", Use{Bytes: 200 + 200 + 90 + 400 + 10, Phexts: 5})
	coming = nil
	want("without the rest", Use{Bytes: 200 + 200 + 90 + 400, Phexts: 4})
}

// TestADirectoryMadeByAFetchIsWatched although there was something to count before.
func TestADirectoryMadeByAFetchIsWatched(t *testing.T) {
	ledger, tenant, _ := ledgerOf(t, 0, nil)
	tenant.DataDir = filepath.Join(tenant.DataDir, "new")
	coming := &onTheWay{"x.phext": 1}
	ledger.FollowFetches(func(string) Coming { return coming })
	w := ledger.newWatcher()
	defer w.close()
	ledger.update(t.Context(), w, true)
	if err := os.Mkdir(tenant.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if use, err := ledger.Use(tenant); err != nil || use.Bytes != 1 {
		t.Errorf("%+v, %v", use, err)
	}
	select {
	case <-ledger.refresh:
	default:
		t.Fatal("Run is not told")
	}
}

// TestNamesAreNoPhextsOfTheirOwn, in whatever order the files come and go.
func TestNamesAreNoPhextsOfTheirOwn(t *testing.T) {
	const x, y, names = "x.phext", "y.phext", "x.names.phext"
	ledger, tenant, _ := ledgerOf(t, 0, map[string]int{x: 1, names: 1, "names.phext": 1, "y.names.phext": 1})
	tenant.MaxPhexts = 3
	for i, step := range []struct {
		file   string
		size   int64 // after it; -1 = it is removed
		ok     bool
		phexts int // after it
	}{
		{x, 2, true, 3}, // with names.phext, and with names alone
		{y, 1, true, 3},
		{"z.phext", 1, false, 3},
		{"z.names.phext", 1, false, 3},
		{"names.names.phext", 1, true, 3},
		{x, -1, true, 3},
		{x, 1, true, 3},
		{names, -1, true, 3},
		{names, 1, true, 3},
		{x, -1, true, 3},
		{names, -1, true, 2},
		{"z.phext", 1, true, 3},
		{"z.names.phext", 1, true, 3},
		{x, 1, false, 3},
	} {
		path := filepath.Join(tenant.DataDir, step.file)
		r, err := ledger.Reserve(tenant, Write{File: step.file, Size: ledger.sizeOf(path), After: step.size, Removes: step.size < 0})
		if (err == nil) != step.ok {
			t.Errorf("step %d, %s: %v", i, step.file, err)
		}
		if r != nil {
			if step.size >= 0 {
				put(t, tenant, step.file, int(step.size))
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			r.Release()
		}
		now, err := ledger.Use(tenant)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.Recount(tenant); err != nil {
			t.Fatal(err)
		}
		if again, err := ledger.Use(tenant); err != nil || now.Phexts != step.phexts || again != now {
			t.Errorf("step %d, %s: %+v, counted again %+v, %v, want %d phexts", i, step.file, now, again, err, step.phexts)
		}
	}
}
