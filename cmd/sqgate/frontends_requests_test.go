package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// frontendRequests are sent straight to sqgate for one tenant, and through the
// frontend for another: the answers must be the same. They run in this order, since
// some see what earlier ones have written. KEY is the tenant's path key, and ETAG
// the tag of the last answer that had one.
var frontendRequests = []struct {
	method, target, body string
	header               string // lines
	chunked              bool
	times                int // that the body is sent, in one; 0 is once
}{
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1", body: "text"},
	{method: "PUT", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", body: "grüße"},
	{method: "POST", target: "/api/v2/insert?p=n&c=1.1.1/1.1.1/1.1.2", body: " chunked", chunked: true},
	{method: "GET", target: "/api/v2/insert?p=n&c=1.1.1/1.1.1/1.1.3&s=a%20get%20that%20writes"},
	{method: "GET", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2"},
	{method: "HEAD", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2"},
	{method: "GET", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2", header: "If-None-Match: ETAG"},
	{method: "HEAD", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2", header: "If-None-Match: ETAG"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", body: "matched", header: "If-Match: ETAG"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", body: "not matched", header: "If-Match: \"00\""},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", body: strings.Repeat("long enough to be compressed ", 2000)},
	{method: "GET", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2", header: "Accept-Encoding: gzip"},
	{method: "GET", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2", header: "Accept-Encoding: gzip\nIf-None-Match: ETAG"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.2", body: "matched a compressed answer's tag", header: "If-Match: ETAG"},
	{method: "GET", target: "/api/v2/select?p=n&c=1.1.1/1.1.1/1.1.2", header: "Accept-Encoding: gzip"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.4", body: "once", header: "Idempotency-Key: a"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.4", body: "once", header: "Idempotency-Key: a"},
	{method: "GET", target: "/api/v2/toc?p=n"},
	{method: "GET", target: "/api/v2/json-export?p=n"},
	{method: "GET", target: "/n/../api/v2/toc?p=n"},
	{method: "GET", target: "/api/../toc?p=n"},
	{method: "GET", target: "//api///v2//toc?p=n"},
	{method: "GET", target: "/toc/?p=n"},
	{method: "GET", target: "//?p=n"},
	{method: "GET", target: "/"},
	{method: "POST", target: "/api/v2/update/1.1.1/1.1.1/1.1.5?p=n", body: "coordinate in the path"},
	{method: "GET", target: "/api/v2/select/1.1.1%2F1.1.1%2F1.1.5?p=n"},
	{method: "GET", target: "/api/v2/select/1.1.1;1.1.1;1.1.5?p=n"},
	{method: "GET", target: "/api/v2/select/1.1.1%3B1.1.1%3b1.1.5?p=n"},
	{method: "POST", target: "/api/v2/update/by%20name.%C3%BC%25.1/a%3Bb.1.1/1.1.1?p=n", body: "a name"},
	{method: "GET", target: "/api/v2/select/by%20name.%C3%BC%25.1/a%3Bb.1.1/1.1.1?p=n"},
	{method: "GET", target: "/api/v2/select/by%2520name.1.1/1.1.1/1.1.1?p=n"},
	{method: "POST", target: "/api/v2/update?p=p%25c%3B%C3%A4%20%2B&c=1.1.1/1.1.1/1.1.1", body: "a phext's name"},
	{method: "GET", target: "/api/v2/select?p=p%25c%3B%c3%a4+%2B&c=1.1.1/1.1.1/1.1.1"},
	{method: "GET", target: "/api/v2/select?p=a%2Fb&c=1.1.1/1.1.1/1.1.1"},
	{method: "GET", target: "/api/v2/select?p=..%2Fb&c=1.1.1/1.1.1/1.1.1"},
	{method: "PUT", target: "/api/v2/write/2.3.5/7.11.13/17.19.23", body: "published"},
	{method: "GET", target: "/api/v2/read/2.3.5/7.11.13/17.19.23"},
	{method: "GET", target: "/api/v2/read/9.9.9/9.9.9/9.9.9"},
	{method: "GET", target: "/api/v2/list/2.3"},
	{method: "GET", target: "/api/v2/search?q=published"},
	{method: "DELETE", target: "/api/v2/delete/2.3.5/7.11.13/17.19.23"},
	{method: "POST", target: "/k/KEY/api/v2/update?p=k&c=1.1.1/1.1.1/1.1.1", body: "by path key", header: "Authorization:"},
	{method: "GET", target: "/k/KEY/select/1.1.1/1.1.1/1.1.1?p=k", header: "Authorization:\nReferer: https://sq.example.org/k/KEY/page"},
	{method: "GET", target: "//k//KEY//toc?p=k", header: "Authorization:"},
	{method: "GET", target: "/%6b/KEY/toc?p=k", header: "Authorization:"},
	{method: "GET", target: "/x/../k/KEY/toc?p=k", header: "Authorization:"},
	{method: "GET", target: "/k/KEYwrong/toc?p=k", header: "Authorization:"},
	{method: "GET", target: "/api/v2/toc?p=n", header: "Authorization:"},
	{method: "GET", target: "/api/v2/toc?p=n", header: "Authorization:\nReferer: https://sq.example.org/k/KEY/page"},
	{method: "POST", target: "/api/v2/delete?p=n&c=1.1.1/1.1.1/1.1.4"},
	{method: "DELETE", target: "/api/v2/delete?p=n&c=1.1.1/1.1.1/1.1.3"},
	{method: "PATCH", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.1", body: "x"},
	{method: "OPTIONS", target: "/api/v2/update?p=n", header: "Authorization:\nOrigin: https://elsewhere.example\nAccess-Control-Request-Method: PUT"},
	{method: "DELETE", target: "/api/v2/toc?p=n"},
	{method: "GET", target: "/api/v2/nope"},
	{method: "POST", target: "/api/v2/delta?p=n", body: "1.1.1/1.1.1/1.1.1: 00\n"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.6", body: "after being told to go on", header: "Expect: 100-continue"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.6", body: "refused ", times: 1 << 18, header: "Authorization: Bearer wrong-key\nExpect: 100-continue"},
	{method: "POST", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.6", body: "refused ", times: 1 << 18, header: "Authorization: Bearer wrong-key"},
	{method: "GET", target: "/api/v2/update?p=n&c=1.1.1/1.1.1/1.1.7&s=" + strings.Repeat("%C3%BC", 10<<10)},
	{method: "GET", target: "/api/v2/get?p=n"},
	{method: "GET", target: "/api/v2/version"},
	{method: "GET", target: "/health"},
}

// comparedHeaders are the headers of answers that mean something to clients.
var comparedHeaders = []string{"Content-Type", "Content-Encoding", "Etag", "Vary", "Cache-Control", "Allow", "Retry-After", "Www-Authenticate", "X-Content-Type-Options",
	"Referrer-Policy", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age",
	"Access-Control-Expose-Headers", "X-Sq-Quota-Used", "X-Sq-Backend"}

var (
	changing   = regexp.MustCompile(`"(timestamp|uptime_seconds|created|modified)":("[^"]*"|[0-9.]+)`)
	logOfARead = regexp.MustCompile(`status=200 `)
)

// TestFrontendsPassOn sends every kind of request through both, over HTTP/1.1
// and HTTP/2.
func TestFrontendsPassOn(t *testing.T) {
	forEachFrontend(t, func(t *testing.T, start func(string) *frontend) {
		g := newGate(t, bestSQ(), "direct", "http1", "http2")
		for _, id := range []string{"direct", "http1", "http2"} {
			g.set(id, "path_key", "path-key-of-tenant-"+id)
			g.set(id, "quota_mb", 100)
		}
		g.writeFile()
		g.start()
		f := start(strings.TrimPrefix(g.url, "http://"))
		direct := &http.Client{Transport: &http.Transport{DisableCompression: true, ExpectContinueTimeout: waitTimeout}, CheckRedirect: f.h1.CheckRedirect}
		defer direct.CloseIdleConnections()
		tag := map[string]string{}
		send := func(i int, id, base string, client *http.Client) string {
			request := frontendRequests[i]
			pathKey := "path-key-of-tenant-" + id
			var body io.Reader = strings.NewReader(strings.Repeat(request.body, max(1, request.times)))
			if request.body == "" {
				body = http.NoBody
			}
			r := newRequest(t, request.method, base, strings.ReplaceAll(request.target, "KEY", pathKey), body)
			if request.chunked {
				r.ContentLength = -1
			}
			r.Header.Set("Authorization", "Bearer "+g.key(id))
			for line := range strings.SplitSeq(request.header, "\n") {
				if name, value, ok := strings.Cut(line, ":"); ok {
					r.Header.Del(name)
					if value = strings.NewReplacer("KEY", pathKey, "ETAG", tag[id]).Replace(strings.TrimSpace(value)); value != "" {
						r.Header.Set(name, value)
					}
				}
			}
			answer, err := answerOf(client, r)
			if err != nil {
				t.Fatalf("%s %.100s for %s: %v", request.method, request.target, id, err)
			}
			if e := answer.header.Get("ETag"); e != "" {
				tag[id] = e
			}
			said := fmt.Sprintf("%d %q", answer.status, changing.ReplaceAllString(strings.ReplaceAll(answer.body, id, "ID"), `"$1":X`))
			for _, name := range comparedHeaders {
				if values := answer.header.Values(name); values != nil {
					said += fmt.Sprintf("\n%s: %q", name, values)
				}
			}
			return said
		}
		for i, request := range frontendRequests {
			want := send(i, "direct", g.url, direct)
			for id, client := range map[string]*http.Client{"http1": f.h1, "http2": f.h2} {
				if got := send(i, id, "https://"+siteName, client); got != want {
					t.Errorf("%d: %s %.100s over %s: %.900s\nwant %.900s", i, request.method, request.target, id, got, want)
				}
			}
		}
		if len(logOfARead.FindAllString(g.log.String(), -1)) < 3*20 {
			t.Errorf("hardly a request succeeded")
		}
		f.hidesManagement(t, g)
		f.redirects(t, g)
		f.limitsByAddress(t, g)
		f.logsNoKey(t, g)
	})
}

// bestSQ is real SQ, or else the stand-in.
func bestSQ() string {
	if real := realSQ(); real != "" {
		return real
	}
	return builtin
}

// hidesManagement asks for the metrics and the management API in every spelling
// that sqgate may take for them.
func (f *frontend) hidesManagement(t *testing.T, g *gate) {
	t.Helper()
	for _, target := range []string{"/api/v2/metrics", "/api/v2/admin/tenants", "/api/v2/admin", "/api/v2/%61dmin/tenants", "/api/v2/metric%73", "/api%2fv2/admin/tenants",
		"//api/v2/admin/tenants", "/api/v2//admin/tenants", "/x/../api/v2/admin/tenants", "/api/v2/./metrics", "/api/v2/admin%2ftenants", "/api/v2/admin/tenants/"} {
		for _, client := range []*http.Client{f.h1, f.h2} {
			r := newRequest(t, "GET", "https://"+siteName, target, nil)
			r.Header.Set("Authorization", "Bearer "+adminKey)
			if answer, err := answerOf(client, r); err != nil || answer.status != 404 {
				t.Errorf("%s from outside: %v %d %.100s", target, err, answer.status, answer.body)
			}
		}
	}
	if strings.Contains(g.log.String(), "/api/v2/admin") {
		t.Error("a management call reached sqgate")
	}
}

// redirects has curl write over http://. It must be sent to https:// with its body.
func (f *frontend) redirects(t *testing.T, g *gate) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "30", "--location-trusted", "--cacert", f.dir+"/cert.pem", "--noproxy", "*",
		"--connect-to", siteName+":443:127.0.0.1:"+f.ports["443"], "--connect-to", siteName+":80:127.0.0.1:"+f.ports["80"],
		"-H", "Authorization: Bearer "+g.key("http1"), "-d", "from http", "-w", "\n%{num_redirects} %{method} %{url_effective}",
		"http://"+siteName+"/api/v2/update/1.1.1%2F1.1.1%2F1.1.1?p=r").CombinedOutput()
	if want := "Updated 9 bytes\n1 POST https://" + siteName + "/api/v2/update/1.1.1%2F1.1.1%2F1.1.1?p=r"; err != nil || string(out) != want {
		t.Errorf("curl: %v %s\nwant %s", err, out, want)
	}
	for _, target := range []string{"/k/path-key-of-tenant-http1/toc?p=k", "/api/v2/toc?p=r"} {
		r := newRequest(t, "GET", "http://"+siteName, target, nil)
		r.Header.Set("Referer", "http://"+siteName+"/k/path-key-of-tenant-http1/")
		if answer, err := answerOf(f.h1, r); err != nil || answer.status != 308 || answer.header.Get("Location") != "https://"+siteName+target {
			t.Errorf("%s over http://: %v %d %v", target, err, answer.status, answer.header)
		}
	}
}

// limitsByAddress sends more wrong keys than one address may, each of which claims
// another. They must count together.
func (f *frontend) limitsByAddress(t *testing.T, g *gate) {
	t.Helper()
	for i := range 40 {
		r := newRequest(t, "GET", "https://"+siteName, "/api/v2/toc?p=n", nil)
		r.Header.Set("Authorization", "Bearer wrong-key")
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d, 198.51.100.%d", i, i))
		answer, err := answerOf(f.h1, r)
		if err != nil || answer.status != 401 && answer.status != 429 {
			t.Fatalf("a wrong key: %v %d", err, answer.status)
		}
		if answer.status == 429 {
			return
		}
	}
	t.Error("X-Forwarded-For of a client counts as its address")
}

// logsNoKey makes what the frontend logs as errors, with a key in the path and in
// the Referer, and then looks for keys in everything that it wrote.
func (f *frontend) logsNoKey(t *testing.T, g *gate) {
	t.Helper()
	const pathKey = "path-key-of-tenant-http1"
	for _, target := range []string{"/k/" + pathKey + "/api/v2/select", "//k/" + pathKey + "/toc", "/api/v2/toc"} {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+f.ports["443"], &tls.Config{RootCAs: f.trusted, ServerName: siteName})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s?p=n HTTP/1.1\r\nHost: %s\r\nReferer: https://%[2]s/k/%s/\r\nContent-Length: 100\r\n\r\ncut off", target, siteName, pathKey)
		_ = conn.Close() // the upload is aborted
		for _, tooMuch := range []string{strings.Repeat("x", 2<<20), "\x01"} {
			if conn, err = tls.Dial("tcp", "127.0.0.1:"+f.ports["443"], &tls.Config{RootCAs: f.trusted, ServerName: siteName}); err != nil {
				t.Fatal(err)
			}
			go fmt.Fprintf(conn, "GET %s?p=n HTTP/1.1\r\nHost: %s\r\nReferer: https://%[2]s/k/%s/\r\nX-Bad: %s\r\nBad\x00Name: x\r\n\r\n", target, siteName, pathKey, tooMuch)
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				_ = resp.Body.Close() // refused, as it should be
			}
			_ = conn.NetConn().Close() // it is a bad request, and may still be on its way
		}
	}
	g.stop() // from here on, nothing answers
	status := 502
	if f.name == "haproxy" { // it has no host left
		status = 503
	}
	for _, target := range []string{"/k/" + pathKey + "/api/v2/select", "//k/" + pathKey + "/toc", "/api/v2/toc", "/k/" + pathKey + "/api/v2/update"} {
		for _, client := range []*http.Client{f.h1, f.h2} {
			r := newRequest(t, "GET", "https://"+siteName, target, nil)
			r.Header.Set("Referer", "https://"+siteName+"/k/"+pathKey+"/page")
			r.Header.Set("Authorization", "Bearer "+g.key("http1"))
			r.Header.Set("X-SQ-API-Key", g.key("http1"))
			answer, err := answerOf(client, r)
			if err != nil || answer.status != status || !strings.Contains(answer.body, `"code":"backend_failed"`) || answer.header.Get("Content-Type") != "application/json" ||
				answer.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("without sqgate: %v %d %s %v", err, answer.status, answer.body, answer.header)
			}
		}
	}
	wrote := f.wrote(t)
	if f.name == "nginx" {
		delete(wrote, filepath.Join(f.dir, "nginx.conf"))
	}
	logged := false
	for place, text := range wrote {
		logged = logged || strings.Contains(text, fmt.Sprint(status)) && (place == "its output" || strings.HasSuffix(place, "sq.log"))
		for _, key := range []string{pathKey, "path-key-of", g.key("http1"), g.key("http2"), adminKey} {
			if at := strings.Index(text, key); at >= 0 {
				t.Errorf("%s stands in %s: ...%s", key, place, text[max(0, at-200):at+len(key)])
			}
		}
	}
	if !logged {
		t.Errorf("%s logs no failure at all: %s", f.name, wrote)
	}
}
