package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMemoryUnderAttack does at once all that once took gigabytes: parsed lists,
// answers that nobody takes, forged addresses, sparse archives, headers that do not end,
// and every operation on a phext of scrolls of one byte. It looks at the peak of
// sqgate's resident memory. Without SQTEST_MEMORY it only checks
// that the attacks are answered, since a build with -race takes several times
// the memory.
func TestMemoryUnderAttack(t *testing.T) {
	full := os.Getenv("SQTEST_MEMORY") != ""
	small, times, sizes := 1<<20, 2, []int{50_000}
	if full {
		// The cache keeps the first two, until others need its memory. The third it never keeps.
		small, times, sizes = 30<<20, 45, []int{2_000_000, 4_000_000, 5_000_000}
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		for _, scrolls := range sizes {
			t.Run(strconv.Itoa(scrolls), func(t *testing.T) {
				peak := attackMemory(t, sq, small, times, scrolls)
				t.Logf("at most %d MB", peak/1e6)
				if full && peak > 1e9 {
					t.Errorf("%d MB, which is more than a gigabyte", peak/1e6)
				}
			})
		}
	})
}

// attackMemory returns the peak in bytes.
func attackMemory(t *testing.T, sq string, small, times, scrolls int) int {
	g := newGate(t, sq, "will", "many")
	g.set("many", "allow_delimiters", true)
	g.writeFile()
	g.putManyScrolls(t, scrolls)
	g.client.Timeout = 3 * waitTimeout // a phext of millions of scrolls is parsed again and again
	g.start()
	var attackers sync.WaitGroup
	for range 24 {
		attackers.Go(func() { g.sendLists(t, times) })
	}
	attackers.Go(func() { g.leaveAnswers(t, small, times) })
	attackers.Go(func() { g.forgeAddresses(t, 50*times) })
	attackers.Go(func() { g.leaveHeaders(t, 132*times, "X: "+strings.Repeat("x", 60<<10)) })
	attackers.Go(func() { g.leaveHeaders(t, 4*times, manyFields(36_000)) })
	attackers.Go(func() { g.leaveHeaders(t, 33*times, manyFields(250)) })
	for range 4 {
		attackers.Go(func() { g.restoreSparse(t, times/2) })
	}
	for n := range 8 {
		attackers.Go(func() { g.useManyScrolls(t, n) })
	}
	attackers.Wait()
	g.must("will", "GET", "/api/v2/version", "", 200)
	return g.memory(t, "VmHWM:")
}

