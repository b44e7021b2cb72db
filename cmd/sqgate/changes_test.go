package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// seenChange is a change as a client gets it.
type seenChange struct {
	ID, Phext, Op, C, ETag, Key string
	Size                        int64
	Time                        time.Time
}

func (c seenChange) String() string { return fmt.Sprint(c.Phext, " ", c.Op, " ", c.C, " ", c.Size) }

// changes are those that GET changes has.
func (g *gate) changes(id, query string) (all []seenChange) {
	g.t.Helper()
	return parseChanges(g.t, g.get(id, "/api/v2/changes"+query))
}

func parseChanges(t *testing.T, text string) (all []seenChange) {
	t.Helper()
	for line := range strings.Lines(text) {
		var c seenChange
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, c)
	}
	return all
}

func wantChanges(t *testing.T, what string, got []seenChange, want ...string) {
	t.Helper()
	var texts []string
	for _, c := range got {
		texts = append(texts, c.String())
	}
	if g, w := strings.Join(texts, "\n"), strings.Join(want, "\n"); g != w {
		t.Fatalf("%s:\n%s\nwant\n%s", what, g, w)
	}
}

// listener reads server-sent events of changes.
type listener struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Scanner
	last string // the cursor of the last event
}

// listen opens a stream. It sends no cursor if last is "".
func (g *gate) listen(id, query, last string) *listener {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.base()+"/api/v2/changes"+query, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.key(id))
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		g.t.Fatalf("%d %s", resp.StatusCode, resp.Header)
	}
	g.t.Cleanup(func() { _ = resp.Body.Close() })
	l := &listener{t: g.t, resp: resp, in: bufio.NewScanner(resp.Body)}
	l.id()
	return l
}

// id reads the event without data with which a stream begins.
func (l *listener) id() {
	l.t.Helper()
	for l.in.Scan() {
		if id, ok := strings.CutPrefix(l.in.Text(), "id: "); ok {
			l.last = id
			return
		}
	}
	l.t.Fatal("the stream has no cursor: ", l.in.Err())
}

// next waits for a change. It returns false at the end of the stream.
func (l *listener) next() (c seenChange, ok bool) {
	for l.in.Scan() {
		if id, isID := strings.CutPrefix(l.in.Text(), "id: "); isID {
			l.last = id
		}
		if data, isData := strings.CutPrefix(l.in.Text(), "data: "); isData {
			if err := json.Unmarshal([]byte(data), &c); err != nil || c.ID != l.last {
				l.t.Fatalf("%q with id %q: %v", data, l.last, err)
			}
			return c, true
		}
	}
	return c, false
}

func (l *listener) want(what, want string) seenChange {
	l.t.Helper()
	c, ok := l.next()
	if !ok || c.String() != want {
		l.t.Fatalf("%s: %v %v, want %s", what, c, ok, want)
	}
	return c
}

