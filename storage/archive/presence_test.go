package archive

import (
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
)

// marked is a Store with a mark, whose one archive it is.
func marked(t *testing.T) (s *Store, archive, data string) {
	t.Helper()
	s, data = newStore(t), filled(t, someFiles)
	s.Mark = filepath.Join(t.TempDir(), "mark")
	return s, mustCreate(t, s, data), data
}

// TestArchivesThatAreMissing refuses every call while another directory, or none, is in the
// place of the one with the archives, also if that has others.
func TestArchivesThatAreMissing(t *testing.T) {
	const another = "acme-20250304T120000.000000005Z.tar.gz"
	for _, below := range []bool{true, false} {
		s, archive, data := marked(t)
		if err := os.Rename(s.dir, s.dir+" elsewhere"); err != nil {
			t.Fatal(err)
		}
		if below {
			if err := os.Mkdir(s.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			fillDir(t, s.dir, map[string]string{another: ""})
		}
		fillDir(t, data, map[string]string{"new": "text"})
		for name, call := range map[string]func() error{
			"Create":      func() error { _, err := s.Create(tenantID, data, []string{"new"}, noted); return err },
			"Create none": func() error { _, err := s.Create("other", data, nil, noted); return err },
			"Restore":     func() error { _, err := s.Restore(tenantID, archive, data, nil, anyName); return err },
			"Deleting":    func() error { _, err := s.Deleting(tenantID); return err },
			"Latest":      func() error { _, err := s.Latest(tenantID); return err },
			"Purge":       func() error { _, err := s.Purge(tenantID, data); return err },
		} {
			if e := apierror.From(call()); e == nil || e.Kind != apierror.Unavailable {
				t.Errorf("mount point %v: %s: %v", below, name, e)
			}
		}
		sameFiles(t, contents(t, data), map[string]string{"new": "text"})
		if entries, err := os.ReadDir(s.dir); below && (err != nil || len(entries) != 1) || !below && len(entries) > 0 {
			t.Errorf("mount point %v: %v, %v", below, entries, err)
		}
		if err := os.RemoveAll(s.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.dir+" elsewhere", s.dir); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Purge(tenantID, data); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := os.RemoveAll(s.dir); err != nil { // nobody misses it any more
			t.Fatal(err)
		}
		mustCreate(t, s, data)
	}
}

// TestArchivesThatWereMoved are taken as they are, and so is another directory.
func TestArchivesThatWereMoved(t *testing.T) {
	s, archive, data := marked(t)
	moved := s.dir + " moved"
	if err := os.CopyFS(moved, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restore(tenantID, archive, data, nil, anyName); err != nil {
		t.Error(err)
	}
	s.dir = filepath.Join(t.TempDir(), "another")
	if err := s.CheckPresent(); err != nil {
		t.Errorf("another directory: %v", err)
	}
	mustCreate(t, s, data)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckPresent(); err == nil {
		t.Error("the mark is that of the first directory")
	}
}

// TestArchivesOfAnEarlierVersion are marked when they are seen.
func TestArchivesOfAnEarlierVersion(t *testing.T) {
	s, _, _ := marked(t)
	if err := os.Remove(s.Mark); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckPresent(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckPresent(); err == nil {
		t.Error("they are not missed")
	}
}
