package tenants

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/rewrite"
)

func parse(t *testing.T, file string) *Snapshot {
	t.Helper()
	s, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPublicPhexts matches names as the tenant knows them. The names of coordinates
// are as public as their phext.
func TestPublicPhexts(t *testing.T) {
	for _, test := range []struct {
		patterns string
		public   []string
		private  []string
	}{
		{`"site"`, []string{"site", "site.names", "site.names.names"}, []string{"", "Site", "site2", "asite", ".names", "*", "site/x"}},
		{`"log-*", "?"`, []string{"log-", "log-a", "log-a.names", "x", "*"}, []string{"", "xlog-a", "log", "names"}},
		{`"*s"`, []string{"notes", "notes.names"}, []string{"diary", "diary.names", ".names"}},
		{`"*.names"`, nil, []string{"diary", "diary.names"}},
		{`""`, []string{"", ".names"}, []string{"a"}},
		{`"*"`, []string{"", "a", "a.b", ".names"}, nil},
		{`"[a-c]x", "\\*"`, []string{"ax", "*"}, []string{"dx", "a"}},
	} {
		tenant, _ := parse(t, fileWith(`{`+goodEntry+`, "public": {"phexts": [`+test.patterns+`]}}`)).ByID("a")
		for _, name := range test.public {
			if !tenant.public.CoversPhext(name) {
				t.Errorf("%s: %q is not public", test.patterns, name)
			}
		}
		for _, name := range test.private {
			if tenant.public.CoversPhext(name) {
				t.Errorf("%s: %q is public", test.patterns, name)
			}
		}
	}
}

// TestAChangeOfWhatIsPublicIsNoticed, since a list is not compared with ==.
func TestAChangeOfWhatIsPublicIsNoticed(t *testing.T) {
	with := func(pattern string) *Snapshot {
		return parse(t, fileWith(`{`+goodEntry+`, "public": {"phexts": ["`+pattern+`"]}}`))
	}
	if d := Compare(with("a"), with("b")); len(d.Changed) != 1 {
		t.Errorf("%+v", d)
	}
	if d := Compare(with("a"), with("a")); !d.Empty() {
		t.Errorf("%+v", d)
	}
}

// TestAPatternThatMeansTheOpposite is refused: in a shell, [!a] is what [^a] is here.
func TestAPatternThatMeansTheOpposite(t *testing.T) {
	_, err := Parse([]byte(fileWith(`{` + goodEntry + `, "public": {"phexts": ["[!s]*"]}}`)))
	if err == nil || !strings.Contains(err.Error(), "public.phexts") || !strings.Contains(err.Error(), "[^a-z]") {
		t.Errorf("%v", err)
	}
	tenant, _ := parse(t, fileWith(`{`+goodEntry+`, "public": {"phexts": ["[^s]*"]}}`)).ByID("a")
	if scope := tenant.ScopeFor(nil); scope == nil || !scope.CoversPhext("notes") || scope.CoversPhext("secret") {
		t.Errorf("%+v", scope)
	}
}

// TestAccess is what each caller may do with a's phexts.
func TestAccess(t *testing.T) {
	file := func(fields string) *Snapshot {
		return parse(t, fileWith(`{`+goodEntry+fields+`},
			{"id": "b", "api_key": "key-of-b", "data_dir": "/d/b", "writers": ["a"]},
			{"id": "c", "api_key": "key-of-c", "data_dir": "/d/c"},
			{"id": "off", "api_key": "key-of-off", "data_dir": "/d/off", "enabled": false},
			{"id": "gone", "api_key": "key-of-gone", "data_dir": "/d/gone", "archived": true}`))
	}
	const site = `, "public": {"phexts": ["site"]}`
	const writers = `, "writers": ["b", "off", "gone"]`
	for _, test := range []struct {
		fields string
		want   map[string]rewrite.Access
	}{
		{``, map[string]rewrite.Access{"a": rewrite.WriteAccess}},
		{site, map[string]rewrite.Access{"a": rewrite.WriteAccess, "": rewrite.ReadAccess, "b": rewrite.ReadAccess, "c": rewrite.ReadAccess, "off": rewrite.ReadAccess, "gone": rewrite.ReadAccess}},
		{writers, map[string]rewrite.Access{"a": rewrite.WriteAccess, "b": rewrite.WriteAccess}},
		{site + writers, map[string]rewrite.Access{"a": rewrite.WriteAccess, "": rewrite.ReadAccess, "b": rewrite.WriteAccess, "c": rewrite.ReadAccess, "off": rewrite.ReadAccess, "gone": rewrite.ReadAccess}},
		{site + writers + `, "enabled": false`, nil},
		{site + writers + `, "archived": true`, nil},
	} {
		s := file(test.fields)
		a, _ := s.ByID("a")
		for _, id := range []string{"", "a", "b", "c", "off", "gone"} {
			caller, _ := s.ByID(id)
			got := a.ScopeFor(caller)
			if got == nil {
				got = &rewrite.Scope{}
			}
			if got.Access != test.want[id] || got.Anonymous != (got.Access == rewrite.ReadAccess) {
				t.Errorf("%s: %q has %+v, want %v", test.fields, id, got, test.want[id])
			}
		}
	}
	earlier := &Tenant{ID: "a", Enabled: true, uniqueID: "a/20200101T000000.000000000Z"}
	if a, _ := file("").ByID("a"); a.ScopeFor(earlier) != nil {
		t.Error("an earlier tenant with the same id has access")
	}
}

// TestRemovedWriters are taken out of the lists of the others, so that whoever gets
// the id later is not let in.
func TestRemovedWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.json")
	writeFile(t, path, fileWith(`{`+goodEntry+`, "writers": ["b", "c"]}, {"id": "b", "api_key": "key-of-b", "data_dir": "/d/b"},
		{"id": "c", "api_key": "key-of-c", "data_dir": "/d/c", "writers": ["b"]}`))
	s, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Edit(func(d *Document) error { return d.Remove("b", func(*Entry) error { return nil }) }); err != nil {
		t.Fatal(err)
	}
	a, _ := s.Current().ByID("a")
	c, _ := s.Current().ByID("c")
	if !slices.Equal(a.Writers(), []string{"c"}) || len(c.Writers()) != 0 {
		t.Errorf("%v and %v", a.Writers(), c.Writers())
	}
}
