package rewrite

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// FuzzIsolation checks what keeps tenants apart: whatever bytes a client sends, SQ
// gets exactly one p and one c, and reads both as the tenant's own.
func FuzzIsolation(f *testing.F) {
	f.Add("GET", "/api/v2/select", "p=n&c=1.1.1/1.1.1/1.1.1", "")
	f.Add("POST", "/api/v2/update", "p=a%26p%3Db&c=will.1.1.1/1.1.1/1.1.1", "x\r\n\r\nGET /api/v2/delete?p=n HTTP/1.1")
	f.Add("POST", "/api/v2/delta", "p=%0d%0aAuthorization:x", "will.1.1.1/1.1.1/1.1.2: &p=other\n")
	f.Add("POST", "/api/v2/insert", "", `{"c":"1.1.1/1.1.1/1.1.1","s":"x","p":"a HTTP/1.1"}`)
	f.Add("DELETE", "/bob/delete/1.1.1/1.1.1/1.1.1", "p=bob.n", "")
	f.Add("POST", "/api/v2/update", "p=n&c=1.1.1/1.1.1/1.1.1", "")
	f.Add("GET", "/api/v2/insert", "p=n&c=1.1.1/1.1.1/1.1.1&s=", "")
	f.Add("POST", "/api/v2/query", "p=n&from=will.1.1.1/1.1.1/1.1.1&to=2026.1.1/1.1.1/1.1.1", "a.name,bob.1.1.1/1.1.1/1.1.1")
	f.Add("GET", "/api/v2/select", "p=n&c=2026.2.13", "")
	f.Add("GET", "/api/v2/update/2.3.5", "p=n&s=x", "")
	f.Add("GET", "/t/will/api/v2/read/2026.2.13", "p=n", "")
	f.Add("PUT", "//will//api/v2//write/bob.1.1.1/1.1.1/1.1.1", "", "x")
	f.Add("POST", "/write", "p=bob.n", `{"coordinate":"a.name","content":"x"}`)
	f.Add("DELETE", "/bob/api/v2/delete/1.1.1", "", "")
	f.Add("GET", "/api/v2/list/bob.1.1", "p=*&page=2", "")
	f.Add("GET", "/api/v2/search", "p=*&q=%22a+b%22&namespace=bob", "")
	f.Add("GET", "/t/will/list", "phext=*&p=*", "")
	f.Add("HEAD", "/will/scroll/1.1.1", "p=site&phext=site&c=1.1.1", "")
	f.Add("POST", "/where", "limit=1&algo=checksum", "x")
	f.Add("GET", "/will/api/v2/usage", "p=*", "")
	f.Add("GET", "/t/will/history", "p=bob.n&c=will.1.1.1/1.1.1/1.1.1&after=1h&limit=9", "")
	f.Add("HEAD", "/api/v2/history", "p=*&after=2026-01-31T00:00:00+01:00", "")
	f.Add("POST", "/api/v2/restore", "", `{"phext":"bob.n","at":"10m","c":"a.name"}`)
	f.Add("POST", "/will/restore", "", `{"p":"","at":"2026-01-31","to":"..","dry_run":true}`)
	f.Add("POST", "/will/api/v2/batch", "p=bob.n", `{"operations":[{"op":"update","c":"bob.1.1.1/1.1.1/1.1.1","s":"x"},{"op":"select","c":"7.1.1.1/1.1.1/1.1.1"},{"op":"delete","c":"a.name"}]}`)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		for _, who := range []Tenant{{ID: "will"}, {ID: "customer-001", SharedDataDir: true}, {ID: "7", AllowDelimiters: true}} {
			head, err := ParseHead(method, path, query, who)
			if err != nil {
				continue
			}
			checkPublic(t, head, method, path, query)
			call, err := head.Call([]byte(body))
			if err != nil {
				continue
			}
			calls := []*Call{call}
			if call.Batch != nil {
				calls = nil
			}
			for _, op := range call.Batch {
				if calls = append(calls, op.Call); op.FilePath("/data") != call.FilePath("/data") || op.Phext != call.Phext {
					t.Fatalf("an operation of a batch on %q is on %q", call.FileName(), op.FileName())
				}
			}
			for _, one := range calls {
				checkOutgoing(t, one, who)
				checkFiles(t, one, who)
			}
		}
	})
}

// checkPublic compares what is known of a read before it is parsed, by which it is let in
// without a key, with the call.
func checkPublic(t *testing.T, head *Head, method, path, query string) {
	t.Helper()
	op, instance := Find(method, path)
	if op != head.Op || instance != head.route.instance {
		t.Fatalf("%s %q is %s of %q, and found as %s of %q", method, path, head.Op, head.route.instance, op, instance)
	}
	name, everywhere, isRead := ReadPhext(method, op, query)
	call, err := head.Call(nil)
	if !isRead || err != nil {
		return
	}
	if call.Op.Mutates() || call.Phext != name || everywhere != (call.Listing != nil && call.Listing.Everywhere) {
		t.Fatalf("%s %q?%q reads %q (%v), and is let in for %q (%v)", method, path, query, call.Phext, call.Op, name, everywhere)
	}
}

