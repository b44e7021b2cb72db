package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// These tests send the exact bytes that the clients of this ecosystem send. The
// requests of Node, Python and curl were recorded from the programs themselves.
// Those of .NET are what its HttpClient sends: Host first, and no header that was
// not set.
//
//	shape                                             test
//	-----                                             ----
//	Authorization: Bearer K / K                       TestSQMemorySkill, TestLibphextPython, TestRouterDocuments
//	X-SQ-API-Key: K                                   TestDeckRelay
//	Basic, key as password                            TestSkillsOlderDocuments
//	no header, endpoint of at most 64 characters      TestPhextNotepad, TestPhextNotepadOnNETFramework, TestPhextNotepadBefore042
//	/<user-id>/api/v2/... with Bearer                 TestSignUpDocuments
//	GET update?p&c=<%2F>&s=... up to 64 KB            TestSQMemorySkill, TestSQMemorySkillByName
//	GET select on a named coordinate, 404 for null    TestSQMemorySkillByName, TestNamesRoundTrip
//	POST delete?p&c; DELETE delete?c                  TestSQMemorySkill, TestSQMemorySkill010, TestSQMemorySkillByName
//	GET toc?p, lines as they come                     TestSQMemorySkill, TestSQMemorySkillByName, TestPhextNotepad
//	select of a missing numeric coordinate            TestMissingIsEmpty
//	POST insert?p&c with any content type             TestShellScripts
//	form body; JSON body                              TestShellScripts, TestRoutingPlan
//	a= coord= coordinate= phext= data=, dimensions    TestOnboardingNotes, TestRouterDocuments
//	/api/v2/select/COORD, /select/..., /toc, /version TestRouterDocuments
//	separators ; all dots %2F %3B                     TestMeshScripts
//	POST delta?p, a manifest                          TestPhextNotepad, TestDeltaForEveryManifest, TestNamesRoundTrip
//	HTTP/1.0, raw sockets read to EOF                 TestFirmware, TestNginxDefaults
//	chunked uploads                                   TestStreamingClients
//	browser from another origin                       TestWebPages, TestABrowser
//	HEAD                                              TestMonitoring

// wire is one connection, on which a test sends any bytes.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	host string
}

func (g *gate) wire(t *testing.T) *wire {
	t.Helper()
	u, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &wire{t: t, conn: conn, in: bufio.NewReader(conn), host: u.Host}
}

// send sends bytes, to which the answer has to come in time. HOST as the value of a header
// stands for the gateway's address.
func (w *wire) send(text string) {
	w.t.Helper()
	_ = w.conn.SetDeadline(time.Now().Add(waitTimeout)) // a TCP connection takes deadlines
	if _, err := io.WriteString(w.conn, strings.Replace(text, ": HOST\r\n", ": "+w.host+"\r\n", 1)); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one answer and leaves the connection open for the next.
func (w *wire) answer(method string) reply {
	w.t.Helper()
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// ask sends one request with its body and reads the answer.
func (w *wire) ask(head, body string) reply {
	w.t.Helper()
	w.send(head + "\r\n\r\n" + body)
	method, target, _ := strings.Cut(head, " ")
	r := w.answer(method)
	target, _, _ = strings.Cut(target, " ")
	if u, err := url.ParseRequestURI(target); err == nil {
		if wrong := description().check(method, u.Path, r); wrong != nil {
			w.t.Error(wrong)
		}
	}
	return r
}

// want sends a request and expects an answer.
func (w *wire) want(status int, answer, head, body string) {
	w.t.Helper()
	if r := w.ask(head, body); r.status != status || r.body != answer {
		w.t.Errorf("%.300s\nis answered %d %.300q, want %d %.300q", head, r.status, r.body, status, answer)
	}
}

// lines joins the lines of a request's head.
func lines(all ...string) string { return strings.Join(all, "\r\n") }

// escape percent-encodes all bytes except letters, digits and those in keep.
func escape(text, keep string) string {
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(keep, c) >= 0 {
			out.WriteByte(c)
			continue
		}
		fmt.Fprintf(&out, "%%%02X", c)
	}
	return out.String()
}

// uriComponent is JavaScript's encodeURIComponent.
func uriComponent(text string) string { return escape(text, "-_.!~*'()") }

// curl is a request as curl sends it.
func curl(method, target string, headers ...string) string {
	return lines(append([]string{method + " " + target + " HTTP/1.1", "Host: HOST", "User-Agent: curl/7.88.1", "Accept: */*"}, headers...)...)
}

// posted is the headers that curl -d adds.
func posted(key, body string) []string {
	return []string{"Authorization: Bearer " + key, fmt.Sprintf("Content-Length: %d", len(body)), "Content-Type: application/x-www-form-urlencoded"}
}

func TestDeckRelay(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "deck")
		headers := []string{"connection: keep-alive", "X-SQ-API-Key: " + g.key("deck"), "accept: */*", "accept-language: *",
			"sec-fetch-mode: cors", "user-agent: node", "accept-encoding: gzip, deflate"}
		w := g.wire(t)
		post := append([]string{"POST /api/v2/update?p=deck&c=1.1.1/1.1.1/1.1.1 HTTP/1.1", "host: HOST"}, headers...)
		w.want(200, "Updated 5 bytes", lines(append(post, "content-type: text/plain;charset=UTF-8", "content-length: 5")...), "hello")
		w.want(200, "hello", lines(append([]string{"GET /api/v2/select?p=deck&c=1.1.1/1.1.1/1.1.1 HTTP/1.1", "host: HOST"}, headers...)...), "")
	})
}

