package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/turnstest"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// change journals a write as the writer does, without SQ.
func (w *world) change(file string, at phext.Coordinate, text string) {
	w.Helper()
	j, err := w.Dirs.JournalOf(w.dir)
	w.check(err)
	m := journal.Mutation{File: file, Op: journal.Update, At: at, Text: text, Tenant: w.tenantNamed("will").UniqueID(), Key: "key", ETag: `"tag"`, Size: int64(len(text))}
	now, err := journal.ReadState(nil, w.path(file))
	w.check(err)
	p, err := j.Begin(m, func() (journal.State, error) { return now, nil })
	w.check(err)
	w.put(file, now.After(m).Text)
	id, err := fsutil.Identify(w.path(file))
	w.check(err)
	w.check(p.Done(id))
	p.Announce()
}

// onePipe is a net.Listener with one connection, whose deadlines are those of the test's
// clock.
type onePipe struct {
	conn chan net.Conn
	done chan struct{}
}

func (l onePipe) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l onePipe) Close() error   { close(l.done); return nil }
func (l onePipe) Addr() net.Addr { return &net.UnixAddr{} }

// listenOverAPipe has a client listen to changes until stop is called. Nothing is buffered
// between both: what the client does not read, it does not take. answered is closed when
// nobody serves it any more.
func (w *world) listenOverAPipe(token string) (client net.Conn, answered chan struct{}, stop func()) {
	w.streams = newStreams() // whose channels are of this synctest bubble
	client, conn := net.Pipe()
	l := onePipe{make(chan net.Conn, 1), make(chan struct{})}
	l.conn <- conn
	answered, ended := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		defer close(answered)
		w.Handler().ServeHTTP(to, r)
	})}
	go func() { defer close(ended); _ = server.Serve(l) }() // it returns when it is closed
	_, err := io.WriteString(client, "GET /api/v2/changes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\nAccept: text/event-stream\r\n\r\n")
	w.check(err)
	return client, answered, func() {
		w.check(client.Close())
		w.check(server.Shutdown(context.Background()))
		<-ended
	}
}

// TestAListenerLearnsNothingOfOthers has a key for some scrolls listen while others are
// written, and while nothing is. It must get the same at the same times.
func TestAListenerLearnsNothingOfOthers(t *testing.T) {
	inside, outside := phext.Coordinate{2, 3, 1, 1, 1, 1, 1, 1, 1}, phext.Origin()
	var got [2]string
	for i := range got {
		w := newWorld(t, options{tenant: map[string]any{"keys": []any{guest("read", []string{"notes"}, "2.3")}}})
		w.check(w.dir.Recover(t.Context()))
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			client, answered, stop := w.listenOverAPipe(guestKey)
			var seen strings.Builder
			reading := make(chan struct{})
			go func() {
				defer close(reading)
				in := bufio.NewScanner(client)
				for in.Scan() {
					line := in.Text()
					if kind, _, ok := strings.Cut(line, ": "); ok { // a header, an id or data, which are never the same
						line = fmt.Sprint(kind, " ", len(line))
					}
					fmt.Fprintln(&seen, time.Since(began).Round(time.Second), line)
				}
			}()
			for n := range 20 { // for 80 seconds
				time.Sleep(4 * time.Second)
				if i == 1 {
					w.change("notes.phext", outside, fmt.Sprint("text ", n))
					w.change("others.phext", inside, fmt.Sprint("text ", n))
				}
				if n == 10 {
					w.change("notes.phext", inside, "seen")
				}
			}
			w.EndStreams()
			<-answered
			synctest.Wait()
			stop()
			<-reading
			got[i] = seen.String()
		})
	}
	if got[0] != got[1] || strings.Count(got[0], "data") != 1 || strings.Count(got[0], "id") < 6 {
		t.Errorf("a listener gets, while nothing is written outside its scope:\n%s\nand while something is:\n%s", got[0], got[1])
	}
}

