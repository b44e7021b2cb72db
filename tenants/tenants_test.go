package tenants

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exampleKey is the key of the contract's example.
const exampleKey = "pmb-v1-00112233445566778899aabbccddeeff"

func key(t testing.TB) string {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hashed(k string) string {
	d := digestOf(k)
	return hex.EncodeToString(d[:])
}

func TestTheExample(t *testing.T) {
	s, err := Parse([]byte(`{"tenants": [{"id": "will", "api_key": "` + exampleKey + `",
		"data_dir": "/var/lib/sq/tenants/will", "quota_mb": 1000, "enabled": true}], "reload_on_change": true}`))
	if err != nil {
		t.Fatal(err)
	}
	will, ok := s.ByKey(exampleKey, time.Now())
	if !ok || will.ID != "will" || will.DataDir != "/var/lib/sq/tenants/will" || will.QuotaBytes != 1000<<20 ||
		!will.Enabled || will.MaxPhexts != 10000 || will.AllowDelimiters || will.SharedDataDir || !s.ReloadOnChange() {
		t.Errorf("%+v, %v", will, ok)
	}
	if _, ok := s.ByKey(exampleKey+"x", time.Now()); ok {
		t.Error("a wrong key was let in")
	}
	if _, ok := s.ByKey("", time.Now()); ok {
		t.Error("no key was let in")
	}
}

func TestKeysOfAllKinds(t *testing.T) {
	old, now, path := key(t), key(t), "abcdefghijklmnopqrstu_"
	expires := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s, err := Parse(fmt.Appendf(nil, `{"tenants": [{"id": "a", "data_dir": "/d", "api_key_sha256": %q,
		"previous_key_sha256": %q, "previous_key_expires": "2026-01-31T12:00:00Z", "path_key": %q}]}`, hashed(now), hashed(old), path))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		at   time.Time
		want bool
	}{
		{now, expires.Add(time.Hour), true}, {old, expires.Add(-time.Second), true}, {old, expires, false},
		{old, expires.Add(time.Hour), false}, {path, expires, false}, {hashed(now), expires, false},
	} {
		if _, ok := s.ByKey(c.key, c.at); ok != c.want {
			t.Errorf("at %v: %v, want %v", c.at, ok, c.want)
		}
	}
	if _, ok := s.ByPathKey(path); !ok {
		t.Error("the path key is not known")
	}
	for _, k := range []string{now, old, "", path[:21]} {
		if _, ok := s.ByPathKey(k); ok {
			t.Error("another key was taken for a path key")
		}
	}
}