func TestSkillsOlderDocuments(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "bob")
		g.must("will", "POST", at("update", "n", origin), "will's", 200)
		w := g.wire(t)
		basic := func(user, key string) string {
			return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+key))
		}
		w.want(200, "will's", curl("GET", at("select", "n", origin), basic("will", g.key("will"))), "")
		w.want(200, "", curl("GET", at("select", "n", origin), basic("will", g.key("bob"))), "") // the key decides, not the name
		if r := w.ask(curl("GET", at("select", "n", origin), basic(g.key("will"), "")), ""); r.status != 401 {
			t.Errorf("the key as user name: %d %q", r.status, r.body)
		}
	})
}

func TestSignUpDocuments(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "phext-notepad", "will")
		w := g.wire(t)
		auth := "Authorization: Bearer " + g.key("phext-notepad")
		w.want(200, "Updated 2 bytes", curl("POST", "/phext-notepad/api/v2/update?p=n&c="+origin, posted(g.key("phext-notepad"), "hi")...), "hi")
		w.want(200, "hi", curl("GET", "/phext-notepad/api/v2/select?p=n&c="+origin, auth), "")
		w.want(200, "hi", curl("GET", "/phext-notepad/select/"+origin+"?p=n", auth), "")
		w.want(200, "* "+origin+": hi\n", curl("GET", "/phext-notepad/toc?p=n", auth), "")
		theirs, nobodys := w.ask(curl("GET", "/will/api/v2/toc?p=n", auth), ""), w.ask(curl("GET", "/nils/api/v2/toc?p=n", auth), "")
		if theirs.status != 403 || strings.ReplaceAll(theirs.body, "will", "nils") != nobodys.body {
			t.Errorf("another's path: %d %q; nobody's: %d %q", theirs.status, theirs.body, nobodys.status, nobodys.body)
		}
	})
}

func TestRouterDocuments(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		auth := "Authorization: " + g.key("will") // without Bearer, as in the documents
		w := g.wire(t)
		dimensions := "library=1&shelf=1&series=1&collection=1&volume=1&book=1&chapter=1&section=1&scroll="
		w.want(200, "Inserted 3 bytes", curl("POST", "/insert?"+dimensions+"2", auth, "Content-Length: 3", "Content-Type: text/plain"), "two")
		w.want(200, "Updated 5 bytes", curl("POST", "/update?"+dimensions+"3", auth, "Content-Length: 5", "Content-Type: text/plain"), "three")
		w.want(200, "two", curl("GET", "/select/1.1.1/1.1.1/1.1.2", auth), "")
		w.want(200, "three", curl("GET", "/api/v2/select/1.1.1/1.1.1/1.1.3", auth), "")
		w.want(200, "", curl("GET", "/select/1.1.1/1.1.1/1.1.1", auth), "")
		w.want(200, "* 1.1.1/1.1.1/1.1.2: two\n* 1.1.1/1.1.1/1.1.3: three\n", curl("GET", "/toc", auth), "")
		if r := w.ask(curl("GET", "/version", auth), ""); r.status != 200 || !strings.HasPrefix(r.body, `{"version":"0.5.5",`) {
			t.Errorf("version: %d %q", r.status, r.body)
		}
		w.want(200, "0.5.5", lines("GET /version HTTP/1.1", "Host: HOST", "Accept: text/plain", auth), "")
		for _, path := range []string{"/selector/" + origin, "/toc/" + origin, "/api/v1/select", "/api/v2/deleteme"} {
			if r := w.ask(curl("GET", path, auth), ""); r.status != 404 || !strings.Contains(r.body, "not_found") {
				t.Errorf("%s: %d %q", path, r.status, r.body)
			}
		}
	})
}

