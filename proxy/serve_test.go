package proxy

import (
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/etag"
)

const third = "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.3"

func TestReads(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for _, test := range []struct {
		target, text, kind string
		tagged             bool
	}{
		{third, "the scroll", textPlain, true},
		{"/select/1.1.1/1.1.1/1.1.3?p=notes", "the scroll", textPlain, true},
		{"/api/v2/toc?p=notes", "* 1.1.1/1.1.1/1.1.3: the scroll\n", textPlain, true},
		{"/api/v2/get?p=notes", notes, textPlain, true},
		{"/api/v2/json-export?p=notes", "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n", "application/json", true},
		{"/api/v2/load?p=notes", "Loaded notes", textPlain, false},
		{"/api/v2/select?p=none", "", textPlain, true},
		{"/api/v2/version", `{"version":"` + ServiceVersion + `","status":"ok","uptime_seconds":0}` + "\n", "application/json", false},
	} {
		answer := w.ask("GET", test.target, "")
		h := answer.Header()
		tag, cache := "", "no-store"
		if test.tagged {
			tag, cache = etag.Of(test.text), "private, no-cache"
		}
		if answer.Code != 200 || answer.Body.String() != test.text || h.Get("Content-Type") != test.kind || h.Get("ETag") != tag || h.Get("Cache-Control") != cache {
			t.Errorf("%s: %d %q %v", test.target, answer.Code, answer.Body, h)
		}
		if length := h.Get("Content-Length"); length != strconv.Itoa(len(test.text)) && !strings.HasSuffix(test.target, "version") {
			t.Errorf("%s: Content-Length %s", test.target, length)
		}
	}
	if answer := w.ask("GET", "/api/v2/version", "", "Accept", "text/plain;q=1"); answer.Body.String() != ServiceVersion || answer.Header().Get("X-SQ-Backend") != "0.6.0" {
		t.Errorf("%s %v", answer.Body, answer.Header())
	}
	if answer := w.ask("POST", "/api/v2/where?limit=3", "some text"); answer.Code != 200 || !strings.HasPrefix(answer.Body.String(), "Calculated coordinate") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	if requests := w.sq.seen(); len(requests) > 0 {
		t.Errorf("SQ was asked for %q", requests)
	}
	w.wantAllFree()
}

// TestNotModified tells a client that it has the answer already.
func TestNotModified(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for _, target := range []string{third, "/api/v2/toc?p=notes", "/api/v2/get?p=notes", "/api/v2/checksum?p=notes", "/api/v2/status?p=notes"} {
		tag := w.ask("GET", target, "").Header().Get("ETag")
		for sent, status := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200} {
			answer := w.ask("GET", target, "", "If-None-Match", sent)
			if answer.Code != status || answer.Header().Get("ETag") != tag || answer.Header().Get("Cache-Control") != "private, no-cache" ||
				status == 304 && (answer.Body.Len() > 0 || answer.Header().Get("Content-Type") != "") {
				t.Errorf("%s, %s: %d %v", target, sent, answer.Code, answer.Header())
			}
		}
	}
	w.wantAllFree()
}

func TestNoRoomForAnAnswer(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	full := func(when string) {
		t.Helper()
		if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()) {
			t.Fatal("somebody holds memory")
		}
		answer := w.ask("GET", "/api/v2/toc?p=notes", "")
		w.wantError(answer, 503, "unavailable")
		if h := answer.Header(); h.Get("ETag") != "" || h.Get("Retry-After") != "1" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", when, h)
		}
		w.Dirs.Answers.Give(w.Dirs.Answers.Limit())
	}
	full("to be made")
	if answer := w.ask("GET", "/api/v2/toc?p=notes", ""); answer.Code != 200 {
		t.Errorf("%d", answer.Code)
	}
	full("to be sent")
	w.wantAllFree()
}

// discarder takes an answer as it is, without a copy.
type discarder struct {
	benchWriter
	bytes int
}

func (w *discarder) Write(b []byte) (int, error)       { w.bytes += len(b); return len(b), nil }
func (w *discarder) WriteString(s string) (int, error) { w.bytes += len(s); return len(s), nil }