func TestChanges(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "emi")
		wantChanges(t, "nothing was done", g.changes("will", ""))
		cursor := g.must("will", "GET", "/api/v2/changes", "", 200).header.Get("X-SQ-Cursor")
		l := g.listen("will", "", "")
		notes := g.listen("will", "?p=notes", "")
		put := g.must("will", "POST", at("update", "notes", origin), "hello", 200)
		first := l.want("an update", "notes update "+origin+" 5")
		if first.ETag == "" || first.ETag != put.header.Get("ETag") || first.Key == "" || time.Since(first.Time) > waitTimeout {
			t.Errorf("%+v, and the write had %s", first, put.header.Get("ETag"))
		}
		add := g.must("will", "POST", at("insert", "notes", origin), " world", 200)
		if c := l.want("an insert", "notes insert "+origin+" 11"); c.ETag != add.header.Get("ETag") {
			t.Errorf("%+v, and the write had %s", c, add.header.Get("ETag"))
		}
		g.must("emi", "POST", at("update", "hers", origin), "secret", 200)
		g.must("will", "POST", at("update", "other", "my.name"), "x", 200)
		l.want("a write by name", "other update my.name 1")
		if r, err := g.do("will", "POST", at("update", "notes", origin)+"&c=1.1.1/1.1.1/1.1.2", "refused"); err != nil || r.status != 400 {
			t.Fatal(r, err)
		}
		g.must("will", "POST", at("delete", "notes", origin), "", 200)
		l.want("a delete", "notes delete "+origin+" 0")
		file := filepath.Join(g.dataDir("will"), "notes.phext")
		if err := os.WriteFile(file, []byte("by hand"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("will", "POST", at("insert", "notes", origin), "!", 200)
		l.want("an edit by hand", "notes edited  7")
		l.want("the write after it", "notes insert "+origin+" 8")
		all := []string{"notes update " + origin + " 5", "notes insert " + origin + " 11", "other update my.name 1", "notes delete " + origin + " 0", "notes edited  7", "notes insert " + origin + " 8"}
		wantChanges(t, "all", g.changes("will", ""), all...)
		wantChanges(t, "since before", g.changes("will", "?since="+cursor), all...)
		wantChanges(t, "since the first", g.changes("will", "?since="+first.ID), all[1:]...)
		wantChanges(t, "of one phext", g.changes("will", "?p=other"), all[2])
		wantChanges(t, "since the last", g.changes("will", "?since="+l.last))
		for i, want := range all {
			if i != 2 {
				notes.want("of one phext", want)
			}
		}
		g.stop()
		if c, ok := l.next(); ok {
			t.Errorf("after the stop: %v", c)
		}
		if err := l.in.Err(); err != nil {
			t.Errorf("the stream did not end in order: %v", err)
		}
		g.start()
		wantChanges(t, "after a restart", g.changes("will", "?since="+first.ID), all[1:]...)
		l = g.listen("will", "?since="+first.ID, l.last)
		g.must("will", "POST", at("update", "notes", origin), "again", 200)
		l.want("after a restart", "notes update "+origin+" 5")
	})
}

func TestChangesCursors(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi")
		g.args = append(g.args, "--history", "0")
		g.start()
		g.must("will", "POST", at("update", "notes", origin), "hello", 200)
		g.must("emi", "POST", at("update", "notes", origin), "hello", 200)
		wills, hers := g.changes("will", "")[0].ID, g.changes("emi", "")[0].ID
		for _, since := range []string{"x", hers, wills[:len(wills)-1], strings.ToLower(wills)} {
			if r := g.must("will", "GET", "/api/v2/changes?since="+since, "", 410); !strings.Contains(r.body, `"cursor_expired"`) {
				t.Errorf("since %s: %s", since, r.body)
			}
		}
		g.must("", "GET", "/api/v2/changes", "", 401)
		g.must("will", "POST", "/api/v2/changes", "", 405)
		// A segment that is long enough ends, and without a history it goes.
		for i := range 6 {
			g.must("will", "POST", at("update", "notes", origin), strings.Repeat(fmt.Sprint(i), 1<<20), 200)
		}
		if r := g.must("will", "GET", "/api/v2/changes?since="+wills, "", 410); !strings.Contains(r.body, `"cursor_expired"`) {
			t.Error(r.body)
		}
		if got := g.changes("will", ""); len(got) == 0 || len(got) > 5 {
			t.Errorf("%d changes are left", len(got))
		}
	})
}

// TestChangesEndWithTheRight disables a tenant and takes a key away while somebody listens.
func TestChangesEndWithTheRight(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "emi")
		will, emi := g.listen("will", "", ""), g.listen("emi", "", "")
		g.set("will", "enabled", false)
		g.set("emi", "api_key", "another-key-of-emi")
		began := time.Now()
		g.writeFile()
		for _, l := range []*listener{will, emi} {
			if c, ok := l.next(); ok || l.in.Err() != nil {
				t.Errorf("%v %v", c, l.in.Err())
			}
		}
		t.Logf("both ended after %v", time.Since(began))
	})
}

