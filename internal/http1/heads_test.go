package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/memlimit"
)

// lines is a number of different short header lines.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X%d:\r\n", i)
	}
	return b.String()
}

// TestLargeHeadersTakeMemory opens connections with large headers that do not end,
// and looks at what they hold to the byte.
func TestLargeHeadersTakeMemory(t *testing.T) {
	const limit = 1 << 20
	all, taken := memlimit.NewBudget(limit), make(chan bool)
	free := func() (n int64) { // what is not held, found by taking it
		for step := int64(limit); step > 0; step /= 2 {
			if all.Take(step) {
				n += step
			}
		}
		all.Give(n)
		return n
	}
	serving, goOn := make(chan bool), make(chan bool)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		serving <- true
		<-goOn
		_, _ = io.WriteString(w, "ok")
	}, func(c *Config) {
		c.HeaderMemory = func(net.Addr) []*memlimit.Budget { close(taken); return []*memlimit.Budget{all} }
	})
	head := "GET /a HTTP/1.1\r\nHost: a\r\n" + lines(100) + "\r\n"
	c := s.dial(t)
	c.send(head)
	<-serving
	<-taken
	want := int64(limit - len(head)*textMemory - 102*fieldMemory)
	if got := free(); got != want {
		t.Errorf("while it is served, %d are free, not %d", got, want)
	}
	goOn <- true
	c.expect(200, "ok")
	c.send("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n") // net/http has the next request: the one before is over
	<-serving
	if got := free(); got != limit {
		t.Errorf("after its answer, %d are free", got)
	}
	goOn <- true
	c.expect(200, "ok")
	c.send(head)
	<-serving
	if got := free(); got != want {
		t.Errorf("the second time, %d are free, not %d", got, want)
	}
	goOn <- true
	c.expect(200, "ok")
	c.Close()
	s.stop(t)
	if got := free(); got != limit {
		t.Errorf("after the end, %d are free", got)
	}
}

// TestHeadersThatAreWaitedFor take memory from less on, and are refused at once if there is
// none, whoever reads them. What comes whole is served all the same, and so is what is small.
func TestHeadersThatAreWaitedFor(t *testing.T) {
	all, full := memlimit.NewBudget(40<<10), make(chan bool)
	all.OnLevel(30<<10, sync.OnceFunc(func() { close(full) }))
	s := serveWith(t, echo, func(c *Config) {
		c.HeaderMemory = func(net.Addr) []*memlimit.Budget { return []*memlimit.Budget{all} }
	})
	start := "GET /a HTTP/1.1\r\nHost: a\r\n"
	part, small := start+"X: "+strings.Repeat("x", 10<<10), start+"X: x"
	first := s.dial(t)
	first.send(part)
	<-full // it is waited for by net/http, and takes three times its size
	kept := s.dial(t)
	kept.send("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n")
	kept.expect(200, "DELETE /a  ")
	for _, c := range []*client{s.dial(t), kept} {
		c.send(part)
		r, _ := c.answer()
		c.is(r, 503)
		isEarly(t, r, "unavailable")
		c.expectEnd()
		c.Close()
	}
	whole, rest := s.dial(t), s.dial(t)
	whole.send(part + "\r\n\r\n")
	whole.expect(200, "GET /a  ")
	n := s.rest.Load()
	rest.send(small)
	rest.send("\r\n\r\n")
	rest.expect(200, "GET /a  ")
	first.send("\r\n\r\n")
	first.expect(200, "GET /a  ")
	if s.rest.Load() <= n {
		t.Error("the first one was not waited for by net/http")
	}
	first.Close()
	s.stop(t)
	if all.Above(0) > 0 {
		t.Errorf("%d bytes are not given back", all.Above(0))
	}
}

