package rewrite

import (
	"errors"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

var will = Tenant{ID: "will"}

// understand parses the head of a request, and then its body.
func understand(method, target, body string, who Tenant) (*Call, error) {
	path, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	head, err := ParseHead(method, path, query, who)
	if err != nil {
		return nil, err
	}
	if !head.TakesBody() {
		return head.Call(nil)
	}
	return head.Call([]byte(body))
}

const somewhere = "2.3.4/5.6.7/8.9.10"

// TestShapes has every shape of request that clients send (docs/clients.md), and
// what SQ must get for it.
func TestShapes(t *testing.T) {
	const c = "will." + somewhere
	for _, s := range []struct{ method, target, body, wire, scroll string }{
		{"GET", "/api/v2/select?p=n&c=" + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=2.3.4%2F5.6.7%2F8.9.10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=2.3.4;5.6.7;8.9.10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=2.3.4%3B5.6.7%3B8.9.10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=2.3.4.5.6.7.8.9.10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=002.3.4/5.6.7/8.9.0010", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&c=will." + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?%70=n&&x&c=" + somewhere + "&unknown=1&unknown=2", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?phext=n&coord=" + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&phext=n&a=" + somewhere + "&c=2.3.4;5.6.7;8.9.10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select?p=n&library=2&shelf=3&series=4&collection=5&volume=6&book=7&chapter=8&section=9&scroll=10", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select/" + somewhere + "?p=n", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/select/" + somewhere + "?p=n", "", "GET select?p=n&c=" + c, ""},
		{"GET", "/select?p=n&c=" + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/will/api/v2/select?p=n&c=" + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/will/select/" + somewhere + "?p=n", "", "GET select?p=n&c=" + c, ""},
		{"HEAD", "/api/v2/select?p=n&c=" + somewhere, "", "GET select?p=n&c=" + c, ""},
		{"GET", "/api/v2/select", "", "GET select?p=&c=will.1.1.1/1.1.1/1.1.1", ""},
		{"GET", "/toc?p=n", "", "GET toc?p=n&c=will.1.1.1/1.1.1/1.1.1", ""},
		{"GET", "/api/v2/get?p=a+b%2Bc%26d%3D%25", "", "GET get?p=a%20b%2Bc%26d%3D%25&c=will.1.1.1/1.1.1/1.1.1", ""},
		{"GET", "/api/v2/get?p=\u00e9", "", "GET get?p=%C3%A9&c=will.1.1.1/1.1.1/1.1.1", ""},
		{"GET", "/api/v2/update?p=n&c=" + somewhere + "&s=a%2Bb+c%zz%", "", "POST update?p=n&c=" + c, "a+b c%zz%"},
		{"GET", "/api/v2/insert?p=n&c=" + somewhere + "&content=x", "ignored", "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/update?p=n&c=" + somewhere + "&s=query", "body", "POST update?p=n&c=" + c, "body"},
		{"POST", "/api/v2/update?p=n&c=" + somewhere + "&data=query", "", "POST update?p=n&c=" + c, "query"},
		{"PUT", "/api/v2/update?p=n&c=" + somewhere, "body", "POST update?p=n&c=" + c, "body"},
		{"POST", "/api/v2/insert?p=n&c=" + somewhere, `{"coordinate":"9.9.9/9.9.9/9.9.9","content":"x"}`, "POST insert?p=n&c=" + c, `{"coordinate":"9.9.9/9.9.9/9.9.9","content":"x"}`},
		{"POST", "/api/v2/insert?p=n&c=" + somewhere, "p=m&content=x", "POST insert?p=n&c=" + c, "p=m&content=x"},
		{"POST", "/api/v2/insert/" + somewhere + "?p=n", "p=m&content=x", "POST insert?p=n&c=" + c, "p=m&content=x"},
		{"POST", "/api/v2/insert", "p=n&c=2.3.4%2F5.6.7%2F8.9.10&content=two+words", "POST insert?p=n&c=" + c, "two words"},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"` + somewhere + `","content":"x\n\u00e9"}`, "POST insert?p=n&c=" + c, "x\n\u00e9"},
		{"POST", "/api/v2/insert?p=n", `{"library":2,"shelf":3,"series":4,"collection":5,"volume":6,"book":7,"chapter":8,"section":9,"scroll":"10","s":"x"}`, "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", `{"title":"just JSON"}`, "POST insert?p=n&c=will.1.1.1/1.1.1/1.1.1", `{"title":"just JSON"}`},
		{"POST", "/api/v2/insert", "p=n&c=" + somewhere + "&text=x", "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"` + somewhere + `","text":"x"}`, "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"` + somewhere + `","scroll":"x"}`, "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"` + somewhere + `","value":"x","unknown":[1]}`, "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"` + somewhere + `","body":""}`, "POST insert?p=n&c=" + c, ""},
		{"POST", "/api/v2/update?p=n&c=" + somewhere, "", "POST update?p=n&c=" + c, ""},
		{"GET", "/api/v2/update?p=n&s=&c=" + somewhere, "", "POST update?p=n&c=" + c, ""},
		{"POST", "/api/v2/insert?p=n", "\ufeff" + `{"coordinate":"` + somewhere + `","text":"x"}`, "POST insert?p=n&c=" + c, "x"},
		{"POST", "/api/v2/insert?p=n", "value=x&s=y", "POST insert?p=n&c=will.1.1.1/1.1.1/1.1.1", "value=x&s=y"},
		{"POST", "/api/v2/insert?p=n", "a=1&b=2", "POST insert?p=n&c=will.1.1.1/1.1.1/1.1.1", "a=1&b=2"},
		{"POST", "/api/v2/insert?p=n", `{"a":1.5,"b":2}`, "POST insert?p=n&c=will.1.1.1/1.1.1/1.1.1", `{"a":1.5,"b":2}`},
		{"POST", "/api/v2/insert?p=n", `{"coordinate":"2.3.5","content":"x"}`, "POST insert?p=n&c=will.2.3.1/1.1.1/1.1.5", "x"},
		{"GET", "/api/v2/select/2.3.5/7.11.13?p=n", "", "GET select?p=n&c=will.2.3.5/7.11.1/1.1.13", ""},
		{"GET", "/api/v2/select?p=n&c=42.1.1/11.1.1&coordinate=42.1.1/11.1/1", "", "GET select?p=n&c=will.42.1.1/11.1.1/1.1.1", ""},
		{"POST", "/api/v2/delta?p=n", "1: abc\n", "POST delta?p=n&c=will.1.1.1/1.1.1/1.1.1", "will.1.1.1/1.1.1/1.1.1: abc\n"},
		{"POST", "/api/v2/insert?p=n", "a=b is not a form", "POST insert?p=n&c=will.1.1.1/1.1.1/1.1.1", "a=b is not a form"},
		{"GET", "/api/v2/delete?p=n&c=" + somewhere, "", "GET delete?p=n&c=" + c, ""},
		{"POST", "/api/v2/delete?p=n&c=" + somewhere, "", "GET delete?p=n&c=" + c, ""},
		{"DELETE", "/api/v2/delete?p=n&c=" + somewhere, "", "GET delete?p=n&c=" + c, ""},
		{"GET", "/api/v2/delta?p=n", "", "GET delta?p=n&c=will.1.1.1/1.1.1/1.1.1", ""},
		{"POST", "/api/v2/delta?p=n", "2.3.4;5.6.7;8.9.10: abc\r\nnothing here\nwill.1.1.1/1.1.1/1.1.1: 0\n", "POST delta?p=n&c=will.1.1.1/1.1.1/1.1.1", "will.2.3.4/5.6.7/8.9.10: abc\nwill.1.1.1/1.1.1/1.1.1: 0\n"},
		{"POST", "/api/v2/where?algo=checksum&limit=7", "text", "POST where?p=&c=will.1.1.1/1.1.1/1.1.1&algo=checksum&limit=7", "text"},
	} {
		call, err := understand(s.method, s.target, s.body, will)
		if err != nil {
			t.Errorf("%s %s: %v", s.method, s.target, err)
			continue
		}
		out := call.Outgoing()
		if got := out.Method + " " + strings.TrimPrefix(out.Path+"?"+out.Query, "/api/v2/"); got != s.wire || string(out.Body) != s.scroll {
			t.Errorf("%s %s (%q)\n goes out as %s %q,\n want %s %q", s.method, s.target, s.body, got, out.Body, s.wire, s.scroll)
		}
	}
}