func TestMissingIsEmpty(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		w := g.wire(t)
		auth := "Authorization: Bearer " + g.key("will")
		w.want(200, "", curl("GET", at("select", "n", "5.5.5/5.5.5/5.5.5"), auth), "")
		g.must("will", "POST", at("update", "n", origin), "x", 200)
		w.want(200, "", curl("GET", at("select", "n", "5.5.5/5.5.5/5.5.5"), auth), "")
		w.want(200, "Removed 0 bytes", curl("GET", at("delete", "n", "5.5.5/5.5.5/5.5.5"), auth), "")
	})
}

// TestShellScripts sends what scripts pass to curl -d and --data-binary.
func TestShellScripts(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		key := g.key("will")
		w := g.wire(t)
		for i, c := range []struct{ kind, body string }{
			{"application/x-www-form-urlencoded", `{"role": "user", "text": "p=1&c=2 \u00e9"}`},
			{"application/x-www-form-urlencoded", "p=other&c=9.9.9/9.9.9/9.9.9&content=text"},
			{"application/json", `{"coordinate": "9.9.9/9.9.9/9.9.9", "content": "text"}`},
			{"text/plain", "plain + simple %41 & more\n"},
			{"application/octet-stream", "\x00\x02\n"},
			{"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\nhi\r\n--x--\r\n"},
			{"application/phext", "# heading"},
		} {
			coordinate := fmt.Sprintf("1.1.1/1.1.1/1.1.%d", i+1)
			head := curl("POST", at("insert", "n", coordinate), "Authorization: Bearer "+key, fmt.Sprintf("Content-Length: %d", len(c.body)), "Content-Type: "+c.kind)
			w.want(200, fmt.Sprintf("Inserted %d bytes", len(c.body)), head, c.body)
			w.want(200, c.body, curl("GET", at("select", "n", coordinate), "Authorization: Bearer "+key), "")
		}
		form := "p=forms&c=2.1.1%2F1.1.1%2F1.1.1&content=from+a+form%21"
		w.want(200, "Inserted 12 bytes", curl("POST", "/api/v2/insert", posted(key, form)...), form)
		w.want(200, "from a form!", curl("GET", at("select", "forms", "2.1.1/1.1.1/1.1.1"), "Authorization: Bearer "+key), "")
		if got := g.get("will", "/api/v2/toc"); strings.Contains(got, "form") {
			t.Errorf("the form went to the unnamed phext too: %q", got)
		}
	})
}

func TestRoutingPlan(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		w := g.wire(t)
		for body, coordinate := range map[string]string{
			`{"coordinate": "1.1.1/1.1.1/1.1.2", "content": "said \"yes\"\n"}`:                   "1.1.1/1.1.1/1.1.2",
			`{"p": "", "c": "1.1.1/1.1.1/1.1.3", "s": "said \"yes\"\n"}`:                         "1.1.1/1.1.1/1.1.3",
			`{"content": "said \"yes\"\n", "coordinate": "1.1.1;1.1.1;1.1.4", "author": "plan"}`: "1.1.1/1.1.1/1.1.4",
		} {
			head := curl("POST", "/api/v2/insert", "Authorization: Bearer "+g.key("will"), fmt.Sprintf("Content-Length: %d", len(body)), "Content-Type: application/json")
			w.want(200, "Inserted 11 bytes", head, body)
			w.want(200, "said \"yes\"\n", curl("GET", at("select", "", coordinate), "Authorization: Bearer "+g.key("will")), "")
		}
	})
}