// TestHeadersWhoseBodyIsWaitedFor take memory from less on, too. What comes with its body is
// served all the same, and so is what is small.
func TestHeadersWhoseBodyIsWaitedFor(t *testing.T) {
	all, serving := memlimit.NewBudget(40<<10), make(chan bool)
	s := serveWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("First") != "" {
			close(serving)
		}
		echo(w, r)
	}, func(c *Config) {
		c.HeaderMemory = func(net.Addr) []*memlimit.Budget { return []*memlimit.Budget{all} }
	})
	start := "POST /not-here HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
	large := start + "X: " + strings.Repeat("x", 10<<10) + "\r\n"
	first := s.dial(t)
	first.send(large + "First: 1\r\n\r\na")
	<-serving
	for _, part := range []string{"", "a"} {
		c := s.dial(t)
		c.send(large + "\r\n" + part)
		r, _ := c.answer()
		c.is(r, 503)
		isEarly(t, r, "unavailable")
		c.expectEnd()
		c.Close()
	}
	for _, head := range []string{large, start + lines(partFields-2)} {
		c := s.dial(t)
		c.send(head + "\r\nabc")
		c.expect(200, "POST /not-here  abc")
	}
	small := s.dial(t)
	small.send(start + lines(partFields-2) + "\r\na")
	small.send("bc")
	small.expect(200, "POST /not-here  abc")
	first.send("bc")
	first.expect(200, "POST /not-here  abc")
	s.stop(t)
	if all.Above(0) > 0 {
		t.Errorf("%d bytes are not given back", all.Above(0))
	}
}

// TestHeadersThatAreTooLarge are refused before the handler sees them; small ones are
// served, though nothing is left for large ones.
func TestHeadersThatAreTooLarge(t *testing.T) {
	s := serveWith(t, echo, func(c *Config) {
		c.Fallback.MaxHeaderBytes = 64 << 10
		c.HeaderMemory = func(net.Addr) []*memlimit.Budget { return []*memlimit.Budget{memlimit.NewBudget(100 << 10)} }
	})
	start := "GET /a HTTP/1.1\r\nHost: a\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
	}{
		"a key of 4 KiB and cookies": {start + "Authorization: Bearer " + strings.Repeat("k", 4<<10) + "\r\nCookie: " + strings.Repeat("c", 8<<10) + "\r\n" + lines(60), 200},
		"the most small fields":      {start + lines(smallFields-1), 200},
		"more":                       {start + lines(100), 200},
		"the most fields":            {start + lines(mostFields-1), 200},
		"too many":                   {start + lines(mostFields), 431},
		"far too many":               {start + lines(20_000), 431},
		"one name too often":         {start + strings.Repeat("a:\r\n", mostFields), 431},
		"a line that has room":       {"GET /a?s=" + strings.Repeat("s", 30<<10) + " HTTP/1.1\r\nHost: a\r\n", 200},
		"one that has none":          {"GET /a?s=" + strings.Repeat("s", 60<<10) + " HTTP/1.1\r\nHost: a\r\n", 503},
		"a field that has none":      {start + "X: " + strings.Repeat("x", 60<<10) + "\r\n", 503},
	} {
		t.Run(name, func(t *testing.T) {
			for _, first := range []string{"", "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n"} {
				client := s.dial(t)
				if first != "" {
					client.send(first)
					client.expect(200, "DELETE /a  ")
				}
				client.send(c.head + "\r\n")
				r, body := client.answer()
				client.is(r, c.status)
				if c.status != 200 {
					if !r.Close || !strings.HasPrefix(body, `{"error":"`) || r.Header.Get("Content-Type") != "application/json" || (r.Header.Get("Retry-After") == "1") != (c.status == 503) {
						t.Errorf("%v %q", r.Header, body)
					}
					isEarly(t, r, map[int]string{431: "header_too_large", 503: "unavailable"}[c.status])
					client.expectEnd()
				}
			}
		})
	}
	for name, head := range map[string]string{
		"long":  "GET /a HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 69<<10),
		"short": "GET /a HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a:\r\n", mostFields),
	} {
		c := s.dial(t)
		c.send(head) // it does not end
		if r, _ := c.answer(); r.StatusCode != 431 && r.StatusCode != 503 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
}

// isEarly expects the headers of all of sqgate's answers.
func isEarly(t *testing.T, r *http.Response, code string) {
	t.Helper()
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*", "X-Request-Id": "id of " + code} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// TestNothingIsReadPastARequest sends several requests at once: each header is
// counted from its first byte.
func TestNothingIsReadPastARequest(t *testing.T) {
	s := serve(t, echo)
	for name, before := range map[string]string{
		"no body":       "DELETE /1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"a body":        post("/1", "0123456789"),
		"a large body":  post("/1", strings.Repeat("b", 20<<10)),
		"an empty body": post("/1", ""),
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t)
			c.send(before + "GET /2 HTTP/1.1\r\nHost: a\r\n" + lines(mostFields) + "\r\n")
			if r, _ := c.answer(); r.StatusCode != 200 {
				t.Errorf("the first: %d", r.StatusCode)
			}
			r, _ := c.answer()
			c.is(r, 431)
		})
	}
	t.Run("chunks", func(t *testing.T) {
		c := s.dial(t)
		c.send("POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n" + lines(mostFields) + "\r\n")
		if r := c.expect(200, "POST /1  a"); !r.Close {
			t.Error("the connection is kept")
		}
		c.expectEnd()
	})
}