// TestRefusals is everything that is wrong with some file. Each message names
// the tenant and the field, and none repeats a key.
func TestRefusals(t *testing.T) {
	k, k2 := key(t), key(t)
	good := `"id": "a", "api_key": "` + k + `", "data_dir": "/d/a"`
	other := `{"id": "b", "api_key": "` + k2 + `", "data_dir": "/d/b"}`
	for _, c := range []struct{ file, names string }{
		{``, "empty"},
		{`{"tenants": [`, "ends before"},
		{`{"tenants": []} x`, "behind the end"},
		{`{"tenants": [}`, "line 1, column 14"},
		{`[]`, "object"},
		{`{}`, `"tenants"`},
		{`{"tenants": null}`, `"tenants"`},
		{`{"tenants": [], "tenants": []}`, "twice"},
		{`{"tenants": [], "reload": true}`, `"reload"`},
		{`{"tenants": {"` + k + `": {"name": "a", "data_dir": "/d"}}}`, "multi-tenant mode"},
		{`{"tenants": [{"token": "` + k + `", "port": 1, "data_dir": "/d"}]}`, "router"},
		{`{"tenants": [{` + good + `, "quota": 1}]}`, `"quota"`},
		{`{"tenants": [{` + good + `, "id": "b"}]}`, "twice"},
		{`{"tenants": [{` + good + `, "quota_mb": -1}]}`, `tenant "a": field "quota_mb" is -1`},
		{`{"tenants": [{` + good + `, "quota_mb": 1.5}]}`, "quota_mb"},
		{`{"tenants": [{` + good + `, "quota_mb": "1"}]}`, "quota_mb"},
		{`{"tenants": [{` + good + `, "quota_mb": 9223372036854775807}]}`, "quota_mb"},
		{`{"tenants": [{` + good + `, "enabled": 1}]}`, "enabled"},
		{`{"tenants": [{` + good + `, "max_phexts": -5}]}`, `tenant "a": field "max_phexts"`},
		{`{"tenants": [{` + good + `, "requests_per_minute": -5}]}`, "requests_per_minute"},
		{`{"tenants": [{` + good + `, "calls_per_day": -5}]}`, "calls_per_day"},
		{`{"tenants": [{` + good + `, "created_at": "yesterday"}]}`, `tenant "a": field "created_at"`},
		{`{"tenants": [{` + good + `, "path_key": "short"}]}`, `tenant "a": field "path_key"`},
		{`{"tenants": [{` + good + `, "path_key": "with/slashes/in/it/and/long"}]}`, `field "path_key"`},
		{`{"tenants": [{` + good + `, "path_key": "` + k + `"}]}`, `tenant "a": field "path_key" is the same key as api_key of tenant "a"`},
		{`{"tenants": [{` + good + `, "api_key_sha256": "` + hashed(k2) + `"}]}`, `field "api_key" and "api_key_sha256"`},
		{`{"tenants": [{` + good + `, "previous_key_sha256": "` + hashed(k2) + `"}]}`, "previous_key_expires"},
		{`{"tenants": [{` + good + `, "previous_key_sha256": "xyz", "previous_key_expires": "2026-01-31T12:00:00Z"}]}`, "previous_key_sha256"},
		{`{"tenants": [{"api_key": "` + k + `", "data_dir": "/d"}]}`, `tenant number 1: field "id" is missing`},
		{`{"tenants": [` + other + `, {"id": "A!", "api_key": "` + k + `", "data_dir": "/d"}]}`, `tenant number 2: field "id" is "A!"`},
		{`{"tenants": [{"id": "-a", "api_key": "` + k + `", "data_dir": "/d"}]}`, `"id"`},
		{`{"tenants": [{"id": "select", "api_key": "` + k + `", "data_dir": "/d"}]}`, "paths of the API"},
		{`{"tenants": [{"id": "` + strings.Repeat("a", 64) + `", "api_key": "` + k + `", "data_dir": "/d"}]}`, "64 characters"},
		{`{"tenants": [{"id": "a", "data_dir": "/d"}]}`, `tenant "a": field "api_key" is missing`},
		{`{"tenants": [{"id": "a", "api_key": "seven77", "data_dir": "/d"}]}`, `tenant "a": field "api_key" is 7`},
		{`{"tenants": [{"id": "a", "api_key": "with a space", "data_dir": "/d"}]}`, `tenant "a": field "api_key" has`},
		{`{"tenants": [{"id": "a", "api_key": "with:a:colon", "data_dir": "/d"}]}`, `field "api_key" has`},
		{`{"tenants": [{"id": "a", "api_key_sha256": "` + k + `", "data_dir": "/d"}]}`, `field "api_key_sha256"`},
		{`{"tenants": [{"id": "a", "api_key": "` + k + `"}]}`, `tenant "a": field "data_dir" is missing`},
		{`{"tenants": [{"id": "a", "api_key": "` + k + `", "data_dir": "data/a"}]}`, `tenant "a": field "data_dir" is "data/a"`},
		{`{"tenants": [{"id": "a", "api_key": "` + k + `", "data_dir": "/x/.."}]}`, `field "data_dir" is /`},
		{`{"tenants": [{` + good + `}, {"id": "a", "api_key": "` + k2 + `", "data_dir": "/d/c"}]}`, `tenant "a": field "id" is taken`},
		{`{"tenants": [{` + good + `}, {"id": "c", "api_key": "` + k + `", "data_dir": "/d/c"}]}`, `tenant "c": field "api_key" is the same key as api_key of tenant "a"`},
		{`{"tenants": [{` + good + `}, {"id": "c", "api_key_sha256": "` + hashed(k) + `", "data_dir": "/d/c"}]}`, "same key"},
		{`{"tenants": [{` + good + `}, {"id": "c", "api_key": "` + k2 + `", "data_dir": "/d/../d/a/"}]}`, `tenant "c": field "data_dir" is the directory of tenant "a" too`},
		{`{"tenants": [{` + good + `, "shared_data_dir": true}, {"id": "c", "api_key": "` + k2 + `", "data_dir": "/d/a"}]}`, "data_dir"},
	} {
		s, err := Parse([]byte(c.file))
		if err == nil {
			t.Errorf("%s\n was taken: %+v", c.file, s.All())
			continue
		}
		if !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s\n says %q, which does not name %s", c.file, err, c.names)
		}
		for _, secret := range []string{k, k2, "seven77", "with a space", "with:a:colon"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s\n repeats a key: %q", c.file, err)
			}
		}
	}
}

