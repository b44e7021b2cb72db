package tenants

import "testing"

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
			if !tenant.IsPublic(name) {
				t.Errorf("%s: %q is not public", test.patterns, name)
			}
		}
		for _, name := range test.private {
			if tenant.IsPublic(name) {
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