var framings = []struct {
	lines  string // behind "POST /a HTTP/1.1\r\n"
	status int
}{
	{"Host: a\r\nContent-Length: 5\r\n\r\nhello", 200},
	{"Host: a\r\nContent-Length: \t5 \r\n\r\nhello", 200},
	{"Host: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello", 200},
	{"Host: a\r\nContent-Length: 005\r\n\r\nhello", 200},
	{"Host: a\nContent-Length: 5\n\nhello", 200},
	{"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200},
	{"Host: a\r\nTRANSFER-ENCODING:Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200},
	{"Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 0, 5\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: +5\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: -5\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 0x5\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 5 0\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length:\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 9223372036854775808\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length:" + strings.Repeat(" ", 2*lineBeginning) + "0\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length : 0\r\n\r\nhello", 400},
	{"Host: a\r\n Content-Length: 0\r\n\r\nhello", 400},
	{"Host: a\r\nX: y\r\n\tContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length:\r\n 0\r\n\r\nhello", 400},
	{"Host: a\r\nContent-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nContent-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: identity\r\n\r\nhello", 400},
	{"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding:\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400},
	{"Host: a\rContent-Length: 0\r\n\r\nhello", 400},
	{"Host: a\r\nX: \x00\r\nContent-Length: 5\r\n\r\nhello", 400},
}

// TestRequestsWithUnclearEnds never reach the handler, on a new connection and on one
// that net/http has. Over HTTP/1.0 there are no chunks.
func TestRequestsWithUnclearEnds(t *testing.T) {
	s, refused := serve(t, echo), int64(0)
	for _, version := range []string{"1.1", "1.0"} {
		for _, f := range framings {
			want := f.status
			chunks := strings.Contains(strings.ToLower(f.lines), "transfer-encoding")
			if version == "1.0" && chunks {
				want = 400
			}
			for _, first := range []string{"", "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n"} {
				c := s.dial(t)
				if first != "" {
					c.send(first)
					c.expect(200, "DELETE /a  ")
				}
				c.send("POST /a HTTP/" + version + "\r\n" + f.lines)
				r, body := c.answer()
				if r.StatusCode != want || want == 200 && body != "POST /a  hello" {
					t.Errorf("HTTP/%s %q after %.6q: %d %q, want %d", version, f.lines, first, r.StatusCode, body, want)
				}
				if want != 200 {
					c.expectEnd()
				}
				if want == 400 && strings.Contains(body, "not clear") {
					isEarly(t, r, "bad_request")
					refused++
				}
			}
		}
	}
	if got := s.refused.Load(); refused == 0 || got != refused {
		t.Errorf("told of %d refusals, not %d", got, refused)
	}
}

// FuzzFraming shows that requests begin and end where net/http says, unless they are
// unclear.
func FuzzFraming(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r.text), 3)
	}
	for _, r := range framings {
		f.Add([]byte("POST /a HTTP/1.1\r\n"+r.lines), 1)
		f.Add([]byte("POST /a HTTP/1.0\r\n"+r.lines), 50)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		in := bytes.NewReader(b)
		buffered := bufio.NewReader(in)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			return
		}
		size := len(b) - in.Len() - buffered.Buffered() // of the header
		var framed framing
		got := 0
		for framed.last.size == 0 && got < len(b) {
			got += framed.advance(b[got:min(len(b), got+max(1, piece))])
		}
		if head := framed.last; !head.unclear && (r.ProtoAtLeast(1, 1) || !head.chunked) {
			chunked := len(r.TransferEncoding) > 0
			if got != size || head.size != size || head.chunked != chunked || !chunked && r.ContentLength != head.length && r.ContentLength != -1 {
				t.Errorf("net/http: %d bytes, body %d, %q; here: %d, %+v", size, r.ContentLength, r.TransferEncoding, got, head)
			}
		} else if framed.body != endless {
			t.Errorf("it goes on: %+v", framed)
		}
	})
}