// TestASlowReaderIsCutOff takes nothing of what it is told. It must not keep its place.
func TestASlowReaderIsCutOff(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	w.change("notes.phext", phext.Origin(), "before")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		client, answered, stop := w.listenOverAPipe(key)
		defer stop()
		synctest.Wait()
		w.streams.mu.Lock()
		n := len(w.streams.all)
		w.streams.mu.Unlock()
		if n != 1 {
			t.Fatalf("%d listen", n)
		}
		<-answered
		if took := time.Since(began); took < 29*time.Second || took > 32*time.Second {
			t.Errorf("it was cut off after %v", took)
		}
		if _, err := io.Copy(io.Discard, client); err != nil {
			t.Error(err)
		}
	})
}

// TestHEADOfChanges answers like a GET, at whichever host.
func TestHEADOfChanges(t *testing.T) {
	_, a, b, _ := twoHosts(t, options{})
	for _, accept := range []string{jsonLines, eventStream} {
		for _, w := range []*world{b, a} {
			r := w.ask("HEAD", "/api/v2/changes", "", "Accept", accept)
			h := r.Header()
			if r.Code != 200 || h.Get("Content-Type") != accept || h.Get("X-SQ-Cursor") == "" || h.Values("Content-Length") != nil || r.Body.Len() > 0 {
				t.Errorf("%d %v %q", r.Code, h, r.Body)
			}
		}
	}
}

// TestAListenerHearsOfItsScrolls writes in each form that there is, and listens with keys
// for some of the scrolls.
func TestAListenerHearsOfItsScrolls(t *testing.T) {
	for prefix, want := range map[string][]string{
		"docs":  {"update docs.one 3", "insert docs.one 5", "update docs.one 4", "update docs.one 4", "delete docs.one 0"},
		"2.3":   {"update 2.3.1/1.1.1/1.1.1 1", "replace  0"},
		"2.3.1": {"update 2.3.1/1.1.1/1.1.1 1", "replace  0"},
		"1.1.1": {"update 1.1.1/1.1.1/1.1.1 1", "replace  0"},
		"2.1":   {},
	} {
		w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"allow_delimiters": true, "keys": []any{guest("read", nil, prefix)}}})
		place := rewrite.FirstNamed().String() // of docs.one
		for _, step := range []struct{ method, target, body string }{
			{"POST", "/api/v2/update?p=notes&c=docs.one", "one"},
			{"POST", "/api/v2/insert?p=notes&c=" + place, "+1"},
			{"POST", "/api/v2/update?p=notes&c=" + place, "two!"},
			{"PUT", "/api/v2/write/docs.one?p=notes", "four"},
			{"POST", "/api/v2/update?p=notes&c=others.two", "x"},
			{"POST", "/api/v2/update?p=notes&c=2.3.1/1.1.1/1.1.1", "a"},
			{"POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "b"},
			{"POST", "/api/v2/update?p=notes&c=2.3.1/1.1.1/1.1.1", "c\x17d\x18e"},
			{"POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", strings.Repeat("f", 600<<10) + "\x1ag"},
			{"POST", "/api/v2/delete?p=notes&c=" + place, ""},
		} {
			if r := w.ask(step.method, step.target, step.body); r.Code != 200 {
				t.Fatalf("%s: %d %s", step.target, r.Code, r.Body)
			}
		}
		if got := w.told(guestKey); !slices.Equal(got, want) {
			t.Errorf("the key for %s is told of %q, want %q", prefix, got, want)
		}
		if prefix != "docs" {
			continue
		}
		want = []string{"update docs.one 3", "insert docs.one 5", "update docs.one 4", "update docs.one 4", "update others.two 1", "update 2.3.1/1.1.1/1.1.1 1", "update 1.1.1/1.1.1/1.1.1 1"}
		all := w.told(key)
		if len(all) != 10 || !slices.Equal(all[:7], want) || !strings.HasPrefix(all[7], "replace  ") || all[7] == "replace  0" || all[9] != "delete docs.one 0" {
			t.Errorf("the tenant's key is told of %q", all)
		}
	}
}

