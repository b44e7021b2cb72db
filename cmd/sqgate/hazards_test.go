package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBadInputIsRefusedAndChangesNothing sends the requests that break, stall,
// bloat or mislead legacy SQ (LEGACY.md). Each is refused with its own code,
// nothing is written, and the same child answers afterwards.
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "canary", 200)
		pids := childrenOf(g.dataDir("will"))
		before := snapshot(t, g.dataDir("will"), ".")
		for _, c := range []struct {
			name, method, target, body string
			status                     int
			code                       string
		}{
			{"prefix route", "GET", "/api/v2/deleteme?p=n&c=" + origin, "", 404, "not_found"},
			{"prefix route", "GET", "/api/v2/selectfoo?p=n", "", 404, "not_found"},
			{"upper case", "GET", "/api/v2/SELECT?p=n", "", 404, "not_found"},
			{"old interface", "GET", "/api/v1/select?p=n", "", 404, "not_found"},
			{"shutdown", "GET", "/api/v2/shutdown", "", 404, "not_found"},
			{"NUL in name", "GET", "/api/v2/select?p=a%00b", "", 400, "bad_phext"},
			{"newline in name", "GET", "/api/v2/select?p=a%0ab", "", 400, "bad_phext"},
			{"300 byte name", "GET", "/api/v2/select?p=" + strings.Repeat("p", 300), "", 400, "bad_phext"},
			{"241 byte name", "POST", at("update", strings.Repeat("p", 241), origin), "x", 400, "bad_phext"},
			{"slash in name", "GET", "/api/v2/get?p=a%2Fb", "", 403, "forbidden"},
			{"backslash in name", "GET", "/api/v2/get?p=a%5Cb", "", 403, "forbidden"},
			{"JSON with a comma too many", "POST", "/api/v2/update?p=n", `{"coordinate":"` + origin + `","content":"x",}`, 400, "bad_request"},
			{"delete with the coordinate in its body", "DELETE", "/api/v2/delete?p=n", `{"c":"1.1.1/1.1.1/1.1.2"}`, 400, "bad_request"},
			{"a form that was not encoded", "POST", "/api/v2/update?p=n", "c=" + origin + "&content=Tom & Jerry", 400, "bad_request"},
			{"dots in name", "GET", "/api/v2/get?p=..", "", 403, "forbidden"},
			{"name not UTF-8", "GET", "/api/v2/get?p=%ff", "", 400, "not_utf8"},
			{"ten numbers and letters", "POST", at("update", "n", "1.1.1/1.1.1/1.1.1.1.1"), "x", 400, "bad_coordinate"},
			{"empty coordinate", "POST", at("update", "n", ""), "x", 400, "bad_coordinate"},
			{"an empty number", "POST", at("update", "n", "1.1.1//1.1.1/1.1.1"), "x", 400, "bad_coordinate"},
			{"an end without a number", "POST", at("update", "n", "1.1.1/"), "x", 400, "bad_coordinate"},
			{"negative", "POST", at("update", "n", "-1.1.1/1.1.1/1.1.1"), "x", 400, "bad_coordinate"},
			{"twice", "GET", at("update", "n", origin) + "&c=1.1.1/1.1.1/1.1.2&s=x", "", 400, "bad_request"},
			{"aliased", "GET", at("update", "n", origin) + "&coord=1.1.1/1.1.1/1.1.2&s=x", "", 400, "bad_request"},
			{"phext aliased", "GET", at("update", "n", origin) + "&phext=m&s=x", "", 400, "bad_request"},
			{"path and query differ", "POST", "/api/v2/update/1.1.1/1.1.1/1.1.3?p=n&c=" + origin, "x", 400, "bad_request"},
			{"a dimension missing", "GET", "/api/v2/update?p=n&library=1&s=x", "", 400, "bad_coordinate"},
			{"delimiter in scroll", "POST", at("update", "n", origin), "one\x17two", 400, "scroll_has_delimiters"},
			{"delimiter in query", "GET", at("insert", "n", origin) + "&s=%01", "", 400, "scroll_has_delimiters"},
			{"scroll not UTF-8", "POST", at("update", "n", origin), "caf\xe9", 400, "not_utf8"},
			{"scroll in query not UTF-8", "GET", at("update", "n", origin) + "&s=%E9", "", 400, "not_utf8"},
			{"HEAD of a mutation", "HEAD", at("update", "n", origin) + "&s=x", "", 405, ""},
			{"PATCH", "PATCH", at("update", "n", origin), "x", 405, "method_not_allowed"},
			{"POST select", "POST", at("select", "n", origin), "x", 405, "method_not_allowed"},
			{"GET where", "GET", "/api/v2/where?s=x", "", 405, "method_not_allowed"},
			{"foreign prefix", "GET", at("select", "n", "nobody."+origin), "", 403, "forbidden"},
		} {
			r := g.must("will", c.method, c.target, c.body, c.status)
			var e struct{ Error, Code string }
			if c.method != "HEAD" && (json.Unmarshal([]byte(r.body), &e) != nil || e.Code != c.code || e.Error == "") {
				t.Errorf("%s: answered %q, want code %s", c.name, r.body, c.code)
			}
			if r.status == 405 && r.header.Get("Allow") == "" {
				t.Errorf("%s: no Allow header", c.name)
			}
		}
		if after := snapshot(t, g.dataDir("will"), "."); after != before {
			t.Errorf("something was written:\n%s\nwas\n%s", after, before)
		}
		if now := childrenOf(g.dataDir("will")); fmt.Sprint(now) != fmt.Sprint(pids) {
			t.Errorf("the child is %v, was %v", now, pids)
		}
		if got := g.get("will", at("select", "n", origin)); got != "canary" {
			t.Errorf("the canary is %q", got)
		}
	})
}

