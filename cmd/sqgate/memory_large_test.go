package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// largePhext is a phext of a few scrolls that hardly fits into memory once, and what is
// done with it. Without SQTEST_MEMORY, it is only too large for --read-memory.
type largePhext struct {
	*gate
	*testing.T
	scroll  int // bytes of one
	scrolls int
	peak    uint64 // of sqgate's memory, in bytes
}

// TestMemoryOfLargePhexts has tenants write, read, back up, restore and recover phexts that
// hardly fit into memory. docs/operations.md says what a host needs for that.
func TestMemoryOfLargePhexts(t *testing.T) {
	full := os.Getenv("SQTEST_MEMORY") != ""
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "bob", "carol", "dave", "erin", "frank")
		l := &largePhext{g, t, 1<<20 + 1, 8, 0}
		if full {
			l.scroll = 58 << 20
		} else {
			g.args = append(g.args, "--read-memory", "4MiB")
		}
		g.start()
		for i := range l.scrolls {
			l.update("will", "huge", i, 'a')
		}
		before := time.Now().UTC()
		l.update("will", "huge", 1, 'b')
		l.read()
		l.note("one large phext")
		l.neighbours()
		l.note("six tenants that write")
		l.discard("GET", "/api/v2/admin/tenants/will/backup", "", adminKey)
		l.restart("backup")
		l.restore(fmt.Sprintf(`{"at":%q,"phext":"huge","coordinate":"1.1.1/1.1.1/1.1.2"}`, before.Format(time.RFC3339Nano)))
		l.want(1, 'a')
		l.restart("restore of a scroll")
		l.restore(fmt.Sprintf(`{"at":%q,"phext":"huge"}`, time.Now().UTC().Format(time.RFC3339Nano)))
		l.restart("restore of the phext")
		l.killWhileWriting()
		l.want(0, 'c', 'a')
		l.note("recovery")
		if full && l.peak > 1e9 {
			t.Errorf("%d MB, which is more than a gigabyte", l.peak/1e6)
		}
	})
}

// note looks at the peak so far.
func (l *largePhext) note(what string) {
	peak := l.memory(l.T, "VmHWM:")
	l.peak = max(l.peak, uint64(peak))
	l.Logf("%s: at most %d MB", what, peak/1e6)
}

func (l *largePhext) restart(what string) {
	l.note(what)
	l.stop()
	l.start()
}

// again sends a request until there is memory for it, and returns what has come.
func (l *largePhext) again(method, target, body, key string) (status int, begin string) {
	tick := time.NewTicker(time.Second / 10) // what Retry-After asks for would take the test too long
	defer tick.Stop()
	for until := time.Now().Add(3 * waitTimeout); ; <-tick.C {
		req, err := http.NewRequest(method, l.url+target, strings.NewReader(body))
		if err != nil {
			l.Error(err)
			return 0, ""
		}
		req.Header.Set("Authorization", "Bearer "+key)
		client := http.Client{Timeout: 3 * waitTimeout, Transport: l.client.Transport}
		resp, err := client.Do(req)
		if err != nil {
			l.Errorf("%s: %v", target, err)
			return 0, ""
		}
		first := make([]byte, 200)
		n, _ := io.ReadFull(resp.Body, first) // it may be shorter
		length, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.ContentLength >= 0 && resp.ContentLength != length+int64(n) {
			l.Errorf("%s: %v after %d of %d bytes", target, err, length+int64(n), resp.ContentLength)
		}
		if resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(until) {
			return resp.StatusCode, string(first[:n])
		}
	}
}

func (l *largePhext) discard(method, target, body, key string) {
	l.Helper()
	if status, begin := l.again(method, target, body, key); status != 200 {
		l.Errorf("%s %s: %d %.200q", method, target, status, begin)
	}
}

func (l *largePhext) coordinate(i int) string { return fmt.Sprintf("1.1.1/1.1.1/1.1.%d", i+1) }

func (l *largePhext) update(id, phext string, i int, text byte) {
	l.Helper()
	l.discard("POST", at("update", phext, l.coordinate(i)), string(bytes.Repeat([]byte{text}, l.scroll)), l.key(id))
}

// want compares the beginning of a scroll.
func (l *largePhext) want(i int, one ...byte) {
	l.Helper()
	_, begin := l.again("GET", at("select", "huge", l.coordinate(i)), "", l.key("will"))
	for _, b := range one {
		if begin == strings.Repeat(string(b), 200) {
			return
		}
	}
	l.Errorf("scroll %d begins with %.20q, want %q", i, begin, one)
}

// read makes all reads at once, some of which write the whole phext.
func (l *largePhext) read() {
	var clients sync.WaitGroup
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/api/v2/toc?p=huge", ""}, {"GET", "/api/v2/get?p=huge", ""}, {"GET", "/api/v2/json-export?p=huge", ""},
		{"POST", "/api/v2/delta?p=huge", "1.1.1/1.1.1/1.1.1: 0\n"}, {"GET", "/api/v2/checksum?p=huge", ""}, {"GET", at("select", "huge", l.coordinate(3)), ""},
		{"GET", "/api/v2/list?p=huge", ""}, {"GET", "/api/v2/query?p=huge&from=1.1.1/1.1.1/1.1.1&to=1.1.1/1.1.1/1.1.9", ""}, {"GET", "/api/v2/status?p=huge", ""},
	} {
		clients.Go(func() { l.discard(c.method, c.target, c.body, l.key("will")) })
	}
	clients.Wait()
}

// neighbours write large scrolls, all at once.
func (l *largePhext) neighbours() {
	var clients sync.WaitGroup
	for _, id := range []string{"will", "bob", "carol", "dave", "erin", "frank"} {
		clients.Go(func() {
			for n := range 3 {
				l.update(id, "neighbour", n%2, byte('a'+n))
			}
		})
	}
	clients.Wait()
}

func (l *largePhext) restore(target string) {
	l.Helper()
	l.discard("POST", "/api/v2/admin/tenants/will/restore", target, adminKey)
}

// killWhileWriting kills sqgate when SQ has begun to write, and starts it again.
func (l *largePhext) killWhileWriting() {
	path := filepath.Join(l.dataDir("will"), "huge.phext")
	was, err := os.Stat(path)
	if err != nil {
		l.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequest("POST", l.url+at("update", "huge", l.coordinate(0)), bytes.NewReader(bytes.Repeat([]byte("c"), l.scroll)))
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+l.key("will"))
		if resp, err := (&http.Client{Timeout: waitTimeout}).Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(l.T, "SQ writes", func() bool {
		now, err := os.Stat(path)
		return err != nil || !os.SameFile(was, now) || now.Size() != was.Size()
	})
	l.kill()
	<-ended
	l.start()
}
