package tenants

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// portable is tenants as ID:QUOTA in a bucket.
func portable(t testing.TB, list ...string) Portable {
	t.Helper()
	p := Portable{}
	for _, one := range list {
		id, quota, _ := strings.Cut(one, ":")
		d, err := openDocument(fmt.Appendf(nil, `{"tenants": [{"id": %q, "api_key": "key-of-%s", "data_dir": "/d/%s", "quota_mb": %s}]}`, id, id, id, quota))
		if err == nil {
			var of Portable
			of, err = d.Portable()
			maps.Copy(p, of)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func describe(s *Snapshot) (list []string) {
	for _, t := range s.All() {
		list = append(list, fmt.Sprintf("%s:%d", t.ID, t.QuotaBytes/megabyte))
	}
	return list
}

// TestMerge has a file, a bucket, and what both were when they were the same.
func TestMerge(t *testing.T) {
	type list []string
	for _, test := range []struct {
		name                    string
		here, there, agreed     list // agreed nil = never
		merged, changed, refuse list
	}{
		{"the same", list{"a:1"}, list{"a:1"}, list{"a:1"}, list{"a:1"}, nil, nil},
		{"the same, and never agreed", list{"a:1"}, list{"a:1"}, nil, list{"a:1"}, nil, nil},
		{"changed here", list{"a:2", "b:1"}, list{"a:1", "b:1"}, list{"a:1", "b:1"}, list{"a:2", "b:1"}, list{"a"}, nil},
		{"added here", list{"a:1", "b:1"}, list{"a:1"}, list{"a:1"}, list{"a:1", "b:1"}, list{"b"}, nil},
		{"removed here", list{"a:1"}, list{"a:1", "b:1"}, list{"a:1", "b:1"}, list{"a:1"}, list{"-b"}, nil},
		{"changed there", list{"b:1", "a:1"}, list{"a:2", "b:1"}, list{"a:1", "b:1"}, list{"b:1", "a:2"}, nil, nil},
		{"added there", list{"b:1"}, list{"a:1", "b:1", "c:1"}, list{"b:1"}, list{"b:1", "a:1", "c:1"}, nil, nil},
		{"removed there", list{"a:1", "b:1"}, list{"b:1"}, list{"a:1", "b:1"}, list{"b:1"}, nil, nil},
		{"the same change", list{"a:2"}, list{"a:2"}, list{"a:1"}, list{"a:2"}, nil, nil},
		{"two changes", list{"a:2", "b:1"}, list{"a:3", "b:2"}, list{"a:1", "b:1"}, list{"a:3", "b:2"}, nil, list{"a"}},
		{"changed and removed", list{"a:2"}, nil, list{"a:1"}, list{}, nil, list{"a"}},
		{"removed and changed", nil, list{"a:2"}, list{"a:1"}, list{"a:2"}, nil, list{"a"}},
		{"added twice", list{"a:1"}, list{"a:2"}, list{}, list{"a:2"}, nil, list{"a"}},
		{"never agreed", list{"a:1", "b:1", "c:1"}, list{"a:1", "b:2", "d:1"}, nil, list{"a:1", "b:2", "d:1"}, nil, list{"b", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, _, err := (&Document{}).Merge(portable(t, test.here...), Sums{}, "/d")
			if err != nil {
				t.Fatal(err)
			}
			var order []string // as the test has it
			for _, one := range test.here {
				id, _, _ := strings.Cut(one, ":")
				order = append(order, id)
			}
			file = file.sorted(order)
			var agreed Sums
			if test.agreed != nil {
				agreed = portable(t, test.agreed...).Sums()
			}
			merged, diff, err := file.Merge(portable(t, test.there...), agreed, "/d")
			if err != nil {
				t.Fatal(err)
			}
			_, now, err := merged.parse()
			if err != nil {
				t.Fatal(err)
			}
			var changed list
			for id, raw := range diff.Changed {
				if raw == nil {
					id = "-" + id
				}
				changed = append(changed, id)
			}
			got := fmt.Sprint(describe(now), changed, diff.Refused)
			if want := fmt.Sprint(test.merged, test.changed, test.refuse); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// sorted has the tenants in another order.
func (d *Document) sorted(order []string) *Document {
	s := &Document{}
	for _, id := range order {
		for i := range d.ids {
			if d.ids[i] == id {
				s.ids, s.entries = append(s.ids, id), append(s.entries, d.entries[i])
			}
		}
	}
	return s
}

// agreeing is a Store and what it agrees with.
type agreeing struct {
	theirs Portable
	agreed Sums
	err    error
	before func() // it agrees
}

func (a *agreeing) agree(file *Document, edit bool) (*Document, func(), error) {
	if a.before != nil {
		a.before()
		a.before = nil
	}
	if a.err != nil {
		return nil, nil, a.err
	}
	merged, diff, err := file.Merge(a.theirs, a.agreed, "/d")
	if err != nil {
		return nil, nil, err
	}
	if edit && len(diff.Refused) > 0 {
		return nil, nil, ErrMeanwhile
	}
	for id, raw := range diff.Changed {
		if a.theirs[id] = raw; raw == nil {
			delete(a.theirs, id)
		}
	}
	sums := a.theirs.Sums()
	return merged, func() { a.agreed = sums }, nil
}

// TestAgree edits a file that has to agree with something else.
func TestAgree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	a := &agreeing{theirs: portable(t, "a:1"), agreed: Sums{}}
	a.agreed["a"] = SumOf(mustPortable(t, path)["a"]) // it was changed there alone
	s, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler), Agree: a.agree})
	if err != nil {
		t.Fatal(err)
	}
	want := func(list ...string) {
		t.Helper()
		onDisk, err := Load(path)
		if err != nil || fmt.Sprint(describe(s.Current())) != fmt.Sprint(list) || fmt.Sprint(describe(onDisk)) != fmt.Sprint(list) {
			t.Errorf("%v in force, %v on the disk, %v; want %v", describe(s.Current()), describe(onDisk), err, list)
		}
		if fmt.Sprint(a.agreed) != fmt.Sprint(mustPortable(t, path).Sums()) || fmt.Sprint(a.agreed) != fmt.Sprint(a.theirs.Sums()) {
			t.Error("they do not agree")
		}
	}
	set := func(mb int64) error {
		return s.Edit(func(d *Document) error {
			return d.Change("a", func(e *Entry) error { e.QuotaMB = &mb; return nil })
		})
	}
	want("a:1")
	if err := set(2); err != nil {
		t.Error(err)
	}
	want("a:2")
	// The edit is made, but the disk is full. The file follows by itself.
	s.write = func(_, _ string) error { return &fs.PathError{Op: "write", Err: syscall.ENOSPC} }
	if err := set(3); !errors.Is(err, syscall.ENOSPC) || apierror.From(err) == nil || apierror.From(err).Kind != apierror.NotKnown {
		t.Error(err)
	}
	s.reloadIfChanged()
	if got := fmt.Sprint(describe(s.Current())); got != "[a:2]" {
		t.Error(got)
	}
	s.write = fsutil.ReplacePrivate
	s.reloadIfChanged()
	want("a:3")
	// Somebody writes the file while the edit is on its way: both are made.
	a.before = func() {
		writeFile(t, path, strings.Replace(read(t, path), `"quota_mb": 3`, `"quota_mb": 3, "max_phexts": 7`, 1))
	}
	if err := s.Edit(func(d *Document) error {
		id, key, dir := "b", "key-of-tenant-b", "/d/b"
		return d.Add(Entry{ID: &id, APIKey: &key, DataDir: &dir})
	}); err != nil {
		t.Error(err)
	}
	want("a:3", "b:0")
	if got, _ := s.Current().ByID("a"); got.MaxPhexts != 7 {
		t.Error("what somebody wrote is lost")
	}
	// The same tenant is changed elsewhere: the edit is made in that.
	a.before = func() { maps.Copy(a.theirs, portable(t, "a:5")) }
	if err := s.Edit(func(d *Document) error {
		return d.Change("a", func(e *Entry) error { n := int64(9); e.MaxPhexts = &n; return nil })
	}); err != nil {
		t.Error(err)
	}
	want("a:5", "b:0")
	// Nothing is in force that is not agreed on, and the file is looked at until it is.
	a.err = errors.New("out of reach")
	if err := set(6); !errors.Is(err, a.err) {
		t.Error(err)
	}
	writeFile(t, path, strings.Replace(read(t, path), `"quota_mb": 5`, `"quota_mb": 7`, 1))
	for range 2 {
		s.reloadIfChanged()
		if got := fmt.Sprint(describe(s.Current()), s.Status().Successful()); got != "[a:5 b:0] false" {
			t.Error(got)
		}
	}
	a.err = nil
	s.reloadIfChanged()
	want("a:7", "b:0")
	// What is not agreed on is not served at a start either.
	a.err = errors.New("out of reach")
	if _, err := Open(Options{Path: path, Logger: slog.New(slog.DiscardHandler), Agree: a.agree, Wait: true}); !errors.Is(err, a.err) {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func mustPortable(t *testing.T, path string) Portable {
	t.Helper()
	d, err := ReadDocument(path)
	if err == nil {
		var p Portable
		if p, err = d.Portable(); err == nil {
			return p
		}
	}
	t.Fatal(err)
	return nil
}

// FuzzPortable has anything in a file. What a new machine makes of it is the same tenant
// to all hosts.
func FuzzPortable(f *testing.F) {
	f.Add(fileOf("a", "b"))
	f.Add(`{"tenants": [{"id": "a", "api_key_sha256": "` + strings.Repeat("AB", 32) + `", "path_key": "abcdefghijklmnopqrstu_", "data_dir": "/d/\u003c", "shared_data_dir": true, "writers": [], "public": {"phexts" : ["<\u2028>"]}, "admin_email": "\ud800"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Parse([]byte(text)); err != nil {
			return
		}
		d, err := openDocument([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.Portable()
		if err != nil {
			t.Fatal(err)
		}
		for id, raw := range p {
			if strings.Contains(string(raw), `"api_key"`) || strings.Contains(string(raw), `"path_key"`) {
				t.Errorf("a key of %s is in clear: %s", id, raw)
			}
		}
		next, diff, err := (&Document{}).Merge(p, Sums{}, "/root")
		if err != nil {
			t.Fatal(err)
		}
		for id, why := range diff.Held { // two directories may be one then, of which only one follows links
			if !strings.Contains(why.Error(), "follow_links") {
				t.Error(why)
			}
			delete(p, id)
		}
		if p, err = p.OnlyWriters(func(id string) bool { return p[id] != nil }); err != nil {
			t.Fatal(err)
		}
		again, err := next.Portable()
		if err != nil || fmt.Sprint(again.Sums()) != fmt.Sprint(p.Sums()) {
			t.Errorf("%s became %s, %v", p, again, err)
		}
		if err := next.Check(); err != nil {
			t.Error(err)
		}
	})
}
