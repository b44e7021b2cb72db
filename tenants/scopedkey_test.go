package tenants

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/rewrite"
)

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// TestScopedKeys finds keys by what was sent, until they are revoked or have expired.
func TestScopedKeys(t *testing.T) {
	with := func(keys string) *Snapshot {
		return parse(t, fileWith(`{`+goodEntry+`, "keys": [`+keys+`]}`))
	}
	one := `{"id": "guest", "sha256": "` + hashOf("key-of-guest") + `", "access": "append", "phexts": ["log-*"], "prefix": "2.3.5", "expires": "2030-01-31T12:00:00Z", "note": "for a guest"}`
	s := with(one)
	tenant, k, ok := s.ByScopedKey("key-of-guest")
	if !ok || tenant.ID != "a" || k.ID != "guest" || k.Scope.Access != rewrite.AppendAccess || !k.Scope.CoversPhext("log-1") || k.Scope.CoversPhext("notes") || k.Scope.Prefix.Text != "2.3.5" {
		t.Fatalf("%v %+v %v", tenant, k, ok)
	}
	if _, ok := s.ByKey("key-of-guest", time.Now()); ok {
		t.Error("it is the tenant's own key")
	}
	end := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	if k.HasExpired(end.Add(-1)) || !k.HasExpired(end) {
		t.Error("it expires at another time")
	}
	if now, ok := with(one).Now(k, end.Add(-1)); !ok || now.ID != "guest" {
		t.Error("the same key in another snapshot does not count")
	}
	if _, ok := with(one).Now(k, end); ok {
		t.Error("an expired key counts")
	}
	if _, ok := with(``).Now(k, end.Add(-1)); ok {
		t.Error("a revoked key counts")
	}
	if d := Compare(s, with(strings.Replace(one, "2.3.5", "2.3", 1))); len(d.Changed) != 1 {
		t.Error("a change of a key is not noticed")
	}
}

// TestWrongScopedKeys names the field that is wrong.
func TestWrongScopedKeys(t *testing.T) {
	sum := hashOf("key-of-guest")
	for entry, field := range map[string]string{
		`{"sha256": "` + sum + `", "access": "read"}`:                                     "keys.id",
		`{"id": "0011aabb", "sha256": "` + sum + `", "access": "read"}`:                   "keys.id",
		`{"id": "g", "access": "read"}`:                                                   "keys.sha256",
		`{"id": "g", "sha256": "abc", "access": "read"}`:                                  "keys.sha256",
		`{"id": "g", "sha256": "` + sum + `"}`:                                            "keys.access",
		`{"id": "g", "sha256": "` + sum + `", "access": "write"}`:                         "keys.access",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "phexts": []}`:            "keys.phexts",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "phexts": ["a/b"]}`:       "keys.phexts",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "phexts": "a"}`:           "keys.phexts",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "prefix": "-"}`:           "keys.prefix",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "prefix": ""}`:            "keys.prefix",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "expires": "soon"}`:       "keys.expires",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "expire": "2030-01-01"}`:  "keys.expire",
		`{"id": "g", "sha256": "` + sum + `", "access": "read", "note": "` + "\\n" + `"}`: "keys.note",
		`{"id": "g", "sha256": "` + hashOf(exampleKey) + `", "access": "read"}`:           "keys.sha256",
		`"g"`: "keys",
	} {
		_, err := Parse([]byte(fileWith(`{"id": "will", "api_key": "` + exampleKey + `", "data_dir": "/d/w", "keys": [` + entry + `]}`)))
		if err == nil || !strings.Contains(err.Error(), `field "`+field+`"`) || strings.Contains(err.Error(), sum) {
			t.Errorf("%s: %v, want field %s", entry, err, field)
		}
	}
}