func TestReadsOfAnUnknownPhextMakeNoFile(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "known", origin), "x", 200)
		for target, want := range map[string]string{
			at("select", "ghost", origin): "",
			"/api/v2/toc?p=ghost":         "* 1.1.1/1.1.1/1.1.1: \n",
			"/api/v2/get?p=ghost":         "",
			"/api/v2/delta?p=ghost":       "",
			"/api/v2/checksum?p=ghost":    "99aa06d3014798d86001c324468d497f",
			"/api/v2/load?p=ghost":        "Loaded ghost",
			"/api/v2/status?p=ghost":      "Hosting: ghost\nConnection ID: 0\nPhext Size: 0\nScrolls: 1",
			"/api/v2/json-export?p=ghost": "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.1\", \"scroll\": \"\" }\n]\n",
			at("delete", "ghost", origin): "Removed 0 bytes",
			"/api/v2/json-export?p=known": "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.1\", \"scroll\": \"x\" }\n]\n",
			"/api/v2/select":              "",
		} {
			if got := g.get("will", target); got != want {
				t.Errorf("%s: %q, want %q", target, got, want)
			}
		}
		g.must("will", "POST", "/api/v2/where", "some text", 200)
		files, err := filepath.Glob(filepath.Join(g.dataDir("will"), "*"))
		hidden, _ := filepath.Glob(filepath.Join(g.dataDir("will"), ".*")) // the pattern is well-formed
		if err != nil || len(files) != 1 || len(hidden) != 0 {
			t.Errorf("%v: the data directory holds %v %v, want known.phext alone", err, files, hidden)
		}
	})
}

func TestTocOnAnyText(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		for i, text := range []string{
			strings.Repeat("a", 31) + "\u00e9zzz", // byte 32 is inside a character, which breaks SQ 0.5.3 for good
			strings.Repeat("\U0001f531", 40), "\ufeffbom", "\n", "\r\n", "a\nb", "\x00", "Ċ", "say \"hi\"\\\t",
		} {
			c := fmt.Sprintf("1.1.1/1.1.1/1.1.%d", i+1)
			g.must("will", "POST", at("update", "n", c), text, 200)
			if toc := g.get("will", "/api/v2/toc?p=n"); !strings.Contains(toc, "* "+c+": ") {
				t.Errorf("toc after %q is %q", text, toc)
			}
			if got := g.get("will", at("select", "n", c)); got != text {
				t.Errorf("select gives %q, want %q", got, text)
			}
		}
		var scrolls []struct{ Coord, Scroll string }
		if err := json.Unmarshal([]byte(g.get("will", "/api/v2/json-export?p=n")), &scrolls); err != nil || len(scrolls) != 9 {
			t.Errorf("json-export: %v, %d scrolls", err, len(scrolls))
		}
	})
}