func TestOnboardingNotes(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		w := g.wire(t)
		auth := "Authorization: Bearer " + g.key("will")
		const there = "1.2.3/4.5.6/7.8.9"
		for i, query := range []string{"p=n&a=" + there, "p=n&coord=" + there, "p=n&coordinate=" + there, "phext=n&c=" + there,
			"phext=n&library=1&shelf=2&series=3&collection=4&volume=5&book=6&chapter=7&section=8&scroll=9"} {
			text := fmt.Sprint("note ", i)
			w.want(200, "Updated 6 bytes", curl("GET", "/api/v2/update?"+query+"&data="+escape(text, ""), auth), "")
			w.want(200, text, curl("GET", "/api/v2/select?"+query, auth), "")
			w.want(200, text, curl("GET", at("select", "n", there), auth), "")
		}
		w.want(200, "", curl("GET", at("select", "n", origin), auth), "")
	})
}

func TestMeshScripts(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		w := g.wire(t)
		auth := "Authorization: Bearer " + g.key("will")
		w.want(200, "Updated 4 bytes", curl("GET", at("update", "n", "1.2.3/4.5.6/7.8.9")+"&s=here", auth), "")
		for _, c := range []string{"1.2.3/4.5.6/7.8.9", "1.2.3;4.5.6;7.8.9", "1.2.3.4.5.6.7.8.9", "1.2.3%2F4.5.6%2F7.8.9", "1.2.3%2f4.5.6%2f7.8.9",
			"1.2.3%3B4.5.6%3B7.8.9", "will.1.2.3/4.5.6/7.8.9", "01.02.03/4.5.6/7.8.9"} {
			w.want(200, "here", curl("GET", at("select", "n", c), auth), "")
		}
		for _, c := range []string{"1.2.3/4.5.6/7.8.9", "1.2.3;4.5.6;7.8.9"} {
			w.want(200, "here", curl("GET", "/api/v2/select/"+c+"?p=n", auth), "")
		}
	})
}

func TestWebPages(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		w := g.wire(t)
		chrome := []string{"Host: HOST", "Connection: keep-alive", "Accept: */*", "Origin: https://phext.io", "Sec-Fetch-Mode: cors",
			"Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: empty", "Referer: https://phext.io/", "Accept-Encoding: gzip, deflate", "Accept-Language: en-US,en;q=0.9"}
		target := at("update", "n", origin)
		preflight := w.ask(lines(append([]string{"OPTIONS " + target + " HTTP/1.1", "Access-Control-Request-Method: PUT",
			"Access-Control-Request-Headers: authorization,content-type"}, chrome...)...), "")
		allowed := strings.ToLower(preflight.header.Get("Access-Control-Allow-Headers"))
		if preflight.status != 204 || !strings.Contains(preflight.header.Get("Access-Control-Allow-Methods"), "PUT") ||
			!strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "content-type") {
			t.Errorf("preflight: %d %v", preflight.status, preflight.header)
		}
		put := w.ask(lines(append([]string{"PUT " + target + " HTTP/1.1", "Content-Length: 2", "Content-Type: text/plain;charset=UTF-8",
			"Authorization: Bearer " + g.key("will")}, chrome...)...), "hi")
		refused := w.ask(lines(append([]string{"GET " + at("select", "n", origin) + " HTTP/1.1"}, chrome...)...), "")
		if put.status != 200 || refused.status != 401 {
			t.Errorf("put %d %q, without a key %d", put.status, put.body, refused.status)
		}
		for what, r := range map[string]reply{"preflight": preflight, "put": put, "refusal": refused} {
			if got := r.header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "*" {
				t.Errorf("%s: Access-Control-Allow-Origin %q", what, got)
			}
		}
	})
}

func TestMonitoring(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "twelve bytes", 200)
		auth := "Authorization: Bearer " + g.key("will")
		w := g.wire(t)
		for target, size := range map[string]string{
			at("select", "n", origin): "12", "/api/v2/toc?p=n": "34", "/api/v2/get?p=n": "12", "/select/" + origin + "?p=n": "12",
		} {
			r := w.ask(lines("HEAD "+target+" HTTP/1.1", "Host: HOST", auth, "User-Agent: curl/7.88.1", "Accept: */*"), "")
			if r.status != 200 || r.body != "" || r.header.Get("Content-Length") != size {
				t.Errorf("HEAD %s: %d %q, Content-Length %s, want %s", target, r.status, r.body, r.header.Get("Content-Length"), size)
			}
		}
		if r := w.ask(lines("HEAD /health HTTP/1.1", "Host: HOST"), ""); r.status != 200 {
			t.Errorf("HEAD /health: %d", r.status)
		}
	})
}
