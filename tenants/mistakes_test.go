package tenants

import (
	"strings"
	"testing"
)

// TestMistakesInWords has the mistakes that people make by hand.
func TestMistakesInWords(t *testing.T) {
	entry := `"id": "a", "api_key": "key-of-a", "data_dir": "/d/a"`
	for text, want := range map[string]string{
		`{"tenants": [{` + entry + `,}]}`:                                            "line 1, column 67: a comma has nothing behind it: remove it",
		"{\"tenants\": [\n  // mine\n]}":                                             "line 2, column 3: JSON has no comments",
		"\ufeff{\"tenants\": []}":                                                    "byte order mark",
		`{"tenants": [{` + entry + `, "quota": 5}]}`:                                 `tenant "a": field "quota" is unknown: remove it, or correct its spelling (capitals count): did you mean quota_mb?`,
		`{"tenants": [{` + entry + `, "Quota_MB": 5}]}`:                              `did you mean quota_mb?`,
		`{"tenant": []}`:                                                             `field "tenant" is unknown: remove it, or correct its spelling (capitals count): did you mean tenants?`,
		`{"Tenants": []}`:                                                            `did you mean tenants?`,
		`{"tenants": [{` + entry + `, "id": "a"}]}`:                                  `field "id" stands there twice`,
		`{"tenants": [], "reload_on_change": true, "tenants": []}`:                   `field "tenants" stands there twice`,
		`{"tenants": [{` + entry + `, "public": {"phexts": [], "Access": "read"}}]}`: `field "public.Access" is unknown: remove it, or correct its spelling (capitals count): did you mean public.access?`,
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