func TestEveryAnswerIsDressed(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		html := "<script>alert(1)</script>"
		g.must("will", "POST", at("update", "n", origin), html, 200)
		for target, status := range map[string]int{
			at("select", "n", origin): 200, "/api/v2/toc?p=n": 200, "/api/v2/nope": 404, "/api/v2/get?p=n": 200, "/health": 200,
		} {
			r := g.must("will", "GET", target, "", status)
			h := r.header
			if v := h.Values("Access-Control-Allow-Origin"); len(v) != 1 || v[0] != "*" {
				t.Errorf("%s: CORS headers %q", target, v)
			}
			caching := "no-store"
			if h.Get("ETag") != "" {
				caching = "private, no-cache"
			}
			if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != caching || h.Get("X-Request-Id") == "" || h.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s: headers %v", target, h)
			}
			if ct := h.Get("Content-Type"); ct != "text/plain; charset=utf-8" && ct != "application/json" {
				t.Errorf("%s: Content-Type %q", target, ct)
			}
		}
		head := g.must("will", "HEAD", at("select", "n", origin), "", 200)
		if head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(html)) {
			t.Errorf("HEAD: %q, %v", head.body, head.header)
		}
		pre, _ := http.NewRequest("OPTIONS", g.url+at("update", "n", origin), nil) // the URL was used above
		pre.Header.Set("Origin", "https://example.org")
		r, err := g.send(pre)
		if err != nil || r.status != 204 || len(r.header.Values("Access-Control-Allow-Origin")) != 1 ||
			!strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "X-SQ-API-Key") {
			t.Errorf("preflight: %v %d %v", err, r.status, r.header)
		}
	})
}

func TestOldAndOddHTTP(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		auth := "Authorization: Bearer " + g.key("will") + "\r\n"
		for _, c := range []struct{ name, request, status, ends string }{
			{"HTTP/1.0 write", "GET " + at("update", "n", origin) + "&s=value HTTP/1.0\r\n" + auth + "\r\n", "200", "Updated 5 bytes"},
			{"HTTP/1.0 read", "GET /api/v2/select?c=" + origin + "&p=n HTTP/1.0\r\n" + auth + "\r\n", "200", "\r\n\r\nvalue"},
			{"chunked", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.2") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\n6\r\nchunky\r\n2\r\n!!\r\n0\r\n\r\n", "200", "Updated 8 bytes"},
			{"chunks that stop", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.2") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\n6\r\nchu", "400", ""},
			{"chunks without an end", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.2") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\n3\r\nbad\r\n", "400", ""},
			{"short body", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.2") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n" + auth + "\r\nshort", "400", ""},
			{"no length", "POST " + at("update", "n", origin) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + "\r\n", "411", ""},
			{"no length, kept open", "POST " + at("update", "n", origin) + " HTTP/1.1\r\nHost: x\r\n" + auth + "\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "411", ""},
			{"no length over HTTP/1.0", "POST " + at("update", "n", origin) + " HTTP/1.0\r\n" + auth + "\r\n", "411", ""},
			{"chunks over HTTP/1.0", "POST " + at("update", "n", origin) + " HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\n3\r\nbad\r\n0\r\n\r\n", "400", ""},
			{"a POST that a redirect made a GET", "GET " + at("update", "n", origin) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + "\r\n", "411", ""},
			{"a length of nothing", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.5") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n" + auth + "\r\n", "200", "Updated 0 bytes"},
			{"both lengths", "POST " + at("update", "n", "1.1.1/1.1.1/1.1.4") + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\nContent-Length: 30\r\n" + auth + "\r\nabc", "400", ""},
			{"upgrade", "GET " + at("select", "n", origin) + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n" + auth + "\r\n", "200", "value"},
			{"hop by hop", "GET " + at("select", "n", origin) + " HTTP/1.1\r\nHost: x\r\nConnection: close, Authorization\r\nTE: trailers\r\n" + auth + "\r\n", "200", "value"},
			{"second key smuggled", "GET " + at("select", "n", origin) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization-Extra: x\r\n" + auth + "X-Forwarded-For: 1.2.3.4\r\n\r\n", "200", "value"},
		} {
			answer := g.raw(t, c.request)
			if !strings.HasPrefix(answer, "HTTP/1.") || !strings.HasPrefix(answer[8:], " "+c.status) || !strings.HasSuffix(answer, c.ends) {
				t.Errorf("%s: answered %q, want %s ... %q", c.name, answer, c.status, c.ends)
			}
		}
		if got := g.get("will", at("select", "n", "1.1.1/1.1.1/1.1.2")); got != "chunky!!" {
			t.Errorf("the chunked scroll is %q", got)
		}
		if got := g.get("will", at("select", "n", origin)); got != "value" {
			t.Errorf("a request without a text emptied the scroll: %q", got)
		}
		if got := g.get("will", at("select", "n", "1.1.1/1.1.1/1.1.4")); got != "" {
			t.Errorf("an ambiguous length was stored: %q", got)
		}
	})
}

// TestSlowClientsKeepNobodyElseWaiting opens many connections that stop in the
// middle: of a header, of a body, and before reading the answer. Another tenant's
// requests must be answered meanwhile.
func TestSlowClientsKeepNobodyElseWaiting(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "slow", "quick")
		big := strings.Repeat("x", 1<<20)
		g.must("slow", "POST", at("update", "n", origin), big, 200)
		auth := "Authorization: Bearer " + g.key("slow") + "\r\n"
		u, err := url.Parse(g.url)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			text := [...]string{
				"GET /api/v2/select?p=n HTTP/1.1\r\nHost: x\r\nX-Never",
				"POST " + at("update", "n", origin) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n" + auth + "\r\nand then nothing",
				"GET " + at("select", "n", origin) + " HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n",
			}[i%3]
			if _, err := fmt.Fprint(conn, text); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			g.must("quick", "POST", at("update", "n", origin), fmt.Sprint(i), 200)
			if got := g.get("quick", at("select", "n", origin)); got != fmt.Sprint(i) {
				t.Fatalf("read %q after writing %d", got, i)
			}
		}
		// The slow tenant itself can still write.
		g.must("slow", "POST", at("update", "m", origin), "y", 200)
	})
}

