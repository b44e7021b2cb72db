package tenants

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// k1 and k2 are keys in the files of these tests. No message may repeat them.
const (
	k1 = "pmb-v1-aaaaaaaabbbbbbbbccccccccdddddddd"
	k2 = "pmb-v1-11111111222222223333333344444444"
)

const goodEntry = `"id": "a", "api_key": "` + k1 + `", "data_dir": "/d/a"`

func fileWith(entries string) string { return `{"tenants": [` + entries + `]}` }

// TestFieldsRefused adds each wrong field to a valid entry.
func TestFieldsRefused(t *testing.T) {
	for _, c := range []struct{ add, field, problem string }{
		{`"quota": 1`, "quota", "unknown"},
		{`"Enabled": true`, "Enabled", "unknown"},
		{`"` + k2 + `": 1`, "", "unknown"},
		{`"letterskey": {"name": "a"}`, "", "unknown"},
		{`"id": "b"`, "id", "twice"},
		{`"api_key": "` + k2 + `"`, "api_key", "twice"},
		{`"quota_mb": -1`, "quota_mb", "range"},
		{`"quota_mb": 9223372036854775807`, "quota_mb", "range"},
		{`"quota_mb": 1.5`, "quota_mb", "kind"},
		{`"quota_mb": "1"`, "quota_mb", "kind"},
		{`"quota_mb": 12345678901234567890`, "quota_mb", "kind"},
		{`"max_phexts": -5`, "max_phexts", "range"},
		{`"requests_per_minute": -5`, "requests_per_minute", "range"},
		{`"reads_per_minute": -1`, "reads_per_minute", "range"},
		{`"writes_per_minute": "10"`, "writes_per_minute", "kind"},
		{`"lists_per_minute": 4294967296`, "lists_per_minute", "range"},
		{`"calls_per_day": 4294967296`, "calls_per_day", "range"},
		{`"enabled": 1`, "enabled", "kind"},
		{`"enabled": null`, "enabled", "kind"},
		{`"allow_delimiters": "yes"`, "allow_delimiters", "kind"},
		{`"shared_data_dir": []`, "shared_data_dir", "kind"},
		{`"admin_email": {}`, "admin_email", "kind"},
		{`"public": "site"`, "public", "not an object"},
		{`"public": null`, "public", "kind"},
		{`"public": {"phexts": []}`, "public.phexts", "names no phext"},
		{`"public": {"access": "read"}`, "public.phexts", "names no phext"},
		{`"public": {"phexts": "site"}`, "public.phexts", "kind"},
		{`"public": {"phexts": ["site"], "phexts": ["*"]}`, "public.phexts", "twice"},
		{`"public": {"phexts": [null]}`, "public.phexts", "null"},
		{`"public": {"phexts": ["[a"]}`, "public.phexts", "pattern"},
		{`"public": {"phexts": ["a/b"]}`, "public.phexts", "pattern"},
		{`"public": {"phexts": ["` + strings.Repeat("x", 241) + `"]}`, "public.phexts", "pattern"},
		{`"public": {"phexts": ["a"` + strings.Repeat(`, "a"`, 100) + `]}`, "public.phexts", "too long"},
		{`"public": {"phexts": ["site"], "access": "write"}`, "public.access", "read"},
		{`"public": {"phexts": ["site"], "nonsense": 1}`, "public.nonsense", "unknown"},
		{`"writers": "b"`, "writers", "kind"},
		{`"writers": [null]`, "writers", "null"},
		{`"writers": ["b"]`, "writers", "no tenant"},
		{`"writers": ["` + k2 + `"]`, "writers", "no tenant"},
		{`"writers": ["a"]`, "writers", "itself"},
		{`"created_at": "yesterday"`, "created_at", "not a time"},
		{`"path_key": 1234567890123456789012`, "path_key", "kind"},
		{`"path_key": "short"`, "path_key", "5 bytes"},
		{`"path_key": "with/slashes/in/it/and/long"`, "path_key", "URL"},
		{`"path_key": "` + k1 + `"`, "path_key", `same key as api_key of tenant "a"`},
		{`"path_key_sha256": "xyz"`, "path_key_sha256", "SHA-256"},
		{`"path_key_sha256": "` + hashed(k1) + `"`, "path_key_sha256", `same key as api_key of tenant "a"`},
		{`"path_key_sha256": "` + hashed(k2) + `", "path_key": "abcdefghijklmnopqrstuv"`, "path_key", "both"},
		{`"api_key_sha256": "` + hashed(k2) + `"`, "api_key", "both"},
		{`"previous_key_sha256": "` + hashed(k2) + `"`, "previous_key_sha256", "without"},
		{`"previous_key_expires": "2026-01-31T12:00:00Z"`, "previous_key_expires", "without"},
		{`"previous_key_sha256": "xyz", "previous_key_expires": "2026-01-31T12:00:00Z"`, "previous_key_sha256", "SHA-256"},
		{`"previous_key_sha256": "` + hashed(k2) + `", "previous_key_expires": "soon"`, "previous_key_expires", "not a time"},
		{`"previous_key_sha256": "` + hashed(k1) + `", "previous_key_expires": "2026-01-31T12:00:00Z"`, "previous_key_sha256", "same key"},
	} {
		mustRefuse(t, fileWith(`{`+goodEntry+`, `+c.add+`}`), "a", 1, c.field, c.problem)
	}
}

