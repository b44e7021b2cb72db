package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for body, want := range map[string]string{
		`{"quota_mb": 5,}`:                 "the body is not JSON: line 1, column 15: a comma has nothing behind it: remove it",
		"{\n  // more\n  \"quota_mb\": 5}": "line 2, column 3: JSON has no comments",
		"\ufeff{}":                         "byte order mark",
		`{"quota_mb": 5} {}`:               "there is more behind the end",
		`{"quota_mb"`:                      "ends before its JSON does",
		`{"quota": 5}`:                     `unknown field "quota": remove it, or correct its spelling (capitals count): did you mean quota_mb?`,
		`{"Quota_MB": 5}`:                  `did you mean quota_mb?`,
		`{"quota_mb": 5, "quota_mb": 6}`:   `field "quota_mb" stands there twice: keep one`,
		`{"quota_mb": 5, "Quota_MB": 6}`:   `unknown field "Quota_MB"`,
		`{"quota_mb": "5"}`:                `field "quota_mb" is a string: a whole number is wanted`,
		`{"path_key": 5}`:                  `field "path_key" is a wrong kind: a string is wanted`,
		`{"enabled": null}`:                `field "enabled" is null: give it a value, or leave it out`,
		`[]`:                               `the body is not a JSON object`,
		`null`:                             `the body is not a JSON object`,
		`{"` + strings.Repeat("x", 200) + `": 1}`: `unknown field "` + strings.Repeat("x", 64) + `"`,
	} {
		var p patch
		err := decode(httptest.NewRequest("PATCH", "/", strings.NewReader(body)), &p)
		if err == nil || !strings.Contains(err.Error(), want) || p.QuotaMB != nil && *p.QuotaMB == 6 {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	for _, body := range []string{"", " \n", "{}", `{"quota_mb": 5, "enabled": false, "path_key": null}`} {
		var p patch
		if err := decode(httptest.NewRequest("PATCH", "/", strings.NewReader(body)), &p); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}