// TestABodyThatDoesNotCome ends its connection, whoever answers the request.
func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	host := strings.TrimPrefix(g.url, "http://")
	auth := "Authorization: Bearer " + g.key("will") + "\r\n"
	var all sync.WaitGroup
	for _, start := range []string{
		"OPTIONS /x HTTP/1.1\r\n",
		"OPTIONS /x HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n",
		"POST " + at("update", "n", origin) + " HTTP/1.1\r\n",
		"POST /api/v2/nothing HTTP/1.1\r\n" + auth,
		"GET " + at("select", "n", origin) + " HTTP/1.1\r\n" + auth,
		"GET /health HTTP/1.1\r\n",
		"GET /api/v2/admin/tenants HTTP/1.1\r\n",
		"GET /api/v2/metrics HTTP/1.1\r\n",
	} {
		all.Go(func() {
			conn, err := net.Dial("tcp", host)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(waitTimeout)) // or the read fails
			if _, err := fmt.Fprint(conn, start+"Host: x\r\nContent-Length: 5000\r\n\r\nx"); err != nil {
				t.Error(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(answer), "Connection: close\r\n") {
				t.Errorf("%q: %v, %q", start, err, answer)
			}
		})
	}
	all.Wait()
}

// TestARefusedUploadIsTold sends all of a large body before it reads, as simple
// clients do, and learns why it was refused.
func TestARefusedUploadIsTold(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		host := strings.TrimPrefix(g.url, "http://")
		auth := "Authorization: Bearer " + g.key("will") + "\r\n"
		const usual, tooLarge = 8 << 20, 65 << 20
		for _, test := range []struct {
			start  string
			size   int
			status string
		}{
			{"POST " + at("update", "n", origin) + " HTTP/1.1\r\n", usual, "401 "},
			{"POST " + at("update", "n", "1..1") + " HTTP/1.1\r\n" + auth, usual, "400 "},
			{"POST /api/v2/nothing HTTP/1.1\r\n" + auth, usual, "404 "},
			{"POST /health HTTP/1.1\r\n", usual, "405 "},
			{"POST " + at("update", "n", origin) + " HTTP/1.1\r\n" + auth, tooLarge, "413 "},
		} {
			conn, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(waitTimeout)) // or the read fails
			if _, err := fmt.Fprintf(conn, "%sHost: x\r\nContent-Length: %d\r\n\r\n", test.start, test.size); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(make([]byte, test.size)); err != nil {
				t.Errorf("%s: %v", test.status, err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+test.status) {
				t.Errorf("%q, %v; want %s", line, err, test.status)
			}
		}
	})
}

