package tenants

import (
	"errors"
	"strings"
	"testing"
)

// described lists the id, the key and the directory of each tenant.
func described(c *Conversion) string {
	var out []string
	for _, e := range c.Entries {
		out = append(out, *e.ID+" "+*e.APIKey+" "+*e.DataDir)
	}
	return strings.Join(out, "\n")
}

func TestConversions(t *testing.T) {
	for _, c := range []struct{ name, file, want, note string }{
		{"SQ", `{"tenants": {"` + k1 + `": {"name": "founding-001", "data_dir": "/d/one"}, "` + k2 + `": {"data_dir": "/d/two", "name": "founding-002"}}}`,
			"founding-001 " + k1 + " /d/one\nfounding-002 " + k2 + " /d/two", ""},
		{"names that are no ids", `{"tenants": {"` + k1 + `": {"name": " Alice  & Söhne_2 ", "data_dir": "/d/one"}, "` + k2 + `": {"name": "API", "data_dir": "/d/two"}}}`,
			"alice-s-hne-2 " + k1 + " /d/one\ntenant-api " + k2 + " /d/two", `tenant number 1, " Alice  & Söhne_2 ", has the id "alice-s-hne-2" now`},
		{"no tenants", `{"tenants": {}}`, "", ""},
		{"router", `{"tenants": [{"token": "` + k1 + `", "port": 1338, "data_dir": "/var/lib/sq/tenants/user1/"}, {"token": "` + k2 + `", "port": 1339, "data_dir": "/d/data", "name": "user2"}]}`,
			"user1 " + k1 + " /var/lib/sq/tenants/user1/\nuser2 " + k2 + " /d/data", "stop the router"},
		{"gateway", "# ours\n[gateway]\nlisten_port = 8080\nadmin_key = \"" + k2 + "\"\n\n[[tenants]]\ntoken = \"user-api-key-1\" # Alice\nname = \"alice\"\nport = 1337\nphext = \"diary\"\n[[tenants]]\ntoken='user-api-key-2'\nname='Bob'\nport=1338\n",
			"alice user-api-key-1 /root/alice\nbob user-api-key-2 /root/bob", `tenant "alice": move the *.phext files of the SQ on port 1337, diary.phext and the others, to /root/alice`},
	} {
		made, err := Convert([]byte(c.file), "/root")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		notes := strings.Join(append(made.Notes, made.Steps...), "\n")
		if got := described(made); got != c.want || !strings.Contains(notes, c.note) {
			t.Errorf("%s: %s\nand the notes\n%s\nwant %s\nand a note %q", c.name, got, notes, c.want, c.note)
		}
		if strings.Contains(notes, k1) || strings.Contains(notes, k2) || strings.Contains(notes, "user-api-key") {
			t.Errorf("%s: a note repeats a key:\n%s", c.name, notes)
		}
		if err := Check(made.Entries...); err != nil {
			t.Errorf("%s: serve would refuse it: %v", c.name, err)
		}
	}
}