// TestEntriesRefused has entries with one mistake each.
func TestEntriesRefused(t *testing.T) {
	for _, c := range []struct{ entry, tenant, field, problem string }{
		{`{"api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "missing"},
		{`{"id": 5, "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "kind"},
		{`{"id": "A!", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", `is "A!", which has a character`},
		{`{"id": "` + k2 + ` ", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "character"},
		{`{"id": "-a", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "'-'"},
		{`{"id": "select", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "paths"},
		{`{"id": "` + k2 + `", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "keys"},
		{`{"id": "` + strings.Repeat("a", 64) + `", "api_key": "` + k1 + `", "data_dir": "/d"}`, "", "id", "64 bytes"},
		{`{"id": "a", "data_dir": "/d"}`, "a", "api_key", "missing"},
		{`{"id": "a", "api_key": 1234567890123456, "data_dir": "/d"}`, "a", "api_key", "kind"},
		{`{"id": "a", "api_key": "seven77", "data_dir": "/d"}`, "a", "api_key", "7 bytes"},
		{`{"id": "a", "api_key": "` + strings.Repeat("x", 4097) + `", "data_dir": "/d"}`, "a", "api_key", "4097 bytes"},
		{`{"id": "a", "api_key": "with a space", "data_dir": "/d"}`, "a", "api_key", "character"},
		{`{"id": "a", "api_key": "with:a:colon", "data_dir": "/d"}`, "a", "api_key", "character"},
		{`{"id": "a", "api_key": "clé-secrète", "data_dir": "/d"}`, "a", "api_key", "character"},
		{`{"id": "a", "api_key_sha256": "` + k1 + `", "data_dir": "/d"}`, "a", "api_key_sha256", "SHA-256"},
		{`{"id": "a", "api_key": "` + k1 + `"}`, "a", "data_dir", "missing"},
		{`{"id": "a", "api_key": "` + k1 + `", "data_dir": "data/a"}`, "a", "data_dir", "relative"},
		{`{"id": "a", "api_key": "` + k1 + `", "data_dir": "` + k2 + `"}`, "a", "data_dir", "relative"},
		{`{"id": "a", "api_key": "` + k1 + `", "data_dir": "/x/.."}`, "a", "data_dir", "root"},
		{`{"id": "a", "api_key": "` + k1 + `", "data_dir": "/x\u0000y"}`, "a", "data_dir", "character"},
		{`{"id": "a", "api_key": "` + k1 + `", "data_dir": "/x\ud800"}`, "a", "data_dir", "character"},
		{`["` + k1 + `"]`, "", "tenants", "not a tenant"},
		{`null`, "", "tenants", "not a tenant"},
	} {
		mustRefuse(t, fileWith(c.entry), c.tenant, 1, c.field, c.problem)
	}
}

// TestPairsRefused has second entries that conflict with the first.
func TestPairsRefused(t *testing.T) {
	for _, c := range []struct{ second, tenant, field, problem string }{
		{`"id": "a", "api_key": "` + k2 + `", "data_dir": "/d/c"`, "a", "id", "taken"},
		{`"id": "c", "api_key": "` + k1 + `", "data_dir": "/d/c"`, "c", "api_key", `same key as api_key of tenant "a"`},
		{`"id": "c", "api_key_sha256": "` + hashed(k1) + `", "data_dir": "/d/c"`, "c", "api_key_sha256", "same key"},
		{`"id": "c", "api_key": "` + k2 + `", "path_key": "` + k1 + `", "data_dir": "/d/c"`, "c", "path_key", "same key"},
		{`"id": "c", "api_key": "` + k2 + `", "data_dir": "/d/../d/a/"`, "c", "data_dir", `directory of tenant "a" too`},
		{`"id": "c", "api_key": "` + k2 + `", "data_dir": "/d/a", "shared_data_dir": true`, "c", "data_dir", "directory of"},
	} {
		mustRefuse(t, fileWith(`{`+goodEntry+`}, {`+c.second+`}`), c.tenant, 2, c.field, c.problem)
	}
}

func mustRefuse(t *testing.T, file, tenant string, index int, field, problem string) {
	t.Helper()
	_, err := Parse([]byte(file))
	var wrong *FieldError
	if !errors.As(err, &wrong) {
		t.Errorf("%s\n is %v", file, err)
		return
	}
	if wrong.Tenant != tenant || wrong.Index != index || wrong.Field != field || !strings.Contains(wrong.Problem, problem) || wrong.Fix == "" {
		t.Errorf("%s\n is %+v", file, wrong)
	}
	said := err.Error()
	if !strings.Contains(said, describeTenant(tenant, index)) || !strings.Contains(said, field) || !strings.Contains(said, wrong.Fix) {
		t.Errorf("%s\n says only %q", file, said)
	}
	refuseSecrets(t, file, said)
}

func refuseSecrets(t *testing.T, file, said string) {
	t.Helper()
	for _, secret := range []string{k1, k2, "seven77", "with a space", "with:a:colon", "secrète", "letterskey", "12345678", hashed(k1), hashed(k2)} {
		if strings.Contains(said, secret) {
			t.Errorf("%s\n repeats a key: %q", file, said)
		}
	}
}

func TestFilesRefused(t *testing.T) {
	for _, c := range []struct{ file, says string }{
		{``, "empty"},
		{`{"tenants": [`, "ends before"},
		{`{"tenants": []} x`, "line 1, column 17: there is more"},
		{`{"tenants": [}`, "line 1, column 14"},
		{"{\n  \"tenants\": [],\n  \"é\": x\n}", "line 3, column 8"},
		{"{\"tenants\": [{\"id\": \"\xff\"}]}", "UTF-8"},
		{`[]`, "not a JSON object"},
		{strings.Repeat("[", maxFileSize), "not JSON"},
		{strings.Repeat(" ", maxFileSize+1), "larger than"},
		{`{"tenants": {"` + k1 + `": {"name": "a", "data_dir": "/d"}}}`, "multi-tenant mode"},
		{`{"tenants": [{"token": "` + k1 + `", "port": 1, "data_dir": "/d"}]}`, "SQ router"},
		{"# gateway\n[[tenants]]\ntoken = \"" + k1 + "\"\n", "Python gateway"},
	} {
		_, err := Parse([]byte(c.file))
		var wrong *FormatError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.80s\n is %v", c.file, err)
			continue
		}
		refuseSecrets(t, c.file[:min(80, len(c.file))], err.Error())
	}
}

func TestTopLevelRefused(t *testing.T) {
	for file, field := range map[string]string{
		`{}`: "tenants", `{"tenants": null}`: "tenants", `{"tenants": 5}`: "tenants", `{"tenants": [], "tenants": []}`: "tenants",
		`{"tenants": [], "reload": true}`: "reload", `{"tenants": [], "reload_on_change": null}`: "reload_on_change",
	} {
		_, err := Parse([]byte(file))
		var wrong *FieldError
		if !errors.As(err, &wrong) || wrong.Field != field || wrong.Index != 0 || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is %v", file, err)
		}
	}
}

func TestForeignFormatsNameTheConverter(t *testing.T) {
	_, err := Parse([]byte(`{"tenants": {"` + k1 + `": {}}}`))
	if err == nil || !strings.Contains(err.Error(), "sqgate init --from") {
		t.Errorf("%v", err)
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	file := fileWith(`{"id": "a", "data_dir": "x", "quota_mb": -1}, {"id": "b", "nonsense": 1}, {"id": "c", "api_key": "` + k1 + `", "data_dir": "y"}`)
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	for _, part := range []string{path, `"a": field "data_dir"`, `"a": field "quota_mb"`, `"a": field "api_key"`, `"b": field "nonsense"`, `"c": field "data_dir"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}