// TestAFloodOfOneTenant opens more requests than one tenant may have in flight.
// Its further requests are refused, and those of another tenant are not.
func TestAFloodOfOneTenant(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "flood", "quick")
	u, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	for range 700 {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer %s\r\n\r\nx", at("update", "n", origin), g.key("flood")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the flood is refused", func() bool {
		r, err := g.do("flood", "GET", at("select", "n", origin), "")
		return err == nil && r.status == 503 && r.header.Get("Retry-After") != ""
	})
	g.must("quick", "POST", at("update", "n", origin), "x", 200)
}

func TestAPhextChangedByHandIsReadAgain(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "old", 200)
		file := filepath.Join(g.dataDir("will"), "n.phext")
		if err := os.WriteFile(file, []byte("by hand\x17second"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.get("will", at("select", "n", origin)); got != "by hand" {
			t.Errorf("select gives %q", got)
		}
		if err := os.WriteFile(file, []byte("again\x17second"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("will", "POST", at("insert", "n", origin), "!", 200)
		if text, err := os.ReadFile(file); err != nil || string(text) != "again!\x17second" {
			t.Errorf("%v: the file holds %q", err, text)
		}
	})
}

func TestAnEmptyScroll(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		for _, c := range []struct{ method, target, want string }{
			{"POST", at("update", "n", origin), "Updated 0 bytes"}, {"GET", at("update", "n", origin) + "&s=", "Updated 0 bytes"},
			{"POST", at("insert", "n", origin), "Inserted 0 bytes"},
			{"PUT", at("update", "n", "1.1.1/1.1.1/1.1.2"), "Updated 0 bytes"},
		} {
			if r := g.must("will", c.method, c.target, "", 200); r.body != c.want {
				t.Errorf("%s %s: %q", c.method, c.target, r.body)
			}
		}
		if text, err := os.ReadFile(filepath.Join(g.dataDir("will"), "n.phext")); err != nil || len(text) != 0 {
			t.Errorf("%v: the file holds %q", err, text)
		}
	})
}

// TestARefusalOfOneIsNoFailureForAll has two tenants share a directory. Bad
// requests of one must not make the other lose its child.
func TestARefusalOfOneIsNoFailureForAll(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "a", "b")
		for _, id := range []string{"a", "b"} {
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "common"))
			g.set(id, "shared_data_dir", true)
		}
		g.writeFile()
		g.start()
		g.must("b", "POST", at("update", "n", origin), "b's", 200)
		before := fmt.Sprint(childrenOf(g.dataDir("b")))
		for range 20 {
			g.must("a", "POST", at("update", ".z", origin), "x", 403)
			if got := g.get("b", at("select", "n", origin)); got != "b's" {
				t.Fatalf("b reads %q", got)
			}
		}
		g.must("a", "POST", at("update", "", origin), "the unnamed one", 200)
		if after := fmt.Sprint(childrenOf(g.dataDir("b"))); after != before {
			t.Errorf("the child is %s, was %s", after, before)
		}
	})
}

func TestAPhextRemovedByHandStaysRemoved(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "old", 200)
		file := filepath.Join(g.dataDir("will"), "n.phext")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		g.must("will", "POST", at("update", "n", "1.1.1/1.1.1/1.1.2"), "new", 200)
		if text, err := os.ReadFile(file); err != nil || string(text) != "\x17new" {
			t.Errorf("%v: the file holds %q", err, text)
		}
	})
}

// TestADirectoryThatGoesAway removes the data directory. Nothing is written as long
// as it is marked, since its disk could be missing. Without the mark, SQ would answer
// 200 to a write that it cannot store: sqgate stores it or answers an error, and the
// next write has a directory again.
func TestADirectoryThatGoesAway(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "x", 200)
		if err := os.RemoveAll(g.dataDir("will")); err != nil {
			t.Fatal(err)
		}
		g.must("will", "POST", at("update", "n", origin), "nowhere", 503)
		if _, err := os.Stat(g.dataDir("will")); !os.IsNotExist(err) {
			t.Errorf("after a refused write: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(g.dir, "state", "directories")); err != nil {
			t.Fatal(err)
		}
		r, err := g.do("will", "POST", at("update", "n", origin), "first")
		if err != nil || r.status != 200 && r.status != 502 {
			t.Errorf("%v %d %s", err, r.status, r.body)
		}
		if text, err := os.ReadFile(filepath.Join(g.dataDir("will"), "n.phext")); r.status == 200 && string(text) != "first" {
			t.Errorf("acknowledged, and %v: the file holds %q", err, text)
		}
		g.must("will", "POST", at("update", "n", origin), "kept", 200)
		if text, err := os.ReadFile(filepath.Join(g.dataDir("will"), "n.phext")); err != nil || string(text) != "kept" {
			t.Errorf("%v: the file holds %q", err, text)
		}
	})
}

