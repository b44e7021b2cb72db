package quota

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledgerOf is a ledger of one tenant with files in a directory of its own.
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
	put(t, tenant, "x.phext", 2000) // past the quota, by whatever way
	if err := ledger.Recount(tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Reserve(tenant, write("x.phext", 2000, 1990)); err != nil {
		t.Errorf("shrinking past the quota: %v", err)
	}
}

func TestOneWarningForEachCrossing(t *testing.T) {
	ledger, tenant, log := ledgerOf(t, 1000, map[string]int{"x.phext": 100})
	for _, step := range []struct{ size, warnings int }{
		{899, 0}, {900, 1}, {950, 1}, {880, 1}, {910, 1}, {849, 1}, {1000, 2}, {0, 2},
	} {
		r, err := ledger.Reserve(tenant, write("x.phext", sizeOf(filepath.Join(tenant.DataDir, "x.phext")), int64(step.size)))
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
		t.Errorf("what another write has claimed was given away: %v", err)
	}
	first.Release()
	if r, err := ledger.Reserve(tenant, write("y.phext", -1, 1000)); err != nil {
		t.Errorf("after it was done: %v", err)
	} else {
		r.Release()
	}
}