func TestAllThatIsWrongIsSaid(t *testing.T) {
	_, err := Parse([]byte(`{"tenants": [{"id": "a", "data_dir": "x", "quota_mb": -1}, {"id": "b", "api_key": "` + exampleKey + `", "data_dir": "y"}]}`))
	for _, part := range []string{`"a": field "data_dir"`, `"a": field "quota_mb"`, `"a": field "api_key"`, `"b": field "data_dir"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	two := func(a, b, shared string) error {
		_, err := Parse(fmt.Appendf(nil, `{"tenants": [{"id": "a", "api_key": %q, "data_dir": %q%s}, {"id": "b", "api_key": %q, "data_dir": %q%s}]}`,
			key(t), a, shared, key(t), b, shared))
		return err
	}
	if err := two(dir+"/a", dir+"/a/tenants/b", ""); err != nil {
		t.Errorf("one inside another: %v", err)
	}
	if err := two(dir+"/a", dir+"/link", ""); err == nil {
		t.Error("a symbolic link hid that two tenants have one directory")
	}
	if err := two(dir+"/a", dir+"/a", `, "shared_data_dir": true`); err != nil {
		t.Errorf("shared by both: %v", err)
	}
}

func TestNewKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		k := key(t)
		p, err := NewPathKey()
		if err != nil || keyProblem(k) != "" || pathKeyProblem(p) != "" || seen[k] || seen[p] || len(k) != len(exampleKey) {
			t.Fatalf("%v: %q, %q", err, k, p)
		}
		if url := "https://sq.mirrorborn.us/k/" + p + "/api/v2"; len(url) > 64 {
			t.Fatalf("%s has %d characters", url, len(url))
		}
		seen[k], seen[p] = true, true
	}
}

// writeFile puts a tenants file in place as an editor does.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	aside := path + "~"
	if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
}

func fileOf(ids ...string) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf(`{"id": %q, "api_key": "key-of-%s", "data_dir": "/d/%s"}`, id, id, id))
	}
	return `{"tenants": [` + strings.Join(list, ",") + `]}`
}

// watched is a store that runs, and its changes.
type watched struct {
	*Store
	changes chan Diff
	log     *bytes.Buffer
}

const patience = 30 * time.Second

func run(t *testing.T, o Options) *watched {
	t.Helper()
	w := &watched{changes: make(chan Diff, 16), log: &bytes.Buffer{}}
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	o.OnChange = func(_, _ *Snapshot, d Diff) { w.changes <- d }
	o.Debounce = time.Millisecond
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = s
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(t.Context()) }() // it ends with the test's context
	t.Cleanup(func() { <-done })
	return w
}

func (w *watched) next(t *testing.T) Diff {
	t.Helper()
	select {
	case d := <-w.changes:
		return d
	case <-time.After(patience):
		t.Fatal("the change was not noticed")
		return Diff{}
	}
}

func TestChangesAreNoticed(t *testing.T) {
	for name, o := range map[string]Options{
		"watched": {Poll: time.Hour},
		"polled":  {Poll: time.Millisecond, blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Path = filepath.Join(t.TempDir(), "tenants.json")
			writeFile(t, o.Path, fileOf("a", "b"))
			w := run(t, o)
			writeFile(t, o.Path, fileOf("b", "c"))
			if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" || len(d.Removed) != 1 || d.Removed[0].ID != "a" || len(d.Changed) != 0 {
				t.Errorf("renamed into place: %+v", d)
			}
			changed := strings.Replace(fileOf("b", "c"), `"/d/c"`, `"/d/c", "quota_mb": 5`, 1)
			if err := os.WriteFile(o.Path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			// A file written in place may be seen half-written first; that changes nothing.
			if d := w.next(t); len(d.Changed) != 1 || d.Changed[0].QuotaBytes != 5<<20 || len(d.Added)+len(d.Removed) != 0 {
				t.Errorf("written in place: %+v", d)
			}
		})
	}
}

func TestASymlinkThatIsSwapped(t *testing.T) {
	dir := t.TempDir()
	for i, ids := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
		version := filepath.Join(dir, fmt.Sprint("v", i))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(version, "tenants.json"), fileOf(ids...))
	}
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("v0")
	path := filepath.Join(dir, "tenants.json")
	if err := os.Symlink("..data/tenants.json", path); err != nil {
		t.Fatal(err)
	}
	w := run(t, Options{Path: path, Poll: time.Hour})
	swap("v1")
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "b" {
		t.Errorf("%+v", d)
	}
	swap("v2")
	if d := w.next(t); len(d.Added) != 1 || d.Added[0].ID != "c" {
		t.Errorf("%+v", d)
	}
}

func TestABrokenFileChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileOf("a"))
	var log bytes.Buffer
	changes := 0
	s, err := Open(Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil)), OnChange: func(_, _ *Snapshot, _ Diff) { changes++ }})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Current()
	for _, broken := range []string{`{"tenants": [`, strings.Replace(fileOf("a", "b"), "/d/b", "d/b", 1)} {
		writeFile(t, path, broken)
		log.Reset()
		for range 3 {
			s.look()
		}
		if s.Current() != before || s.Status().Successful() || changes != 0 {
			t.Errorf("%q was taken into force", broken)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("logged %d times: %s", n, &log)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || s.Current() != before {
		t.Errorf("a file that is gone: %v", err)
	}
	writeFile(t, path, fileOf("a", "b"))
	s.look()
	if s.Current().Len() != 2 || !s.Status().Successful() || changes != 1 {
		t.Errorf("mended: %d tenants, %v, %d changes", s.Current().Len(), s.Status().Err, changes)
	}
	if err := s.Reload(); err != nil || changes != 1 {
		t.Errorf("read again without a change: %v, %d changes", err, changes)
	}
	if strings.Contains(log.String(), "key-of-") {
		t.Error("a key stands in the log")
	}
}

func TestReloadOnChangeFalse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, `{"tenants": [], "reload_on_change": false}`)
	w := run(t, Options{Path: path, Poll: time.Millisecond})
	writeFile(t, path, fileOf("a"))
	select {
	case d := <-w.changes:
		t.Errorf("the file was watched: %+v", d)
	case <-time.After(100 * time.Millisecond): // long against a poll of 1 ms
	}
	if err := w.Reload(); err != nil || w.Current().Len() != 1 {
		t.Errorf("%v, %d tenants", err, w.Current().Len())
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	if _, err := Open(Options{Path: path, Logger: slog.Default()}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	writeFile(t, path, strings.Replace(fileOf("a"), "/d/a", "d/a", 1))
	if _, err := Open(Options{Path: path, Logger: slog.Default()}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("a bad file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fileOf("a", "b")))
	f.Add([]byte(`{"tenants": {"k": {}}}`))
	f.Add([]byte(`{"tenants": [{"id": 5}], "reload_on_change": null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if (s == nil) == (err == nil) {
			t.Fatalf("%v and %v", s, err)
		}
		if err != nil {
			return
		}
		for _, tenant := range s.All() {
			if ValidID(tenant.ID) != nil || !filepath.IsAbs(tenant.DataDir) || tenant.QuotaBytes < 0 || tenant.key.isZero() {
				t.Fatalf("%+v", tenant)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{500, 5000} {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("tenant-", i)
		}
		text := []byte(fileOf(ids...))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
