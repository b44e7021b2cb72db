package tenants

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCompare compares a diff with what maps say of the same two files.
func TestCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A file maps ids to quotas. Equal quotas make equal tenants.
		files := rapid.MapOfN(rapid.StringMatching(`[a-d]`), rapid.Int64Range(0, 2), 0, 4)
		was, is := files.Draw(t, "was"), files.Draw(t, "is")
		d := Compare(snapshotOf(t, was), snapshotOf(t, is))
		for id := range maps.Keys(is) {
			quota, had := was[id]
			check(t, "added", d.Added, id, !had)
			check(t, "changed", d.Changed, id, had && quota != is[id])
		}
		for id := range maps.Keys(was) {
			_, has := is[id]
			check(t, "removed", d.Removed, id, !has)
		}
		if d.Empty() != maps.Equal(was, is) {
			t.Fatalf("%+v", d)
		}
		for _, now := range d.Changed {
			if now.QuotaBytes != is[now.ID]<<20 {
				t.Fatalf("%s is told of as it was", now.ID)
			}
		}
	})
}

func check(t *rapid.T, what string, list []*Tenant, id string, want bool) {
	if slices.ContainsFunc(list, func(t *Tenant) bool { return t.ID == id }) != want {
		t.Fatalf("%s: %s %v", id, what, !want)
	}
}

func snapshotOf(t *rapid.T, quotas map[string]int64) *Snapshot {
	var entries string
	for _, id := range slices.Sorted(maps.Keys(quotas)) {
		entries += fmt.Sprintf(`,{"id": %q, "api_key": "key-of-%s", "data_dir": "/d/%s", "quota_mb": %d}`, id, id, id, quotas[id])
	}
	s, err := Parse([]byte(fileWith(entries[min(1, len(entries)):])))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCompareWithNothing(t *testing.T) {
	s, err := Parse([]byte(fileOf("a", "b")))
	if err != nil {
		t.Fatal(err)
	}
	if d := Compare(nil, s); len(d.Added) != 2 || len(d.Removed)+len(d.Changed) != 0 {
		t.Errorf("%+v", d)
	}
	if a, ok := s.ByID("a"); !ok || a != s.All()[0] || s.Len() != 2 {
		t.Errorf("%+v", a)
	}
}

func TestOwnFile(t *testing.T) {
	alone, shared := &Tenant{ID: "a"}, &Tenant{ID: "a", SharedDataDir: true}
	for _, test := range []struct {
		name          string
		alone, shared bool
	}{
		{"a.notes.phext", true, true},
		{"a..phext", true, true},
		{"b.notes.phext", true, false},
		{"ab.notes.phext", true, false},
		{"a-b.x.phext", true, false},
		{"a.notes", false, false},
		{"a.notes.phext.json", false, false},
		{".a.notes.phext.before", false, false}, // where the writer keeps a phext while SQ rewrites it
	} {
		if alone.OwnFile(test.name) != test.alone || shared.OwnFile(test.name) != test.shared {
			t.Errorf("%s: %v alone, %v in a shared directory", test.name, alone.OwnFile(test.name), shared.OwnFile(test.name))
		}
	}
}

func TestOwnFiles(t *testing.T) {
	tenant := &Tenant{ID: "a", DataDir: filepath.Join(t.TempDir(), "data")}
	if names, err := tenant.OwnFiles(); names != nil || err != nil {
		t.Errorf("without a directory: %q, %v", names, err)
	}
	if err := os.MkdirAll(filepath.Join(tenant.DataDir, "directory.phext"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x.phext", "x.phext.json", ".y.phext.before", "other"} {
		if err := os.WriteFile(filepath.Join(tenant.DataDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := tenant.OwnFiles(); err != nil || !slices.Equal(names, []string{"x.phext", "x.phext.json"}) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestIncarnations(t *testing.T) {
	began := time.Date(2026, 1, 31, 12, 0, 0, 5, time.UTC)
	s, err := Parse([]byte(`{"tenants": [{"id": "a", "api_key": "key-of-tenant-a", "data_dir": "/a", "incarnation": "` + NewIncarnation(began) + `"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := s.ByID("a")
	first := &Tenant{ID: "a"}
	if a.UniqueID() != "a/20260131T120000.000000005Z" || a.ArchiveID() != "a.20260131T120000.000000005Z" || first.UniqueID() != "a" || first.ArchiveID() != "a" {
		t.Errorf("%s, %s, %s", a.UniqueID(), a.ArchiveID(), first.UniqueID())
	}
	for _, test := range []struct {
		name         string
		by           string
		at           time.Time
		second, none bool // whether it was done to the tenant with, or without, an incarnation
	}{
		{"its own", a.UniqueID(), began, true, false},
		{"earlier", "a", began.Add(-1), false, true},
		{"of the earlier one, later", "a", began.Add(1), false, true},
		{"by hand", "", began.Add(1), true, true},
		{"by hand, earlier", "", began.Add(-1), false, true},
		{"by another tenant", "b", began.Add(1), true, true},
		{"by one whose id begins alike", "ab", began.Add(1), true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := a.WasHere(test.by, test.at); got != test.second {
				t.Errorf("with an incarnation: %v", got)
			}
			if got := first.WasHere(test.by, test.at); got != test.none {
				t.Errorf("without one: %v", got)
			}
		})
	}
	for _, text := range []string{"", "2026-01-31T12:00:00Z", "20260131T120000Z", "20260131T120000.000000005+01:00"} {
		_, err := Parse([]byte(`{"tenants": [{"id": "a", "api_key": "key-of-tenant-a", "data_dir": "/a", "incarnation": "` + text + `"}]}`))
		if err == nil || !strings.Contains(err.Error(), `"incarnation"`) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
