package tenants

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse puts the example key in the place of each @. Whatever is wrong with
// the file, the error must not repeat the key.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		fileOf("a", "b"), `{"tenants": {"@": {}}}`, `{"tenants": [{"id": 5}], "reload_on_change": null}`, `{"tenants": [{"id": "@"}]}`, `{"tenants": [{"id": "@!"}]}`,
		`{"tenants": [{"@": 1, "@": "@"}]}`, `{"tenants": [{"id": "a", "api_key": "@", "data_dir": "@", "created_at": "@"}]}`,
		`{"@": "@", "tenants": [{"token": "@"}]}`, "[[tenants]]\ntoken = \"@\"", `@`, `{"tenants": [{"api_key_sha256": "@", "path_key": "@"}]} @`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse([]byte(strings.ReplaceAll(text, "@", exampleKey)))
		if (s == nil) == (err == nil) {
			t.Fatalf("%v and %v", s, err)
		}
		if err == nil {
			mustBeValid(t, s)
		} else if strings.Contains(err.Error(), exampleKey) {
			t.Fatalf("repeats the key: %v", err)
		}
	})
}

func mustBeValid(t *testing.T, s *Snapshot) {
	t.Helper()
	for _, tenant := range s.All() {
		if ValidID(tenant.ID) != nil || !filepath.IsAbs(tenant.DataDir) || filepath.Clean(tenant.DataDir) != tenant.DataDir ||
			tenant.QuotaBytes < 0 || tenant.MaxPhexts < 0 || tenant.key.isZero() || s.byID[tenant.ID] != tenant {
			t.Fatalf("%+v", tenant)
		}
	}
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
