package tenants

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// ledgerOf is a ledger of one tenant with files in a directory of its own.
func ledgerOf(t *testing.T, quota int64, files map[string]int) (*Ledger, *Tenant, *strings.Builder) {
	t.Helper()
	tenant := &Tenant{ID: "a", DataDir: t.TempDir(), QuotaBytes: quota, MaxPhexts: 100, Enabled: true}
	for name, size := range files {
		put(t, tenant, name, size)
	}
	var log strings.Builder
	snapshot := &Snapshot{all: []*Tenant{tenant}, byID: map[string]*Tenant{"a": tenant}}
	return NewLedger(func() *Snapshot { return snapshot }, slog.New(slog.NewTextHandler(&log, nil))), tenant, &log
}

func put(t *testing.T, tenant *Tenant, name string, size int) {
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
		var refused *QuotaError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", c.name, err)
		}
		if r != nil {
			r.Settle()
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
		if part := r.Settle(); part != float64(step.size)/1000 {
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
		r.Settle()
	}
	first, err := ledger.Reserve(tenant, write("x.phext", 500, 900))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Reserve(tenant, write("y.phext", -1, 101)); !errors.As(err, &full) {
		t.Errorf("what another write has claimed was given away: %v", err)
	}
	first.Settle()
	if r, err := ledger.Reserve(tenant, write("y.phext", -1, 1000)); err != nil {
		t.Errorf("after it was done: %v", err)
	} else {
		r.Settle()
	}
}

func TestSharedDirectories(t *testing.T) {
	a := &Tenant{ID: "a", SharedDataDir: true}
	for name, want := range map[string]bool{"a.notes.phext": true, "a..phext": true, "b.notes.phext": false, "ab.notes.phext": false, "a.notes": false, "a-b.x.phext": false} {
		if a.OwnFile(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestCallsRollOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.json")
	calls, tenant := OpenCalls(path, slog.Default()), &Tenant{ID: "a", CallsPerDay: 2}
	late := time.Date(2026, 1, 31, 23, 59, 50, 0, time.UTC)
	for range 2 {
		if err := calls.Admit(tenant, late); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, late); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Errorf("%v", err)
	}
	if err := calls.Admit(tenant, late.Add(limit.RetryAfter)); err != nil {
		t.Errorf("when it said: %v", err)
	}
	if got := calls.Of("a", late.Add(time.Minute)); got.Today != 1 || got.Day != "2026-02-01" {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := calls.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := OpenCalls(path, slog.Default()).Of("a", late.Add(time.Minute)); got.Today != 1 || !got.LastActive.Equal(late.Add(10*time.Second)) {
		t.Errorf("read back: %+v", got)
	}
}

func TestRequestsPerMinute(t *testing.T) {
	calls, tenant := OpenCalls("", slog.Default()), &Tenant{ID: "a", RequestsPerMinute: 6}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for range 6 {
		if err := calls.Admit(tenant, now); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, now); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Fatalf("%v", err)
	}
	if err := calls.Admit(tenant, now.Add(limit.RetryAfter-time.Second)); err == nil {
		t.Error("let in before the time it said")
	}
	if err := calls.Admit(tenant, now.Add(limit.RetryAfter)); err != nil {
		t.Errorf("when it said: %v", err)
	}
}

func TestEditOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	s, err := Open(Options{Path: path, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	before, text := s.Current(), fileOf("a")
	add := func(d *Document) error {
		id, key, dir := "b", "key-of-tenant-b", "/d/b"
		return d.Add(Entry{ID: &id, APIKey: &key, DataDir: &dir})
	}
	s.write = func(_, _ string) error { return &fs.PathError{Op: "write", Err: syscall.ENOSPC} }
	if err := s.Edit(add); !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	s.write = func(_, _ string) error { return &fs.PathError{Op: "open", Err: syscall.EROFS} }
	if err := s.Edit(add); !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != text || s.Current() != before {
		t.Errorf("%v: the file or the memory changed: %s", err, now)
	}
	s.write = fsutil.ReplacePrivate
	if err := s.Edit(add); err != nil || s.Current().Len() != 2 {
		t.Errorf("%v, %d tenants", err, s.Current().Len())
	}
	if err := s.Edit(add); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v: left behind: %v", err, left)
	}
}

// TestEditStartsFromTheDisk changes the file between an edit's reading and its writing.
func TestEditStartsFromTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	s, err := Open(Options{Path: path, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = s.Edit(func(d *Document) error {
		if tries++; tries == 1 {
			writeFile(t, path, fileOf("a", "by-hand"))
		}
		return d.Change("a", func(e *Entry) error { n := int64(5); e.QuotaMB = &n; return nil })
	})
	if err != nil || tries != 2 || s.Current().Len() != 2 || s.Current().All()[0].QuotaBytes != 5<<20 {
		t.Errorf("%v after %d tries: %d tenants", err, tries, s.Current().Len())
	}
}

func TestEditsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	s, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var edits sync.WaitGroup
	for i := range 20 {
		edits.Go(func() {
			id := fmt.Sprint("tenant-", i)
			key, dir := "key-of-"+id, "/d/"+id
			if err := s.Edit(func(d *Document) error { return d.Add(Entry{ID: &id, APIKey: &key, DataDir: &dir}) }); err != nil {
				t.Error(err)
			}
		})
	}
	edits.Wait()
	if onDisk, err := Load(path); err != nil || onDisk.Len() != 21 || s.Current().Len() != 21 {
		t.Errorf("%v: %d tenants in force, 21 were written", err, s.Current().Len())
	}
}