func TestAFileThatIsNotTextIsNeverFedToSQ(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "good", origin), "x", 200)
		file := filepath.Join(g.dataDir("will"), "bad.phext")
		if err := os.WriteFile(file, []byte("caf\xe9\x17x"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, op := range []string{"select", "update", "toc", "get", "delete"} {
			g.must("will", "GET", at(op, "bad", origin)+"&s=x", "", 502)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != "caf\xe9\x17x" {
			t.Errorf("%v: the file holds %q", err, text)
		}
		if got := g.get("will", at("select", "good", origin)); got != "x" {
			t.Errorf("the good phext reads %q", got)
		}
	})
}

// TestUnclearBodiesChangeNothing sends writes whose length can be read in more than one
// way, on a new connection and on one that net/http has.
func TestUnclearBodiesChangeNothing(t *testing.T) {
	const chunks = "3\r\nbad\r\n0\r\n\r\n"
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "kept", 200)
		auth := "Host: x\r\nAuthorization: Bearer " + g.key("will") + "\r\n"
		for _, op := range []string{"update", "insert", "delete"} {
			for _, c := range []struct{ version, fields, body, status string }{
				{"1.0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunks, "400"},
				{"1.0", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", chunks, "400"},
				{"1.0", "Content-Length: 0\r\nTransfer-Encoding: gzip\r\n", chunks, "400"},
				{"1.0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n", chunks, "400"},
				{"1.1", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunks, "400"},
				{"1.1", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", chunks, "400"},
				{"1.1", "Content-Length: 0\r\nContent-Length: 3\r\n", "bad", "400"},
				{"1.1", "Content-Length: 3\r\nContent-Length: 0\r\n", "bad", "400"},
				{"1.1", "Content-Length: 0, 3\r\n", "bad", "400"},
				{"1.1", "Content-Length: +3\r\n", "bad", "400"},
				{"1.1", "Content-Length: 0x3\r\n", "bad", "400"},
				{"1.1", "Content-Length: \r\n", "bad", "400"},
				{"1.1", "Content-Length : 0\r\n", "bad", "400"},
				{"1.1", "Content-Length:\r\n 0\r\n", "bad", "400"},
				{"1.1", "X: y\r\n Content-Length: 3\r\nContent-Length: 0\r\n", "bad", "400"},
				{"1.1", "Content-Length: 0\r\nTransfer-Encoding : chunked\r\n", chunks, "400"},
				{"1.1", "Content-Length: 0\r\nTransfer-Encoding: identity\r\n", "bad", "400"},
				{"1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks, "400"},
				{"1.1", "Transfer-Encoding: gzip, chunked\r\n", chunks, "400"},
				{"0.9", "Content-Length: 0\r\n", "", "505"},
				{"2.0", "Content-Length: 0\r\n", "", "505"},
				{"1.2", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunks, "400"},
				{"", "Content-Length: 0\r\n", "", "400"},
			} {
				for _, before := range []string{"", "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"} {
					version := ""
					if c.version != "" {
						version = " HTTP/" + c.version
					}
					answer := g.raw(t, before+"POST "+at(op, "n", origin)+version+"\r\n"+auth+c.fields+"\r\n"+c.body)
					if before != "" {
						_, answer, _ = strings.Cut(answer, "\r\n\r\n")
					}
					if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+c.status) {
						t.Errorf("%s over %q with %q: answered %.60q, want %s", op, c.version, c.fields, answer, c.status)
					}
					if got := g.get("will", at("select", "n", origin)); got != "kept" {
						t.Fatalf("%s over %q with %q: the scroll is %q", op, c.version, c.fields, got)
					}
				}
			}
		}
	})
}