// told are the changes of which a key is told.
func (w *world) told(token string) (all []string) {
	w.Helper()
	r := w.ask("GET", "/api/v2/changes", "", "Authorization", "Bearer "+token)
	for line := range strings.Lines(r.Body.String()) {
		var c struct {
			Op, C string
			Size  int64
		}
		w.check(json.Unmarshal([]byte(line), &c))
		all = append(all, fmt.Sprint(c.Op, " ", c.C, " ", c.Size))
	}
	return all
}

// callForChanges is a call of changes of all phexts, as will's key makes it.
func (w *world) callForChanges() *rewrite.Call {
	w.Helper()
	head, err := rewrite.ParseHead("GET", "/api/v2/changes", "", rewrite.Tenant{ID: "will"})
	w.check(err)
	call, err := head.Call(nil)
	w.check(err)
	return call
}

// TestAPollEndsWhereItBegan, however much is written meanwhile.
func TestAPollEndsWhereItBegan(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	const first = 3
	for i := range first {
		w.change("notes.phext", phext.Origin(), fmt.Sprint(i))
	}
	feed, err := w.Changes.Open(t.Context(), w.tenantNamed("will"), changes.Selection{Call: w.callForChanges(), UpToNow: true}, nil)
	w.check(err)
	cursor := feed.Now()
	w.change("notes.phext", phext.Origin(), "later")
	seen := 0
	for more := true; more; {
		more, _, err = feed.Next(t.Context(), nil, func(changes.Change) { seen++ })
		w.check(err)
	}
	if seen != first {
		t.Errorf("%d changes", seen)
	}
	if r := w.ask("GET", "/api/v2/changes?since="+cursor, ""); strings.Count(r.Body.String(), "\n") != 1 {
		t.Errorf("and then %s", r.Body)
	}
}

// TestAPollDoesNotPause, unlike those who listen on: what it does waits for its turns instead.
// Its headers do not wait for a change.
func TestAPollDoesNotPause(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	const n = 200
	for i := range n {
		w.change("notes.phext", phext.Origin(), fmt.Sprint(i))
	}
	if r := w.ask("GET", "/api/v2/changes", ""); strings.Count(r.Body.String(), "\n") != n || len(w.streams.each) > 0 {
		t.Errorf("%d lines; %d tenants have one that pauses", strings.Count(r.Body.String(), "\n"), len(w.streams.each))
	}
	if r := w.ask("GET", "/api/v2/changes?p=none", ""); !r.Flushed || r.Body.Len() > 0 {
		t.Errorf("without a change: %v, %s", r.Flushed, r.Body)
	}
	for phext, want := range map[string]int{"": 6 * n << 10 / fairqueue.Piece, "p=none": 2 * n << 10 / fairqueue.Piece} {
		head, err := rewrite.ParseHead("GET", "/api/v2/changes", phext, rewrite.Tenant{ID: "will"})
		w.check(err)
		call, err := head.Call(nil)
		w.check(err)
		feed, err := w.Changes.Open(t.Context(), w.tenantNamed("will"), changes.Selection{Call: call, UpToNow: true}, nil)
		w.check(err)
		turns := turnstest.Count(t, func(ctx context.Context) {
			for more := true; more; {
				more, _, err = feed.Next(ctx, fairqueue.FromContext(ctx), func(changes.Change) {})
				w.check(err)
			}
		})
		if turns < want {
			t.Errorf("%q: %d turns, want %d", phext, turns, want)
		}
	}
}

// TestChangesAreReadInTurns: otherwise nothing keeps those who poll again and again from
// taking the processors.
func TestChangesAreReadInTurns(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	w.change("notes.phext", phext.Origin(), "text")
	queue, err := fairqueue.New(1)
	w.check(err)
	defer func() { w.check(queue.Close()) }()
	turn, other := queue.Turn("will"), queue.Turn("other")
	feed, err := w.Changes.Open(t.Context(), w.tenantNamed("will"), changes.Selection{Call: w.callForChanges(), UpToNow: true}, turn)
	w.check(err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = feed.Next(t.Context(), turn, func(changes.Change) {
		if other.Take(over) == nil {
			t.Error("a change is told without the turn")
		}
	})
	w.check(err)
	w.check(other.Take(t.Context()))
	other.Give()
}

// TestAPollThatIsCutIsNotWhole: a client goes on from the cursor in the header of an answer,
// which is behind everything.
func TestAPollThatIsCutIsNotWhole(t *testing.T) {
	w := newWorld(t, options{})
	w.check(w.dir.Recover(t.Context()))
	for i := range 200 {
		w.change("notes.phext", phext.Origin(), fmt.Sprint(i))
	}
	w.EndStreams()
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("it ended as if it were whole: %v", v)
		}
	}()
	w.ask("GET", "/api/v2/changes", "")
}

