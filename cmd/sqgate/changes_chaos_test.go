package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/etag"
)

// changeWriter writes one text after the other, at one coordinate, and remembers what
// became of each.
type changeWriter struct {
	target string
	wrote  []wroteText
}

type wroteText struct {
	etag    string
	refused bool
	unknown bool
}

func (w *changeWriter) write(g *gate, stop <-chan struct{}, round, writer int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		text := fmt.Sprintf("round %d writer %d number %d", round, writer, n)
		r, err := g.do("will", "POST", "/api/v2/update?p="+w.target, text)
		one := wroteText{etag: etag.Of(text), unknown: err != nil || r.status == 500 || r.status == 504}
		one.refused = !one.unknown && r.status != 200
		w.wrote = append(w.wrote, one)
		if err != nil {
			return
		}
	}
}

// chaosListener keeps what it is told, and comes back from its last cursor.
type chaosListener struct {
	seen  []seenChange
	last  string
	comes int
}

// listen reads until it has seen the text with this tag, or stop is closed. Now and then it leaves.
func (l *chaosListener) listen(g *gate, r *rand.Rand, until string) error {
	for {
		if done, err := l.once(g, 1+r.IntN(60), until); done || err != nil {
			return err
		}
	}
}

// once is one connection, of which at most so many changes are read. Only an answer that
// is no stream, while sqgate serves, is an error.
func (l *chaosListener) once(g *gate, most int, until string) (done bool, err error) {
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.base()+"/api/v2/changes?since="+l.last, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+g.key("will"))
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, g.t.Context().Err() // it is killed
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 && resp.StatusCode != 503 {
		return false, fmt.Errorf("%s from the cursor %s", resp.Status, l.last)
	}
	l.comes++
	in := bufio.NewScanner(resp.Body)
	id := l.last
	for n := 0; n < most && in.Scan(); {
		data, isData := strings.CutPrefix(in.Text(), "data: ")
		switch {
		case strings.HasPrefix(in.Text(), "id: "):
			id = in.Text()[len("id: "):]
		case in.Text() == "": // the event is whole, with data or without
			l.last = id
		case isData:
			var c seenChange
			if json.Unmarshal([]byte(data), &c) != nil {
				return false, nil // it was cut off in the middle
			}
			n++
			l.seen, l.last = append(l.seen, c), c.ID
			if c.ETag == until {
				return true, nil
			}
		}
	}
	return false, nil
}

// TestChangesChaos kills SQ and sqgate with SIGKILL while writers write and listeners come
// and go. What each listener saw must be every acknowledged write once and in order, none
// that was refused, and no other than those without an answer.
func TestChangesChaos(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		g := newGate(t, sq, "will")
		dir := g.dataDir("will")
		path := filepath.Join(dir, "large.phext")
		ballast := strings.Repeat(strings.Repeat("b", 8<<10)+"\x18", 800)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x\x17"+strings.TrimSuffix(ballast, "\x18")), 0o666); err != nil {
			t.Fatal(err)
		}
		g.start()
		writers := []*changeWriter{
			{target: "large&c=1.1.1/1.1.1/1.900.1"}, {target: "large&c=1.1.1/1.1.1/1.900.2"}, {target: "large&c=1.1.1/1.1.1/1.900.3"},
			{target: "large&c=a.name"}, {target: "other&c=" + origin},
		}
		const end = "the last text of all"
		until := etag.Of(end)
		listeners := make([]*chaosListener, 4)
		var listening sync.WaitGroup
		for i := range listeners {
			l := &chaosListener{last: g.must("will", "GET", "/api/v2/changes", "", 200).header.Get("X-SQ-Cursor")}
			listeners[i] = l
			lr := rand.New(rand.NewPCG(seed, uint64(i)))
			listening.Go(func() {
				if err := l.listen(g, lr, until); err != nil {
					t.Errorf("seed %d, listener %d: %v", seed, i, err)
				}
			})
		}
		for round := range chaosRounds(t, sq) {
			stop := make(chan struct{})
			var writing sync.WaitGroup
			setModeOfRound(t, path, round)
			for i, w := range writers {
				writing.Go(func() { w.write(g, stop, round, i) })
			}
			strike(t, g, dir, path, r.IntN(3))
			close(stop)
			writing.Wait()
			if g.cmd.ProcessState != nil || len(g.exited) > 0 {
				g.wait()
				g.start()
			}
		}
		g.must("will", "POST", "/api/v2/update?p="+writers[0].target, end, 200)
		listening.Wait()
		all := 0
		for i, l := range listeners {
			if i > 0 && !slices.EqualFunc(l.seen, listeners[0].seen, func(a, b seenChange) bool { a.ID, b.ID = "", ""; return a == b }) {
				t.Errorf("seed %d: listener %d saw %d changes, and the first one %d, or in another order", seed, i, len(l.seen), len(listeners[0].seen))
			}
		}
		for i, w := range writers {
			place := map[string]int{}
			for n, one := range w.wrote {
				place[one.etag] = n
			}
			next := 0 // all before it were seen, or need not be
			for _, c := range listeners[0].seen {
				n, its := place[c.ETag]
				if !its {
					continue
				}
				all++
				if w.wrote[n].refused || n < next {
					t.Fatalf("seed %d, writer %d: the refused text %d, or one again or too late, after %d: %v", seed, i, n, next, c)
				}
				for ; next < n; next++ {
					if !w.wrote[next].refused && !w.wrote[next].unknown {
						t.Fatalf("seed %d, writer %d: the acknowledged text %d was not told", seed, i, next)
					}
				}
				next = n + 1
			}
			for ; next < len(w.wrote); next++ {
				if !w.wrote[next].refused && !w.wrote[next].unknown {
					t.Fatalf("seed %d, writer %d: the acknowledged text %d was not told", seed, i, next)
				}
			}
		}
		for _, c := range listeners[0].seen {
			if c.Op == "edited" {
				all++ // by setModeOfRound
			} else if c.Op != "update" {
				t.Errorf("seed %d: nobody did %v", seed, c)
			}
		}
		if others := len(listeners[0].seen) - all - 1; others != 0 {
			t.Errorf("seed %d: %d changes were nobody's writes", seed, others)
		}
		t.Logf("%d changes, and the first listener came %d times", len(listeners[0].seen), listeners[0].comes)
	})
}