// TestKeptAnswersCostNoMemory also asks for those that are not sent.
func TestKeptAnswersCostNoMemory(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	text := strings.Repeat(strings.Repeat("a line of text\x17", 500)+"\x18", 10)
	w.put("notes.phext", text)
	h := w.Handler()
	for _, op := range []string{"toc", "get", "checksum"} {
		first := w.ask("GET", "/api/v2/"+op+"?p=notes", "")
		for tag, status := range map[string]int{"": 0, first.Header().Get("ETag"): http.StatusNotModified} {
			r := w.request("GET", "/api/v2/"+op+"?p=notes", "", "If-None-Match", tag)
			const times = 20
			out := &discarder{benchWriter: benchWriter{header: http.Header{}}}
			took := allocated(func() {
				for range times {
					clear(out.header)
					h.ServeHTTP(out, r)
				}
			})
			want := times * first.Body.Len()
			if status == http.StatusNotModified {
				want = 0
			}
			if out.status != status || out.bytes != want {
				t.Errorf("%s, If-None-Match %q: status %d, %d bytes", op, tag, out.status, out.bytes)
			}
			if most := uint64(len(text) / 10); took/times > most {
				t.Errorf("%s, If-None-Match %q: takes %d bytes, of a phext of %d", op, tag, took/times, len(text))
			}
		}
	}
	w.wantAllFree()
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestWrites go through the whole chain to SQ and back.
func TestWrites(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"quota_mb": 1}})
	for _, test := range []struct {
		method, target, body string
		answer               string
		tag                  string // of this text; "-" = none
		file                 string
	}{
		{"POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.3", "changed", "Updated 7 bytes", "changed", "\x17\x17changed"},
		{"PUT", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.3", "put", "Updated 3 bytes", "put", "\x17\x17put"},
		{"POST", "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.3", "!", "Inserted 1 bytes", "put!", "\x17\x17put!"},
		{"GET", "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.1&s=one", "", "Inserted 3 bytes", "one", "one\x17\x17put!"},
		{"DELETE", "/api/v2/delete?p=notes&c=1.1.1/1.1.1/1.1.3", "", "Removed 4 bytes", "-", "one"},
	} {
		answer := w.ask(test.method, test.target, test.body)
		h, tag := answer.Header(), ""
		if test.tag != "-" {
			tag = etag.Of(test.tag)
		}
		if answer.Code != 200 || answer.Body.String() != test.answer || h.Get("ETag") != tag || h.Get("Content-Type") != textPlain ||
			h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") != strconv.Itoa(len(test.answer)) || h.Get("X-SQ-Quota-Used") != "0.000" {
			t.Errorf("%s %s: %d %s %v", test.method, test.target, answer.Code, answer.Body, h)
		}
		got, err := os.ReadFile(w.path("notes.phext"))
		w.check(err)
		if strings.TrimRight(string(got), "\x17") != test.file {
			t.Errorf("%s %s: the file holds %q", test.method, test.target, got)
		}
	}
	w.ask("POST", "/api/v2/update?p=large&c=1.1.1/1.1.1/1.1.1", strings.Repeat("x", 512<<10))
	if answer := w.ask("POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "x"); answer.Header().Get("X-SQ-Quota-Used") != "0.500" {
		t.Errorf("%v", answer.Header())
	}
	w.wantAllFree()
}

// TestConditionsOfAWrite are taken from its headers.
func TestConditionsOfAWrite(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	const target = "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.3"
	w.wantError(w.ask("POST", target, "x", "If-Match", `"another"`), 412, "precondition_failed")
	if answer := w.ask("POST", target, "!", "If-Match", etag.Of("the scroll"), "Idempotency-Key", "once"); answer.Code != 200 {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	again := w.ask("POST", target, "!", "If-Match", etag.Of("the scroll"), "Idempotency-Key", "once")
	if again.Code != 200 || again.Body.String() != "Inserted 1 bytes" || again.Header().Get("X-SQ-Quota-Used") != "" {
		t.Errorf("%d %s %v", again.Code, again.Body, again.Header())
	}
	if got := w.ask("GET", third, "").Body.String(); got != "the scroll!" {
		t.Errorf("%q", got)
	}
}

// TestErrors become the right status, and leave nothing reserved.
func TestErrors(t *testing.T) {
	large := strings.Repeat("x", 1<<20+1)
	for _, test := range []struct {
		name           string
		prepare        func(w *world)
		method, target string
		body           string
		status         int
		code           string
	}{
		{"no such operation", nil, "GET", "/api/v2/nothing", "", 404, "not_found"},
		{"no such name", nil, "GET", "/api/v2/select?p=notes&c=a.name", "", 404, "not_found"},
		{"another method", nil, "DELETE", "/api/v2/toc", "", 405, "method_not_allowed"},
		{"another tenant", nil, "GET", "/mary/toc", "", 403, "forbidden"},
		{"a path as name", nil, "GET", "/api/v2/toc?p=../x", "", 403, "forbidden"},
		{"a bad coordinate", nil, "GET", "/api/v2/select?c=1.1.", "", 400, "bad_coordinate"},
		{"a delimiter", nil, "POST", "/api/v2/update?p=notes", "a\x17b", 400, "scroll_has_delimiters"},
		{"not UTF-8", nil, "POST", "/api/v2/update?p=notes", "caf\xe9", 400, "not_utf8"},
		{"too large", nil, "POST", "/api/v2/update?p=notes", large, 413, "too_large"},
		{"a file that is not UTF-8", func(w *world) { w.put("notes.phext", "caf\xe9") }, "GET", "/api/v2/toc?p=notes", "", 502, "backend_failed"},
		{"the quota", nil, "POST", "/api/v2/update?p=notes", large[:1<<20], 507, "quota_exceeded"},
		{"SQ fails", func(w *world) { w.sq.answers("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") }, "POST", "/api/v2/update?p=notes", "x", 502, "backend_failed"},
		{"too many inside", func(w *world) {
			for {
				leave, err := w.dir.Enter("")
				if err != nil {
					return
				}
				w.leave = append(w.leave, leave)
			}
		}, "GET", "/api/v2/toc?p=notes", "", 503, "unavailable"},
		{"no memory for a body", func(w *world) { w.Dirs.Bodies.Of("").Take(w.Dirs.Bodies.Limit()) }, "POST", "/api/v2/update?p=notes", large[:500000], 503, "unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"quota_mb": 1}})
			if test.prepare != nil {
				test.prepare(w)
			}
			answer := w.ask(test.method, test.target, test.body)
			w.wantError(answer, test.status, test.code)
			if answer.Header().Get("ETag") != "" || answer.Header().Get("X-SQ-Quota-Used") != "" {
				t.Errorf("%v", answer.Header())
			}
			if test.name == "no memory for a body" {
				w.Dirs.Bodies.Of("").Give(w.Dirs.Bodies.Limit())
			}
			for _, leave := range w.leave {
				leave()
			}
			w.wantAllFree()
			if !strings.Contains(w.requestLine(), "code="+test.code) {
				t.Error(w.requestLine())
			}
		})
	}
}