// TestChangesWithABucket keeps a cursor over a crash, and not over the loss of the disk.
func TestChangesWithABucket(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g, _ := startWithBucket(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "one", 200)
		first := g.changes("will", "")[0]
		g.must("will", "POST", at("update", "n", origin), "two 2", 200)
		g.kill()
		g.start()
		g.awaitOwner("will")
		g.must("will", "POST", at("update", "n", origin), "three 3", 200)
		wantChanges(t, "after a crash", g.changes("will", "?since="+first.ID), "n update "+origin+" 5", "n update "+origin+" 7")
		last := g.changes("will", "")
		g.vanish("will", g.kill)
		g.must("will", "GET", "/api/v2/changes?since="+last[len(last)-1].ID, "", 410)
		l := g.listen("will", "", "")
		g.must("will", "POST", at("update", "n", origin), "four", 200)
		l.want("on a new disk", "n update "+origin+" 4")
	})
}

// TestChangesInASharedDirectory shows each tenant its own, as it named them.
func TestChangesInASharedDirectory(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi")
		for _, id := range []string{"will", "emi"} {
			g.set(id, "shared_data_dir", true)
			g.set(id, "data_dir", filepath.Join(g.dir, "data", "shared"))
		}
		g.writeFile()
		g.start()
		l := g.listen("will", "", "")
		g.must("emi", "POST", at("update", "notes", origin), "hers", 200)
		g.must("will", "POST", at("update", "notes", origin), "his", 200)
		c := l.want("the own one", "notes update "+origin+" 3")
		g.must("emi", "GET", "/api/v2/changes?since="+c.ID, "", 410)
		wantChanges(t, "hers", g.changes("emi", ""), "notes update "+origin+" 4")
	})
}

// TestRestoreIsAChange restores a phext while somebody listens.
func TestRestoreIsAChange(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "as it was", 200)
		then := g.changes("will", "")[0].Time
		g.must("will", "POST", at("update", "n", origin), "later", 200)
		l := g.listen("will", "", "")
		g.manage("POST", "tenants/will/restore", fmt.Sprintf(`{"phext":"n","at":%q}`, then.Format(time.RFC3339Nano)), 200)
		l.want("a restore", "n replace  9")
		g.must("will", "POST", at("update", "n", origin), "after it", 200)
		l.want("a write after it", "n update "+origin+" 8")
	})
}

// raceEnabled says that this build takes several times the memory.
var raceEnabled bool

// TestChangesMemory opens a thousand streams, and looks at what they take of sqgate's
// memory once each was told of a write.
func TestChangesMemory(t *testing.T) {
	t.Parallel()
	const streams, most = 1000, 40 << 20
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "before", 200)
	before := g.memory(t, "RssAnon:")
	request := "GET /api/v2/changes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + g.key("will") + "\r\nAccept: text/event-stream\r\n\r\n"
	conns := make([]net.Conn, streams)
	for i := range conns {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.base(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(waitTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	await := func(text string) {
		t.Helper()
		for i, conn := range conns {
			var seen []byte
			for b := make([]byte, 4096); !strings.Contains(string(seen), text); {
				n, err := conn.Read(b)
				if err != nil {
					t.Fatalf("stream %d: %q: %v", i, seen, err)
				}
				seen = append(seen, b[:n]...)
			}
		}
	}
	await("id: ")
	g.must("will", "POST", at("update", "n", origin), "a write", 200)
	await(`"size":7`)
	took := g.memory(t, "RssAnon:") - before
	t.Logf("%d streams take %.1f MB", streams, float64(took)/(1<<20))
	if took > most && !raceEnabled {
		t.Errorf("%d streams take %d bytes, and %d are the most", streams, took, most)
	}
}

// TestChangesPaths answers each form of the path as a stream.
func TestChangesPaths(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for i, path := range []string{"/api/v2/changes", "/changes", "/will/changes", "/t/will/api/v2/changes", "/api/v2/changes/", "//changes//", "/api/v2/change%73"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", g.base()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+g.key("will"))
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		l := &listener{t: t, resp: resp, in: bufio.NewScanner(resp.Body)}
		l.id()
		for n := range 2 {
			text := strings.Repeat("x", 1+2*i+n)
			g.must("will", "POST", at("update", "n", origin), text, 200)
			l.want(path, fmt.Sprint("n update ", origin, " ", len(text)))
		}
		_ = resp.Body.Close() // all that was wanted was read
	}
}
