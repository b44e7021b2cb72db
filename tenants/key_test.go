package tenants

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

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
	path := "abcdefghijklmnopqrstu_"
	for _, field := range []string{`"path_key": "` + path, `"path_key_sha256": "` + hashed(path)} {
		testKeysOfAllKinds(t, path, field)
	}
}

func testKeysOfAllKinds(t *testing.T, path, field string) {
	old, now := key(t), key(t)
	expires := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s, err := Parse(fmt.Appendf(nil, `{"tenants": [{"id": "a", "data_dir": "/d", "api_key_sha256": %q,
		"previous_key_sha256": %q, "previous_key_expires": "2026-01-31T12:00:00Z", %s"}]}`, hashed(now), hashed(old), field))
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
	for _, k := range []string{now, old, "", path[:21], hashed(path)} {
		if _, ok := s.ByPathKey(k); ok {
			t.Error("another key was taken for a path key")
		}
	}
}

func TestNewKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		k := key(t)
		p, err := NewPathKey()
		if err != nil || checkKey(k) != nil || checkPathKey(p) != nil || seen[k] || seen[p] || len(k) != len(exampleKey) {
			t.Fatalf("%v: %q, %q", err, k, p)
		}
		if url := "https://sq.mirrorborn.us/k/" + p + "/api/v2"; len(url) > 64 {
			t.Fatalf("%s has %d characters", url, len(url))
		}
		seen[k], seen[p] = true, true
	}
}

func TestFingerprint(t *testing.T) {
	if got := Fingerprint(exampleKey); got != hashed(exampleKey)[:8] {
		t.Errorf("%q", got)
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"a", "0", "will", "customer-001", "a--b", "pmb", strings.Repeat("a", 63)} {
		if err := ValidID(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	bad := append([]string{"", "-a", "a-", "A", "a.b", "a/b", "a b", "é", "a\x00", exampleKey, strings.Repeat("a", 64)}, reserved...)
	for _, id := range bad {
		var wrong *ValueError
		if err := ValidID(id); !errors.As(err, &wrong) || wrong.Problem == "" || wrong.Fix == "" {
			t.Errorf("%q: %v", id, err)
		}
	}
}