// checkFiles looks at the files that a read is answered from. List and Search read
// those of all phexts that are the tenant's, whatever lies beside them.
func checkFiles(t *testing.T, call *Call, who Tenant) {
	t.Helper()
	calls := []*Call{call}
	if call.History != nil && call.History.To != nil {
		calls = append(calls, call.History.To)
		if name := call.History.To.Phext; strings.Contains(name, "..") || strings.HasSuffix(name, NamesSuffix) || !call.Op.Mutates() {
			t.Fatalf("%s %q becomes %q", call.Op, call.Phext, name)
		}
	}
	if call.Listing != nil {
		for _, file := range []string{"bob.n.phext", who.ID + ".n.phext", who.ID + "-x.n.phext", ".phext", who.ID + ".phext", "..phext"} {
			if name, ok := call.PhextOf(file); ok {
				calls = append(calls, call.Elsewhere(name))
			}
		}
	}
	for _, c := range calls {
		for _, file := range []string{c.FileName(), c.NamesFileName()} {
			if who.SharedDataDir && !strings.HasPrefix(file, who.ID+".") || strings.ContainsAny(file, "/\x00") {
				t.Fatalf("%s %q is answered from %q", call.Op, call.Phext, file)
			}
		}
	}
}

// checkOutgoing reads the request line for SQ as SQ does.
func checkOutgoing(t *testing.T, call *Call, who Tenant) {
	t.Helper()
	out := call.Outgoing()
	line := out.Method + " " + out.Path + "?" + out.Query
	target, ok := line, !strings.ContainsAny(line, "\r\n")
	if !ok || strings.Count(target, " ") != 1 || strings.Count(target, "?") != 1 {
		t.Fatalf("request line %q", line)
	}
	_, query, _ := strings.Cut(target, "?")
	given := map[string][]string{}
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		given[name] = append(given[name], unescape(value, nil))
	}
	for name, values := range given {
		if len(values) != 1 || !slices.Contains([]string{"p", "c", "algo", "limit"}, name) {
			t.Fatalf("parameter %q: %q", name, values)
		}
	}
	checkPhext(t, given["p"][0], call, who)
	checkCoordinate(t, given["c"][0], call.At, who)
	checkBody(t, out, call, who)
}

func checkPhext(t *testing.T, p string, call *Call, who Tenant) {
	t.Helper()
	want := call.Phext
	if who.SharedDataDir {
		want = who.ID + "." + want
	}
	if who.SharedDataDir && call.Phext == "" {
		want = who.ID + "."
	}
	if p != want || strings.Contains(p, "..") || strings.ContainsAny(p, "/\\\x00\r\n") || len(p)+len(".phext") > 255 {
		t.Fatalf("phext %q goes out as %q", call.Phext, p)
	}
}

// checkCoordinate reads c as SQ does, which skips everything before the first
// digit.
func checkCoordinate(t *testing.T, c string, want phext.Coordinate, who Tenant) {
	t.Helper()
	prefix, numbers, _ := strings.Cut(c, ".")
	if strings.ContainsAny(prefix, "0123456789./;") || len(prefix) != len(who.ID) {
		t.Fatalf("coordinate %q: its prefix has digits", c)
	}
	at, err := phext.ParseCoordinate(numbers)
	if err != nil || at != want || !at.Valid() {
		t.Fatalf("coordinate %q is read as %v, want %v (%v)", c, at, want, err)
	}
}

func checkBody(t *testing.T, out Outgoing, call *Call, who Tenant) {
	t.Helper()
	body := out.Body
	if out.Method != http.MethodPost && len(body) > 0 {
		t.Fatalf("a %s with a body: %q", out.Method, body)
	}
	if call.Op == Delta {
		// A name without a coordinate is not sent: SQ would take it for the origin.
		numbered := slices.DeleteFunc(slices.Clone(call.Manifest), func(l ManifestLine) bool { return l.Name != "" })
		lines := slices.Collect(strings.Lines(string(body)))
		if len(lines) != len(numbered) {
			t.Fatalf("%d lines of %d go out: %q", len(lines), len(numbered), body)
		}
		for i, line := range lines {
			at, _, _ := strings.Cut(line, ": ")
			checkCoordinate(t, at, numbered[i].At, who)
		}
		return
	}
	if out.Method == "POST" && !bytes.Equal(body, call.Scroll) {
		t.Fatalf("scroll %q goes out as %q", call.Scroll, body)
	}
}