// TestConversionsRefused checks that each error names the tenant, the field and
// the remedy, and that it repeats no key.
func TestConversionsRefused(t *testing.T) {
	sq := func(fields string) string { return `{"tenants": {"` + k1 + `": {` + fields + `}}}` }
	router := func(fields string) string {
		return `{"tenants": [{"token": "` + k2 + `", "port": 1, "data_dir": "/d/a"}, {"token": "` + k1 + `", ` + fields + `}]}`
	}
	gateway := func(text string) string { return "[[tenants]]\ntoken = \"" + k1 + "\"\n" + text }
	for _, c := range []struct {
		file  string
		names []string
	}{
		{sq(`"name": "a", "data_dir": "/d", "quota": 5`), []string{"tenant number 1", `"quota"`, "unknown"}},
		{sq(`"name": "a", "data_dir": "d"`), []string{`tenant "a"`, `"data_dir"`, "relative", "whole path"}},
		{sq(`"name": "a"`), []string{`tenant "a"`, `"data_dir"`, "missing"}},
		{sq(`"data_dir": "/d"`), []string{"tenant number 1", `"name"`, "missing"}},
		{sq(`"name": "??", "data_dir": "/d"`), []string{"tenant number 1", `"name"`, "letters"}},
		{sq(`"name": "` + k2 + `", "data_dir": "/d"`), []string{"tenant number 1", `"name"`, "not a key"}},
		{sq(`"name": "` + strings.Repeat("n", 64) + `", "data_dir": "/d"`), []string{"tenant number 1", `"name"`}},
		{sq(`"name": 5, "data_dir": "/d"`), []string{"tenant number 1", `"name"`, "text in quotes"}},
		{`{"tenants": {"short": {"name": "a", "data_dir": "/d"}}}`, []string{`tenant "a"`, "api_key", "5 bytes"}},
		{`{"tenants": {"` + k1 + `": {"name": "a", "data_dir": "/d"}, "` + k1 + `": {"name": "b", "data_dir": "/e"}}}`, []string{`tenant "b"`, "same key"}},
		{`{"tenants": {"` + k1 + `": {"name": "A b", "data_dir": "/d"}, "` + k2 + `": {"name": "a_b", "data_dir": "/e"}}}`, []string{"tenant number 2", `"name"`, `"a-b"`, "tenant number 1"}},
		{`{"tenants": {"` + k1 + `": {"name": "a", "data_dir": "/d"}, "` + k2 + `": {"name": "b", "data_dir": "/d/"}}}`, []string{`tenant "b"`, `"data_dir"`, `tenant "a"`}},
		{`{"tenants": {"` + k1 + `": 5}}`, []string{"tenant number 1", "not a tenant"}},
		{`{"tenants": {}, "port": 1}`, []string{`"port"`, "unknown"}},
		{router(`"port": 1, "data_dir": "/d/b"`), []string{"tenant number 2", `"port"`, "tenant number 1"}},
		{router(`"port": 2, "data_dir": "/e/a"`), []string{"tenant number 2", `"data_dir"`, `the id "a"`, `another "name"`}},
		{router(`"port": 2, "data_dir": "/"`), []string{"tenant number 2", `"data_dir"`, `a "name"`}},
		{router(`"port": "2", "data_dir": "/d/b"`), []string{"tenant number 2", `"port"`, "whole number"}},
		{router(`"port": 2`), []string{"tenant number 2", `"name"`, "missing"}},
		{gateway("name = \"a\"\nport = 1\nquota = 5\n"), []string{"tenant number 1", `"quota"`, "unknown"}},
		{gateway("port = 1\n"), []string{"tenant number 1", `"name"`, "missing"}},
		{gateway("name = \"a\"\nname = \"b\"\n"), []string{"line 4", "TOML"}},
		{gateway("name = a\n"), []string{"line 3", "TOML"}},
		{gateway("name = \"a\"\n[gateway]\nport = 5\n"), []string{`"port"`, "unknown"}},
		{gateway("name = \"a\"\nport = 1\n") + strings.Replace(gateway("name = \"b\"\nport = 1\n"), k1, k2, 1), []string{"tenant number 2", `"port"`, "tenant number 1"}},
		{fileWith(`{` + goodEntry + `}`), []string{"none of the tenants files", "needs no conversion"}},
		{`{}`, []string{"none of the tenants files"}},
		{`nonsense`, []string{"JSON"}},
		{strings.Repeat(" ", maxFileSize+1), []string{"larger than"}},
	} {
		made, err := Convert([]byte(c.file), "/root")
		if err == nil {
			err = Check(made.Entries...)
		}
		if err == nil {
			t.Errorf("%.300s\n is converted", c.file)
			continue
		}
		for _, name := range c.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%.300s\n says %q, which does not name %q", c.file, err, name)
			}
		}
		if strings.Contains(err.Error(), k1) || strings.Contains(err.Error(), k2) {
			t.Errorf("%.300s\n repeats a key: %v", c.file, err)
		}
	}
}

func TestAllMistakesInAConversionAreReported(t *testing.T) {
	_, err := Convert([]byte(`{"tenants": {"`+k1+`": {"name": "a", "data_dir": "x"}, "`+k2+`": {"name": "b", "data_dir": "/y", "odd": 1}}}`), "/root")
	var wrong *FieldError
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), `"a": field "data_dir"`) || !strings.Contains(err.Error(), `number 2: field "odd"`) {
		t.Errorf("%v", err)
	}
}
