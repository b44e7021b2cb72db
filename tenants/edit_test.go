package tenants

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
)

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

// TestEditStartsFromTheDisk changes the file after the edit has read it and
// before it writes it.
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

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a", "b", "c"))
	s, err := Open(Options{Path: path, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	errNotNow := errors.New("not now")
	for _, test := range []struct {
		id         string
		check, err error
		left       int
	}{
		{"d", nil, ErrNoTenant, 3},
		{"b", errNotNow, errNotNow, 3},
		{"b", nil, nil, 2},
		{"b", nil, ErrNoTenant, 2},
	} {
		err := s.Edit(func(d *Document) error { return d.Remove(test.id, func(*Entry) error { return test.check }) })
		if !errors.Is(err, test.err) || s.Current().Len() != test.left {
			t.Errorf("%s: %v, %d left", test.id, err, s.Current().Len())
		}
	}
	if _, ok := s.Current().ByID("b"); ok {
		t.Error("b is still there")
	}
}

// TestArchivedIsNeverEnabled reads an entry that says both. It does not count as a tenant.
func TestArchivedIsNeverEnabled(t *testing.T) {
	s, err := Parse([]byte(`{"tenants": [{"id": "a", "api_key": "key-of-tenant-a", "data_dir": "/a", "enabled": true, "archived": true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := s.ByID("a"); a.Enabled || !a.Archived || s.Len() != 0 {
		t.Errorf("%+v, %d tenants", a, s.Len())
	}
}