// TestRequestsLeave their place in the directory, however they end.
func TestRequestsLeave(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for range 600 { // more than may be inside at once
		for target, status := range map[string]int{third: 200, "/api/v2/select?p=notes&c=no.name": 404} {
			if answer := w.ask("GET", target, ""); answer.Code != status {
				t.Fatalf("%d %s", answer.Code, answer.Body)
			}
		}
	}
}

// TestCompressedAnswers asks as a client that takes gzip, and as others.
func TestCompressedAnswers(t *testing.T) {
	w := newWorld(t, options{readMemory: 4 << 20})
	w.put("large.phext", strings.Repeat(strings.Repeat("a line of text\x17", 500)+"\x18", 10))
	for target, kept := range map[string]bool{
		"/api/v2/toc?p=large": true, "/api/v2/get?p=large": true, "/api/v2/json-export?p=large": true,
		"/api/v2/list?p=large": false, "/api/v2/query?p=large&from=1.1.1/1.1.1/1.1.1&to=9.9.9/9.9.9/9.9.9": false,
	} {
		plain := w.ask("GET", target, "", "Accept-Encoding", "br, gzip;q=0.0")
		tag := plain.Header().Get("ETag")
		if plain.Code != 200 || plain.Header().Get("Content-Encoding") != "" || plain.Header().Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%s: %d %v", target, plain.Code, plain.Header())
		}
		for range 2 {
			answer := w.ask("GET", target, "", "Accept-Encoding", "br;q=1.0, GZIP ; q=0.8")
			h := answer.Header()
			text, err := gunzip(answer.Body)
			if err != nil || text != plain.Body.String() || h.Get("Content-Encoding") != "gzip" || h.Get("Vary") != "Accept-Encoding" ||
				h.Get("ETag") != strings.TrimSuffix(tag, `"`)+`-gzip"` || h.Get("Content-Length") == plain.Header().Get("Content-Length") {
				t.Errorf("%s: %v %v", target, err, h)
			}
			again := w.ask("GET", target, "", "Accept-Encoding", "gzip", "If-None-Match", h.Get("ETag"))
			if again.Code != 304 || again.Header().Get("Content-Encoding") != "" || w.ask("GET", target, "", "If-None-Match", h.Get("ETag")).Code != 304 {
				t.Errorf("%s: %d %v", target, again.Code, again.Header())
			}
		}
		stats := w.Dirs.Cache.Stats()
		w.ask("GET", target, "", "Accept-Encoding", "gzip")
		if now := w.Dirs.Cache.Stats(); now.Bytes != stats.Bytes || kept && now.Bytes < int64(plain.Body.Len()) {
			t.Errorf("%s: %+v, and then %+v", target, stats, now)
		}
	}
	for _, target := range []string{third, "/api/v2/toc?p=notes"} { // not worth it
		if h := w.ask("GET", target, "", "Accept-Encoding", "gzip").Header(); h.Get("Content-Encoding") != "" {
			t.Errorf("%s: %v", target, h)
		}
	}
	w.wantAllFree()
}

func gunzip(r io.Reader) (string, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}