func TestPrefixes(t *testing.T) {
	call, err := understand("GET", "/api/v2/select?p=n", "", Tenant{ID: "customer-001", SharedDataDir: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := call.Outgoing().Query, "p=customer-001.n&c=customer-AAB.1.1.1/1.1.1/1.1.1"; got != want {
		t.Errorf("goes out as %s, want %s", got, want)
	}
	if got := call.FileName(); got != "customer-001.n.phext" {
		t.Errorf("the file is %s", got)
	}
	// An id that consists of digits is known by the ten components.
	digits := Tenant{ID: "7"}
	call, err = understand("GET", "/api/v2/select?c=7.1.1.1/1.1.1/1.1.2", "", digits)
	if err != nil || call.At != (phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 2}) {
		t.Errorf("%v, %v", call, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, s := range []struct {
		method, target, body string
		status               int
		code                 string
	}{
		{"GET", "/", "", 404, "not_found"},
		{"GET", "/api/v2/", "", 404, "not_found"},
		{"GET", "/api/v2/toc/" + somewhere, "", 404, "not_found"},
		{"GET", "/bob/api/v2/select", "", 403, "forbidden"},
		{"GET", "/Bob/api/v2/select", "", 404, "not_found"},
		{"GET", "/bob/nothing", "", 404, "not_found"},
		{"GET", "/api/v2/select?c=bob." + somewhere, "", 403, "forbidden"},
		{"GET", "/api/v2/select?c=" + somewhere + "?p=other", "", 400, "bad_coordinate"},
		{"GET", "/api/v2/select?p=n;c=" + somewhere, "", 403, "forbidden"},
		{"GET", "/api/v2/select?p=n&p=n", "", 400, "bad_request"},
		{"GET", "/api/v2/select?c=" + somewhere + "&library=1&shelf=1&series=1&collection=1&volume=1&book=1&chapter=1&section=1&scroll=1", "", 400, "bad_request"},
		{"POST", "/api/v2/insert", `{"coordinate":"1..2","content":"y"}`, 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=1-1-1/1-1-1/1-1-1", "", 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=1.1.1/1.1.1/*", "", 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=2.3.5/", "", 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=bob.2026.2.13/1.1.1/1.1.1", "", 403, "forbidden"},
		{"GET", "/api/v2/select?c=1." + strings.Repeat("1", 512), "", 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=2026.2.13&coord=2025.2.13", "", 400, "bad_request"},
		{"GET", "/api/v2/select?library=1&shelf=1&series=1&collection=1&volume=1&book=1&chapter=1&section=1&scroll=x", "", 400, "bad_coordinate"},
		{"POST", "/api/v2/insert", `{"coordinate":"a\u0017b","content":"y"}`, 400, "bad_coordinate"},
		{"GET", "/api/v2/select?c=a" + strings.Repeat("b", 512), "", 400, "bad_coordinate"},
		{"GET", "/api/v2/update?c=name&s=x&p=" + strings.Repeat("n", 236), "", 400, "bad_phext"},
		{"GET", "/api/v2/update?p=notes.names&c=" + somewhere + "&s=x", "", 403, "forbidden"},
		{"GET", "/api/v2/select?c=name&coord=other", "", 400, "bad_request"},
		{"GET", "/api/v2/select?c=name&library=1&shelf=1&series=1&collection=1&volume=1&book=1&chapter=1&section=1&scroll=1", "", 400, "bad_request"},
		{"GET", "/api/v2/select?p=notes.names&c=" + somewhere, "", 200, ""},
		{"POST", "/api/v2/insert", `{"coordinate":"` + somewhere + `","content":5}`, 200, ""},
		{"POST", "/api/v2/insert", `{"coordinate":"` + somewhere + `","content":{}}`, 400, "bad_request"},
		{"POST", "/api/v2/insert", `{"c":"` + somewhere + `","c":"1.1.1/1.1.1/1.1.1","s":"x"}`, 400, "bad_request"},
		{"POST", "/api/v2/insert?p=a", `p=b&content=x`, 400, "bad_request"},
		{"POST", "/api/v2/delta", "bob." + somewhere + ": 0", 403, "forbidden"},
		{"POST", "/api/v2/delta", "-1: 0", 400, "bad_coordinate"},
		{"POST", "/api/v2/where?algo=sha1", "x", 400, "bad_request"},
		{"POST", "/api/v2/where?limit=-1", "x", 400, "bad_request"},
		{"POST", "/api/v2/update?p=n", `{"coordinate":"` + somewhere + `","action":"set"}`, 400, "bad_request"},
		{"POST", "/api/v2/update?p=n", `{"coordinate":"a-name"}`, 400, "bad_request"},
		{"POST", "/api/v2/update?p=n", `{"coordinate":"` + somewhere + `","text":"x","value":"y"}`, 400, "bad_request"},
		{"POST", "/api/v2/update?p=n", `{"coordinate":"` + somewhere + `","s":"x"` + strings.Repeat(`,"f":0`, maxFields) + `}`, 400, "bad_request"},
		{"POST", "/api/v2/update", "p=n&c=" + somewhere, 400, "bad_request"},
		{"POST", "/api/v2/update", "action=set&c=" + somewhere, 400, "bad_request"},
		{"GET", "/api/v2/update?p=n&c=" + somewhere, "", 411, "length_required"},
		{"GET", "/api/v2/insert?p=n&c=" + somewhere, "", 411, "length_required"},
		{"DELETE", "/api/v2/delete?p=n", `{"c":"` + somewhere + `"}`, 400, "bad_request"},
		{"POST", "/api/v2/delete?p=n", "c=" + somewhere, 400, "bad_request"},
		{"DELETE", "/api/v2/delete?p=n&c=" + somewhere, "ignored", 200, ""},
		{"TRACE", "/api/v2/select", "", 405, "method_not_allowed"},
	} {
		_, err := understand(s.method, s.target, s.body, will)
		var e *apierror.Error
		if s.status == 200 {
			if err != nil {
				t.Errorf("%s %s: %v", s.method, s.target, err)
			}
			continue
		}
		if !errors.As(err, &e) || e.Status != s.status || e.Code != s.code {
			t.Errorf("%s %s %q: %v, want %d %s", s.method, s.target, s.body, err, s.status, s.code)
		}
	}
}

// TestLongestName takes the longest names of a phext. The writer must be able to
// rename the files of such a phext, and a directory has 255 bytes for a name.
func TestLongestName(t *testing.T) {
	shared := Tenant{ID: "will", SharedDataDir: true} // its prefix is part of the name
	for _, test := range []struct {
		name       string
		coordinate string
		who        Tenant
		most       int
	}{
		{"by number", somewhere, will, 240},
		{"by name", "user.name", will, 234},
		{"by number, with a prefix", somewhere, shared, 235},
		{"by name, with a prefix", "user.name", shared, 229},
	} {
		t.Run(test.name, func(t *testing.T) {
			update := func(length int) (*Call, error) {
				return understand("POST", "/api/v2/update?c="+test.coordinate+"&p="+strings.Repeat("n", length), "text", test.who)
			}
			var e *apierror.Error
			if _, err := update(test.most + 1); !errors.As(err, &e) || e.Code != "bad_phext" {
				t.Errorf("a name that is too long: %v", err)
			}
			call, err := update(test.most)
			if err != nil {
				t.Fatal(err)
			}
			files := []string{call.FileName()}
			if call.Name != "" {
				files = append(files, call.NamesFileName())
			}
			for _, file := range files {
				if aside := "." + file + ".before"; len(aside) > 255 {
					t.Errorf("%s has %d bytes", aside, len(aside))
				}
			}
		})
	}
}

// TestAPhextHasNoNameOfTheServices own files.
func TestAPhextHasNoNameOfTheServices(t *testing.T) {
	shared := Tenant{ID: "will", SharedDataDir: true}
	for _, target := range []string{"/api/v2/update?p=.sqgate-x", "/api/v2/insert?p=.sqgate-"} {
		var e *apierror.Error
		if _, err := understand("POST", target, "text", will); !errors.As(err, &e) || e.Code != "bad_phext" {
			t.Errorf("%s: %v", target, err)
		}
	}
	if _, err := understand("POST", "/api/v2/update?p=sqgate-x", "text", shared); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for target, want := range map[string]string{
		"/api/v2/select?c=my-assistant.1.1/user.name/1.1.1":     "my-assistant.1.1/user.name/1.1.1",
		"/api/v2/select?c=my-assistant.1.1%2Fuser.name%2F1.1.1": "my-assistant.1.1/user.name/1.1.1",
		"/api/v2/select?coord=my-assistant.1.1;user.name;1.1.1": "my-assistant.1.1/user.name/1.1.1",
		"/api/v2/select/my-assistant.1.1/user.name/1.1.1":       "my-assistant.1.1/user.name/1.1.1",
		"/api/v2/select?c=a%3Bb&coordinate=a/b":                 "a/b",
		"/api/v2/select?c=%C3%A9":                               "é",
		"/api/v2/select?c=will.1.1.1/1.1.1/1.1.x":               "will.1.1.1/1.1.1/1.1.x",
		"/api/v2/select?c=will.1.1.1/1.1.1/1.1.1":               "",
		"/api/v2/select?c=2026.2.13/1.1.1/1.1.1":                "2026.2.13/1.1.1/1.1.1",
		"/api/v2/select?c=2026.02.013;1.1.1.1.1.1":              "2026.2.13/1.1.1/1.1.1",
		"/api/v2/select?c=will.2026.2.13/1.1.1/1.1.1":           "2026.2.13/1.1.1/1.1.1",
		"/api/v2/select/1.1.1/1.1.1/0.1.1":                      "1.1.1/1.1.1/0.1.1",
		"/api/v2/select?c=000.1.1/1.1.1/1.1.1000":               "0.1.1/1.1.1/1.1.1000",
		"/api/v2/select?c=2026.2.13":                            "2026.2.1/1.1.1/1.1.13",
		"/api/v2/select?c=2026.2.13&coord=2026.02.1/1/1.13":     "2026.2.1/1.1.1/1.1.13",
		"/api/v2/select?c=4294967297.1.1/1.1.1/1.1.1":           "4294967297.1.1/1.1.1/1.1.1",
		"/api/v2/select?library=2026&shelf=2&series=13&collection=1&volume=1&book=1&chapter=1&section=1&scroll=1": "2026.2.13/1.1.1/1.1.1",
	} {
		call, err := understand("GET", target, "", will)
		if err != nil || call.Name != want {
			t.Errorf("%s: %+v, %v; want the name %q", target, call, err, want)
		}
	}
	call, err := understand("POST", "/api/v2/delta?p=n", "user.name: 00\n1.1.1/1.1.1/1.1.1: 01\n", will)
	if err != nil || len(call.Manifest) != 2 || call.Manifest[0].Name != "user.name" || call.Manifest[1].Name != "" {
		t.Errorf("the manifest: %+v, %v", call, err)
	}
}

// TestSpreadManifest has a short manifest whose answer would be gigabytes.
func TestSpreadManifest(t *testing.T) {
	var lines strings.Builder
	for i := range 12000 {
		c := phext.Coordinate{uint32(i/900) + 1, uint32(i%900) + 1, 999, 999, 999, 999, 999, 999, 999}
		lines.WriteString(c.String() + ": 0\n")
	}
	_, err := understand("POST", "/api/v2/delta?p=n", lines.String(), will)
	var e *apierror.Error
	if !errors.As(err, &e) || e.Status != 413 {
		t.Errorf("%v", err)
	}
}

func TestAnswers(t *testing.T) {
	load, err := understand("GET", "/api/v2/load?p=n", "", will)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(load.Answer([]byte("Loaded /var/lib/sq/tenants/will/n.phext"))); got != "Loaded n" {
		t.Errorf("load: %q", got)
	}
}

// TestParsedMemory counts bodies that parameters are read from, and no others.
func TestParsedMemory(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	json, form := `{"c":"1.1.1/1.1.1/1.1.2","content":"`+large+`"}`, "c=1.1.1/1.1.1/1.1.2&content="+large
	for _, test := range []struct {
		target, body string
		copies       int64
	}{
		{"update", json, copiesOfJSON}, {"insert", "  " + json, copiesOfJSON}, {"update", form, copiesOfForm}, {"write", json, copiesOfJSON},
		{"update", large, 0}, {"update?c=1.1.1/1.1.1/1.1.1", json, 0}, {"update?library=2", form, 0}, {"update/1.1.1", json, 0}, {"write/1.1.1", json, 0},
		{"update", `{"c":"1.1.1","content":"small"}`, 0}, {"where", json, 0},
		{"update", "[" + json + "]", copiesOfJSON}, {"update", "// x\n [" + json + "]", copiesOfJSON}, {"update", strings.Repeat(" ", 600) + form, copiesOfForm},
		{"update", strings.Repeat("#\n", 1<<20) + json, 0}, {"update", "[" + large + "]", 0},
	} {
		path, query, _ := strings.Cut("/api/v2/"+test.target, "?")
		head, err := ParseHead("POST", path, query, Tenant{ID: "will"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := head.ParsedMemory([]byte(test.body), query), test.copies*int64(len(test.body)); got != want {
			t.Errorf("%s of %.20q: %d, want %d", test.target, test.body, got, want)
		}
	}
}

// TestMisspeltCoordinates are refused where the write would be one of the origin, and
// ignored elsewhere, as all unknown parameters are.
func TestMisspeltCoordinates(t *testing.T) {
	for query, refused := range map[string]bool{
		"coordinates=1.1.1/1.1.1/1.1.2": true, "p=n&coordinat=1.1.1%2F1.1.1%2F1.1.2&s=x": true, "cord=2.3.5": true, "C=1.1.1/1.1.1/1.1.2": true,
		"coordiante=notes.to.day": true, "co-ordinate=bob.1.1.1/1.1.1/1.1.2": true, "Coordinate=2026.2.13/1.1.1/1.1.1": true,
		"coordinates=1.1.1/1.1.1/1.1.2&c=2.3.5": false, "coordinates=north": false, "coordinates=1.5": false, "chord=Am7": false, "chord=C/E": false, "C=yes": false, "coordinates": false,
		"word=1.2.3": false, "b=1.1.1/1.1.1/1.1.2": false, "version=1.2.3": false, "coordinates=a+b.c.d": false, "_=1700000000.1.2": false,
	} {
		for _, call := range []string{"POST update", "GET insert", "DELETE delete", "GET select"} {
			method, op, _ := strings.Cut(call, " ")
			if op != "delete" && !strings.Contains(query, "s=x") {
				query += "&s=x"
			}
			head, err := ParseHead(method, "/api/v2/"+op, query, Tenant{ID: "will"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = head.Call(nil)
			if wrong := refused && op != "select"; (err != nil) != wrong || wrong && apierror.From(err).Kind != apierror.BadRequest {
				t.Errorf("%s?%s: %v", call, query, err)
			}
		}
	}
}

// TestLookingIsBounded in what a request can make of its URL and its body.
func TestLookingIsBounded(t *testing.T) {
	none, long := apierror.Kind{}, strings.Repeat("1.", longestCoordinate)+"1"
	for name, test := range map[string]struct {
		method, target, body string
		kind                 apierror.Kind // of the error
	}{
		"a misspelt parameter":      {"POST", "/update?" + strings.Repeat("x=1&", mostLookedAt-1) + "coordinates=1.1.1/1.1.1/1.1.2", "text", apierror.BadRequest},
		"one behind many":           {"POST", "/update?" + strings.Repeat("x=1&", mostLookedAt) + "coordinates=1.1.1/1.1.1/1.1.2", "text", none},
		"a long coordinate":         {"GET", "/select?c=" + long, "", apierror.BadCoordinate},
		"a long one in the path":    {"GET", "/read/" + long, "", apierror.BadCoordinate},
		"a long prefix":             {"GET", "/list/" + long, "", apierror.BadCoordinate},
		"a long time":               {"GET", "/history?after=" + strings.Repeat("9", 100), "", apierror.BadRequest},
		"zeros that take no longer": {"GET", "/select?c=" + strings.Repeat("0", 500) + "1.1.1", "", none},
	} {
		t.Run(name, func(t *testing.T) {
			path, query, _ := strings.Cut(test.target, "?")
			head, err := ParseHead(test.method, path, query, Tenant{ID: "will"})
			if err == nil {
				_, err = head.Call([]byte(test.body))
			}
			if e := apierror.From(err); (err != nil) != (test.kind != none) || err != nil && e.Kind != test.kind {
				t.Errorf("%v, want %v", err, test.kind)
			}
		})
	}
}

// TestATextWithManyAmpersands looks like a form. Each of them must cost next to nothing.
func TestATextWithManyAmpersands(t *testing.T) {
	for part, problem := range map[string]string{"&": "a part without '='", "&zz=": `the field "zz"`} {
		body := []byte("s=1" + strings.Repeat(part, 10_000))
		var b *bodyFields
		allocations := testing.AllocsPerRun(1, func() { b, _ = formBody(body, nil) })
		if allocations > 100 || !strings.HasPrefix(b.problem, problem) {
			t.Errorf("%q: %v allocations, %s", part, allocations, b.problem)
		}
	}
}

// TestBodiesWithACoordinate must never be a text for the origin. Other bodies that
// look much the same are one.
func TestBodiesWithACoordinate(t *testing.T) {
	for body, refused := range map[string]bool{
		`{"coordinate":"1.1.1/1.1.1/1.1.2","content":"x",}`: true, `{"content":"say "hi"", "coordinate" : "1.1.1/1.1.1/1.1.2"}`: true,
		`{"coord":"notes.today","content":"x" // of today` + "\n}": true, "\ufeff" + `{"c":"1.1.1/1.1.1/1.1.2","content":"x"`: true,
		`{"C":"1.1.1/1.1.1/1.1.2","content":"x"}`: true, `{"c":"1.1.1/1.1.1/1.1.2","Content":"x"}`: true, `{"Coordinate":"1.1.1/1.1.1/1.1.2"}`: true,
		`{"coordinate":"1.2","note":"x"}`: true, "c=1.1.1/1.1.1/1.1.2&content=x&note=y": true, "c=1.1.1/1.1.1/1.1.2&content=Tom & Jerry": true,
		"content=a&b=c&c=1.1.1/1.1.1/1.1.2": true, "c=1.1.1/1.1.1/1.1.2&content=x" + strings.Repeat("&s=", maxFields): true,
		"--b\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n1.1.1/1.1.1/1.1.2\r\n--b--\r\n": true,

		"\r\n--b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=c\r\n\r\nx\r\n--b--\r\n": true,
		`{"s":"x"` + strings.Repeat(`,"f":0`, maxFields) + `,"c":"1.1.1/1.1.1/1.1.2"}`:                        true,
		`{"c":"will.1.1.1/1.1.1/1.1.2","content_":"x"}`:                                                       true,
		`{"c":"bob.1.1.1/1.1.1/1.1.2","content_":"x"}`:                                                        true,
		`{"coordinate":"2.2.2/2.2.2/2..2"}`:                                                                   true, `{"coordinate":2.3}`: true, `{"coordinate":[1,1,1,1,1,1,1,1,2],"content_":"x"}`: true,
		`{"c":"1.1.1\/1.1.1\/1.1.2","content":"x",}`: true, `{'coordinate': '1.1.1/1.1.1/1.1.2', 'content': 'x'}`: true,
		`{coordinate: "1.1.1/1.1.1/1.1.2", content: "x"}`: true, strings.Repeat("x", 40) + "=1&c=1.1.1/1.1.1/1.1.2&content=x": true,
		"\nc=1.1.1/1.1.1/1.1.2&content=x&y=z": true, "C=1.1.1/1.1.1/1.1.2&content=x": true, "c =1.1.1/1.1.1/1.1.2&content=x": true, "%63=1.1.1/1.1.1/1.1.2&content=x": true,
		"note=y&c=bob.1.1.1/1.1.1/1.1.2&content=x": true,

		`{ not JSON, "c" is a letter: "x" }`: false, `{"a": 1.5,}`: false, `{"C":"a major chord","note":"x"}`: false, "{": false, "{ \"c\": ": false,
		"q=Tom & Jerry": false, "a=1&b=2 and more": false, "x=y and &a=b 7/# and more": false, "-- a comment\r\nContent": false, `{"Content":"x"}`: false,
		`{"p":"x","library":2,"shelf":1,"series":1,"collection":1,"volume":1,"book":1,"chapter":1,"section":1,"scroll":1}`: true,
		`{"phext":"x","library":2,"shelf":3}`: true, `{"library":"2"}`: true, "library=2&shelf=3": true, "c=1.1.1/1.1.1/1.1.2": true,
		`{"coordinates":"1.1.1/1.1.1/1.1.2","content":"x"}`: true, `{"Coordinates":"notes.to.day"}`: true, `{"coordinates":[1.5,2.5]}`: false, `{"coordinates":"1.2"}`: false,
		"coordinates=1.1.1/1.1.1/1.1.2&content=x": true, "cord=2.3.5&content=x": true, "coordinates=yes&content=x": false, "chord=C/E&x=y": false,
		`[{"coordinate":"1.1.1/1.1.1/1.1.2","content":"x"}]`: true, `[{"c":"1.1.1\/1.1.1\/1.1.2","s":"x"}, 2]`: true, `{"scrolls":[{"coord":"a.b/c.d","text":"x"}]}`: true,
		"\ufeff" + `{"scroll":{"coordinate":"2.3.5","text":"x"}}`: true, `[1, {"versions":{"a":"1.2.3","c":"2026/2/13"}}]`: false, `{"deep":{"coordinate":"north"}}`: false,
		`[{"note":"say \"coordinate\":\"1.1.1/1.1.1/1.1.2\""}]`: false, `[{"coordinate":"1.1.1/1.1.1/1.1.2"},]`: false, `[ ] "coordinate":"1.1.1/1.1.1/1.1.2"`: false,
		"// a comment\n" + `{"coordinate":"1.1.1/1.1.1/1.1.2","content":"x"}`: true, "/* a */ # b\n" + `[{"coordinate":"1.1.1/1.1.1/1.1.2"}]`: true,
		"# Title\n" + `{"title":"x"}`: false, "# Title\n" + `{"coordinate":"1.1.1/1.1.1/1.1.2"}` + "\nand more": false, "// only": false, "/*": false, "#": false,
		`{"library":"Alexandria"}`: false, "book=3": false, "chapter=one&section=two": false, `{"a":1.5}`: false,
	} {
		head, err := ParseHead("POST", "/api/v2/update", "", Tenant{ID: "will"})
		if err != nil {
			t.Fatal(err)
		}
		call, err := head.Call([]byte(body))
		if (err != nil) != refused || err == nil && string(call.Scroll) != body {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestATextKeepsLittleElseInMemory: a scroll stays in memory after its request.
func TestATextKeepsLittleElseInMemory(t *testing.T) {
	const size = 8 << 20
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, test := range map[string]struct{ op, query, before, piece, after string }{
		"blanks before a form": {"update", "p=n", "", " ", "c=1.1.1&s=" + strings.Repeat("x", size/8)},
		"a form with escapes":  {"update", "p=n", "c=1.1.1&s=", "%41", ""},
		"JSON with escapes":    {"update", "p=n", `{"c":"1.1.1","s":"`, `\u0041`, `"}`},
		"a batch with escapes": {"batch", "p=n", `{"operations":[{"op":"update","c":"1.1.1","s":"`, `\u0041`, `"}]}`},
	} {
		head, err := ParseHead("POST", "/"+test.op, test.query, Tenant{ID: "will"})
		if err != nil {
			t.Fatal(err)
		}
		before := heap()
		call, err := head.Call([]byte(test.before + strings.Repeat(test.piece, size/len(test.piece)) + test.after))
		if err != nil {
			t.Fatal(name, err)
		}
		text := call.Scroll
		if call.Batch != nil {
			text = call.Batch[0].Scroll
		}
		if taken := heap() - before; len(text) < size/8 || taken > int64(len(text))*3/2 {
			t.Errorf("%s: a text of %d bytes keeps %d in memory", name, len(text), taken)
		}
		runtime.KeepAlive(text)
	}
}