// TestOneTenantsListenersKeepNobodyWaiting, however many they are and whatever they read.
func TestOneTenantsListenersKeepNobodyWaiting(t *testing.T) {
	dir := t.TempDir()
	shared := map[string]any{"id": "eve", "api_key": "key-of-eve-is-long", "data_dir": dir, "shared_data_dir": true}
	w := newWorld(t, options{tenant: map[string]any{"data_dir": dir, "shared_data_dir": true}, others: append(neighbours(t.TempDir()), shared)})
	w.dir = w.Dirs.Of(dir)
	w.check(w.dir.Recover(t.Context()))
	w.change("will.notes.phext", phext.Origin(), "text")
	open := func(id string) *changes.Feed {
		feed, err := w.Changes.Open(t.Context(), w.tenantNamed(id), changes.Selection{Call: w.callForChanges()}, nil)
		w.check(err)
		return feed
	}
	reading, goOn := make(chan bool, 8), make(chan bool)
	ended := make(chan error, 8)
	for range cap(ended) {
		feed := open("will")
		go func() {
			_, _, err := feed.Next(t.Context(), nil, func(changes.Change) {
				reading <- true
				<-goOn
			})
			ended <- err
		}()
	}
	<-reading
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, id := range []string{"other", "eve"} {
		if _, _, err := open(id).Next(ctx, nil, func(changes.Change) {}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	close(goOn)
	for range cap(ended) {
		w.check(<-ended)
	}
}

// TestPauses are longer the more listeners of one tenant were told of changes, and not
// longer for those of another.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreams()
		listener := func(id string) *stream {
			one := &stream{access: access{caller: &tenants.Tenant{ID: id}}}
			if !s.enter(one) {
				t.Fatal("there is no place")
			}
			return one
		}
		const work = time.Microsecond
		lone := listener("b")
		alone := s.pauseAfter(lone, work)
		many := make([]*stream, 1000)
		for i := range many {
			many[i] = listener("a")
		}
		if again := s.pauseAfter(lone, work); again != alone {
			t.Errorf("%v beside listeners that are told nothing, and %v alone", again, alone)
		}
		var last time.Duration
		for _, one := range many {
			last = s.pauseAfter(one, work)
		}
		if beside := s.pauseAfter(lone, work); beside > 2*alone || last != 2*alone*time.Duration(len(many)) {
			t.Errorf("%v beside many, each of which pauses %v; %v alone", beside, last, alone)
		}
		time.Sleep(3 * heartbeat)
		s.pauseAfter(lone, work)
		time.Sleep(heartbeat)
		if again := s.pauseAfter(lone, work); again != alone {
			t.Errorf("%v long after they were told, and %v alone", again, alone)
		}
		for range 100 { // one whose listener comes and goes
			one := listener("c")
			s.pauseAfter(one, work)
			s.leave(one)
		}
		if beside := s.pauseAfter(lone, work); beside != 2*alone {
			t.Errorf("%v beside one that comes and goes, and %v alone", beside, alone)
		}
		for _, one := range append(many, lone) {
			s.leave(one)
		}
		one := listener("d")
		for range 3 {
			time.Sleep(heartbeat)
			s.pauseAfter(one, work)
		}
		if s.places.Used() != 1 || len(s.each) != 1 {
			t.Errorf("%d are inside, of %d tenants", s.places.Used(), len(s.each))
		}
	})
}