// putManyScrolls makes a phext of scrolls of one byte, each before a delimiter.
func (g *gate) putManyScrolls(t *testing.T, scrolls int) {
	t.Helper()
	section := strings.Repeat("x\x17", 500) + "\x18"
	chapter := strings.Repeat(section, 500) + "\x19"
	text := strings.Repeat(chapter, scrolls/250_000) + strings.Repeat(section, scrolls%250_000/500)
	dir := g.dataDir("many")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "many.phext"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// useManyScrolls makes half of all calls on that phext, beginning with the nth. What
// finds no room in memory is refused, what never finds any is refused for good, and what
// takes too long beside all that is given up.
func (g *gate) useManyScrolls(t *testing.T, n int) {
	calls := []struct{ method, target, body string }{
		{"GET", "/api/v2/toc?p=many", ""}, {"GET", "/api/v2/get?p=many", ""}, {"GET", at("select", "many", origin), ""},
		{"GET", "/api/v2/list?p=many", ""}, {"GET", "/api/v2/query?p=many&from=1.1.1/1.1.1/1.1.1&to=999.1.1/1.1.1/1.1.1", ""}, {"GET", "/api/v2/search?p=many&q=x", ""},
		{"GET", "/api/v2/json-export?p=many", ""}, {"POST", "/api/v2/delta?p=many", strings.Repeat("1.1.1/1.1.1/1.1.1: 0\n", 1000)},
		{"GET", "/api/v2/checksum?p=many", ""}, {"POST", "/api/v2/where", strings.Repeat("x\x17", 50_000)}, {"GET", "/api/v2/status?p=many", ""},
		{"POST", at("update", "many", origin), "y"}, {"POST", at("update", "many", "1.1.1/1.1.1/1.1.2"), "y\x17"},
	}
	for i := range len(calls)/2 + 1 {
		c := calls[(n+i)%len(calls)]
		if status, err := g.discard("many", c.method, c.target, c.body); err != nil || status != 200 && status != 413 && status != 503 && status != 504 {
			t.Errorf("%s: %v %d", c.target, err, status)
			return
		}
	}
}

// discard is do for an answer that is too large to be kept.
func (g *gate) discard(id, method, target, body string) (status int, err error) {
	req, err := http.NewRequest(method, g.url+target, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+g.key(id))
	res, err := g.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// sendLists sends bodies that are long lists: a delta manifest, JSON and a form.
func (g *gate) sendLists(t *testing.T, times int) {
	bodies := []struct{ target, contentType, body string }{
		{"/api/v2/delta?p=n", "text/plain", strings.Repeat("a: \n", 1<<20)},
		{"/api/v2/update", "application/json", "{" + strings.Repeat(`"a":1,`, 700_000) + `"b":1}`},
		{"/api/v2/update", "application/x-www-form-urlencoded", strings.Repeat("a=&", 1<<20)},
	}
	for n := range times {
		b := bodies[n%len(bodies)]
		req, err := http.NewRequest("POST", g.url+b.target, strings.NewReader(b.body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+g.key("will"))
		req.Header.Set("Content-Type", b.contentType)
		req.Header.Set("If-None-Match", strings.Repeat(`"x",`, 10_000))
		r, err := g.send(req)
		if err != nil || r.status != 200 && r.status != 400 && r.status != 413 && r.status != 503 {
			t.Errorf("%s of %s: %v %d %.200q", b.target, b.contentType, err, r.status, r.body)
			return
		}
	}
}

// leaveAnswers updates a large scroll again and again, and asks for it each time
// on a connection from which it reads only the status.
func (g *gate) leaveAnswers(t *testing.T, size, times int) {
	taken := 0
	for n := range times {
		text := strings.Repeat(string(rune('a'+n%26)), size)
		if r, err := g.do("will", "POST", at("update", "large", origin), text); err != nil || r.status != 200 && r.status != 503 {
			t.Errorf("update: %v %d %.200q", err, r.status, r.body)
			return
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: sqgate\r\nAuthorization: Bearer %s\r\n\r\n", at("select", "large", origin), g.key("will"))
		status, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
		switch {
		case err != nil:
			t.Error(err)
			return
		case strings.Contains(status, " 200 "):
			taken++
		case !strings.Contains(status, " 503 "):
			t.Errorf("select: %s", status)
		}
	}
	if taken == 0 {
		t.Error("no answer was begun")
	}
}

// forgeAddresses sends wrong keys from addresses with long zones.
func (g *gate) forgeAddresses(t *testing.T, times int) {
	zone := strings.Repeat("z", 60<<10)
	for n := range times {
		req, err := http.NewRequest("GET", g.url+"/api/v2/toc", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer of-nobody-at-all")
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("fe80::%x%%%s", n, zone))
		if r, err := g.send(req); err != nil || r.status != 401 && r.status != 429 && r.status != 503 {
			t.Errorf("forged address: %v %d %.200q", err, r.status, r.body)
			return
		}
	}
}

// leaveHeaders opens connections, sends the beginning of a header on each, and waits
// for what becomes of them. Meanwhile a client with large fields is served.
func (g *gate) leaveHeaders(t *testing.T, connections int, beginning string) {
	var all []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(waitTimeout))                                     // a TCP connection takes deadlines
		_, _ = io.WriteString(conn, "GET /api/v2/toc HTTP/1.1\r\nHost: sqgate\r\n"+beginning) // it may be refused in the middle
		all = append(all, conn)
	}
	req, err := http.NewRequest("GET", g.url+"/api/v2/version", nil)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+strings.Repeat("k", 4<<10))
	req.Header.Set("Cookie", strings.Repeat("c", 8<<10))
	for until := time.Now().Add(waitTimeout); ; {
		r, err := g.send(req)
		if err == nil && r.status == 503 && time.Now().Before(until) {
			continue // where it came in several packets, it may have to be sent again
		}
		if err != nil || r.status != 200 {
			t.Errorf("beside headers that do not end: %v %d %.200q", err, r.status, r.body)
		}
		break
	}
	for _, conn := range all {
		answer, _ := io.ReadAll(conn) // it may be reset
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 431 ")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 503 ")) {
			t.Errorf("a header that does not end: %.80q", answer)
			return
		}
	}
}

// manyFields is a number of short header lines with different names.
func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// restoreSparse restores from an archive that says that it holds 2 GB of zeros.
func (g *gate) restoreSparse(t *testing.T, times int) {
	for range times {
		req, err := http.NewRequest("POST", g.url+"/api/v2/admin/tenants/will/restore?dry_run=true", bytes.NewReader(sparseTar(2<<30)))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set("Content-Type", "application/x-tar")
		if r, err := g.send(req); err != nil || r.status != 400 && r.status != 413 && r.status != 503 {
			t.Errorf("sparse archive: %v %d %.200q", err, r.status, r.body)
			return
		}
	}
}

// sparseTar is a tar with one entry in PAX's sparse format 0.1: so many bytes,
// of which none is sent.
func sparseTar(size int64) []byte {
	var records strings.Builder
	for _, r := range [][2]string{{"GNU.sparse.size", strconv.FormatInt(size, 10)}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.map", fmt.Sprintf("%d,0", size)}} {
		body := fmt.Sprintf(" %s=%s\n", r[0], r[1])
		n := len(body) + len(strconv.Itoa(len(body)+2))
		fmt.Fprintf(&records, "%d%s", n, body)
	}
	block := func(name string, flag byte, size int) []byte {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000600\x00")
		copy(b[124:], fmt.Sprintf("%011o\x00", size))
		copy(b[136:], "00000000000\x00")
		copy(b[148:], "        ")
		b[156] = flag
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	padded := make([]byte, 512)
	copy(padded, records.String())
	return bytes.Join([][]byte{block("x", 'x', records.Len()), padded, block("big.phext", '0', 0), make([]byte, 1024)}, nil)
}
