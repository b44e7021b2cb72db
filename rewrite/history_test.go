package rewrite

import (
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

func pastCall(t *testing.T, method, op, query, body string) (*Call, error) {
	t.Helper()
	head, err := ParseHead(method, "/api/v2/"+op, query, Tenant{ID: "will"})
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	if body != "" {
		text = []byte(body)
	}
	return head.Call(text)
}

func TestHistories(t *testing.T) {
	for query, want := range map[string]HistorySpec{
		"":                        {Everywhere: true},
		"p=*&limit=5":             {Everywhere: true, Limit: 5},
		"p=notes&after=1h":        {After: "1h"},
		"phext=notes&c=a.name":    {OfScroll: true},
		"p=&coordinate=1.1.1":     {OfScroll: true},
		"p=&since=x&dry_run=true": {},
	} {
		c, err := pastCall(t, "GET", "history", query, "")
		if err != nil || *c.History != want {
			t.Errorf("%s: %v %+v, want %+v", query, err, c.History, want)
		}
	}
	for query, want := range map[string]string{
		"c=1.1.1":                         "name the phext",
		"p=*&c=1.1.1":                     "name the phext",
		"p=notes&limit=0":                 `"limit" is`,
		"p=notes&c=bob.1.1.1/1.1.1/1.1.1": "prefix",
		"p=../x":                          "phext name",
		"p=a&p=b":                         "given twice",
	} {
		if _, err := pastCall(t, "GET", "history", query, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}

func TestRestores(t *testing.T) {
	c, err := pastCall(t, "POST", "restore", "", `{"p": "notes", "at": "10m", "c": "2.3.5", "dry_run": true}`)
	if err != nil || c.Phext != "notes" || *c.History != (HistorySpec{OfScroll: true, At: "10m", DryRun: true}) || c.At != (phext.Coordinate{2, 3, 1, 1, 1, 1, 1, 1, 5}) {
		t.Errorf("%v %+v", err, c)
	}
	if c, err = pastCall(t, "POST", "restore", "", ` {"phext": "", "to": "before", "at": "2026-01-31"}`); err != nil || c.Phext != "" || c.History.To.FileName() != "before.phext" || c.History.Everywhere || c.History.OfScroll {
		t.Errorf("%v %+v", err, c)
	}
	for body, want := range map[string]string{
		"":                                     "the body is empty",
		"{}":                                   `"phext" is missing`,
		`{"at": "10m"}`:                        `"phext" is missing`,
		`{"phext": "notes"}`:                   `"at" is missing`,
		`{"phext": null, "at": "10m"}`:         `field "phext" is null`,
		`{"phext": "n", "p": "m", "at": "1m"}`: "different values",
		`{"phext": "n", "phext": "n", "at": "1m"}`:                             "stands there twice",
		`{"phext": "n", "at": "1m", "dryrun": true}`:                           "did you mean dry_run",
		`{"phext": "n", "at": 10}`:                                             `field "at" is a number`,
		`{"phext": "n", "at": "1m", "to": "m", "c": "1.1.1"}`:                  "leave one of them out",
		`{"phext": "n.names", "at": "1m"}`:                                     "names of coordinates",
		`{"phext": "n", "at": "1m", "to": "n.names"}`:                          "names of coordinates",
		`{"phext": "n", "at": "1m", "to": "../n"}`:                             "phext name",
		`{"phext": "n", "at": "1m", "to": "` + strings.Repeat("x", 235) + `"}`: "1 bytes less",
		`{"phext": "n", "at": "1m", "c": "bob.1.1.1/1.1.1/1.1.1"}`:             "prefix",
		`phext=n&at=1m`: "not JSON",
	} {
		if _, err := pastCall(t, "POST", "restore", "", body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	if _, err := pastCall(t, "POST", "restore", "dry_run=true", `{"phext": "n", "at": "1m"}`); err == nil || !strings.Contains(err.Error(), "no parameters") {
		t.Errorf("with a query: %v", err)
	}
}

// TestOwnRights has each kind of key ask for what is the tenant's own.
func TestOwnRights(t *testing.T) {
	prefix, err := ParsePrefix("2.3")
	if err != nil {
		t.Fatal(err)
	}
	const in, out, named, both = `{"phext": "notes", "at": "1m"}`, `{"phext": "diary", "at": "1m"}`, `{"phext": "notes", "at": "1m", "c": "2.3.9"}`, `{"phext": "notes", "at": "1m", "to": "diary"}`
	for _, test := range []struct {
		name  string
		scope *Scope
		may   string // numbers of the calls below
	}{
		{"own", Everything, "0 1 2 3 4 5 6 7 8"},
		{"read", &Scope{Access: ReadAccess}, "0 1 2 3 4"},
		{"append", &Scope{Access: AppendAccess}, "0 1 2 3 4"},
		{"read-write for some", &Scope{Access: WriteAccess, Phexts: []string{"[l-n]ot*"}}, "0 1 2 3 5 7"},
		{"prefix", &Scope{Access: WriteAccess, Prefix: &prefix}, "0 1 2 3 4"},
		{"guest", Guests, ""},
		{"guest that reads", Guests.Within(ReadAccess), ""},
		{"nobody", &Scope{Access: ReadAccess, Phexts: []string{"*"}, Anonymous: true}, ""},
		{"nothing", &Scope{}, ""},
	} {
		var may []string
		for i, c := range [][2]string{{"usage?p=diary", ""}, {"history", ""}, {"history?p=notes", ""}, {"history?p=notes&c=2.3.9", ""}, {"history?p=diary", ""},
			{"restore", in}, {"restore", out}, {"restore", named}, {"restore", both}} {
			method := map[bool]string{true: "GET", false: "POST"}[c[1] == ""]
			op, query, _ := strings.Cut(c[0], "?")
			call, err := pastCall(t, method, op, query, c[1])
			if err != nil {
				t.Fatal(c, err)
			}
			err = test.scope.Authorize(call)
			if err == nil {
				may = append(may, string(rune('0'+i)))
			} else if e := apierror.From(err); e.Kind != apierror.Forbidden {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if got := strings.Join(may, " "); got != test.may {
			t.Errorf("%s may do %q, want %q", test.name, got, test.may)
		}
	}
	outside, err := pastCall(t, "GET", "history", "p=notes&c=2.4.9", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Scope{Access: ReadAccess, Prefix: &prefix}).Authorize(outside); err == nil {
		t.Error("a key with a prefix gets the history of another scroll")
	}
}

// TestNewOperationsTakeNoIDs: a tenant may be called as one, since nothing stands behind it.
func TestNewOperationsTakeNoIDs(t *testing.T) {
	for _, id := range []string{"usage", "history", "restore", "changes", "batch", "mcp"} {
		if slices.Contains(PathWords(), id) {
			t.Errorf("%s is reserved", id)
		}
		for _, path := range []string{"/" + id + "/api/v2/toc", "/" + id + "/toc", "/t/" + id + "/toc"} {
			if op, instance := Find("GET", path); op != Toc || instance != id {
				t.Errorf("%s is %s of %q", path, op, instance)
			}
		}
		if op, instance := Find("GET", "/"+id+"/"+id); op != Op(id) || instance != id {
			t.Errorf("/%s/%s is %s of %q", id, id, op, instance)
		}
		if op, instance := Find("GET", "/"+id); op != Op(id) || instance != "" {
			t.Errorf("/%s is %s of %q", id, op, instance)
		}
	}
	for _, word := range []string{"toc", "select", "list", "health", "k", "t"} {
		if !slices.Contains(PathWords(), word) {
			t.Errorf("%s is not reserved any more", word)
		}
	}
}
