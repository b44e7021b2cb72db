package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/tenants"
)

const (
	jsonLines   = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// Limits of those who listen for changes.
const (
	mostStreams    = 4096                   // in all; one tenant may have half of them
	heartbeat      = 15 * time.Second       // after so long without a change, so that a dead connection ends
	checkStreams   = 500 * time.Millisecond // how often it is looked whether they may still listen
	streamsPerTime = time.Millisecond       // all together are served about once in it
)

var errTooManyStreams = apierror.RetryIn(10*time.Second, apierror.Unavailable, "too many listen for changes already: try again later")

// serveChanges answers with what was done to phexts: as JSON lines up to now, or as
// server-sent events from then on too. It holds no place in the directory and no turn
// while it waits. An error is returned only while nothing was written to w.
func (g *Gateway) serveChanges(w http.ResponseWriter, r *http.Request, head *rewrite.Head) error {
	info := infoOf(r)
	info.meter.turn = nil // it is taken for the work alone
	call, err := head.Call(nil)
	if err == nil {
		err = info.allows(call)
	}
	if err != nil {
		return err
	}
	s := &stream{request: r, access: info.access, ended: make(chan struct{}), endless: strings.Contains(r.Header.Get("Accept"), eventStream)}
	since := call.Changes.Since
	if last := r.Header.Get("Last-Event-ID"); s.endless && last != "" {
		since = last
	}
	s.feed, err = g.Changes.Open(info.client, info.tenant, changes.Selection{Call: call, Since: since, FromNow: s.endless}, info.turn)
	if err != nil {
		return err
	}
	if !g.streams.add(s) {
		return errTooManyStreams
	}
	defer g.streams.remove(s)
	h := w.Header()
	h.Set("Content-Type", jsonLines)
	h.Set("X-SQ-Cursor", s.feed.Now())
	if s.endless {
		h.Set("Content-Type", eventStream)
		h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		s.w, s.out = w, http.NewResponseController(w)
		g.send(s)
	}
	return nil
}

// send sends changes until all are sent or, if it is endless, until somebody ends it.
func (g *Gateway) send(s *stream) {
	turn, ctx := infoOf(s.request).turn, infoOf(s.request).client
	wait := time.NewTimer(heartbeat)
	defer wait.Stop()
	text := []byte{}
	if s.endless { // an event without data: a client that loses the connection before the first one has a cursor
		text = []byte("id: " + s.feed.Cursor() + "\n\n")
	}
	for {
		news := s.feed.News() // before the changes are read, so that none is missed
		all, more, err := s.feed.Next(ctx, turn)
		if err != nil {
			return // the client comes back with its cursor, and is told why
		}
		text = s.append(text, all)
		if len(text) > 0 && g.sendPart(s, text) != nil || !more && !s.endless {
			return
		}
		text = nil
		if more && !s.isOver(g) {
			continue
		}
		if len(all) > 0 && !s.sleep(g, ctx, wait, g.streams.pause()) {
			return
		}
		wait.Reset(heartbeat)
		select {
		case <-news:
		case <-wait.C:
			text = []byte(":\n\n")
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-g.streams.ending:
			return
		}
	}
}

// isOver says whether somebody has ended the stream.
func (s *stream) isOver(g *Gateway) bool {
	select {
	case <-s.ended:
		return true
	case <-g.streams.ending:
		return true
	default:
		return false
	}
}

// sleep waits, and says whether the stream goes on.
func (s *stream) sleep(g *Gateway, ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.ended:
	case <-g.streams.ending:
	}
	return false
}

// append appends changes as the client wants them.
func (s *stream) append(text []byte, all []changes.Change) []byte {
	out := bytes.NewBuffer(text)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for i := range all {
		if s.endless {
			out.WriteString("id: " + all[i].ID + "\ndata: ")
		}
		_ = lines.Encode(&all[i]) // a Buffer takes everything
		if s.endless {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// sendPart sends a part to a client, which has to take it in time.
func (g *Gateway) sendPart(s *stream, text []byte) error {
	g.setWriteDeadline(s.w, len(text))
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.out.Flush()
}

// stream is one who listens.
type stream struct {
	request *http.Request
	access
	endless bool
	feed    *changes.Feed
	w       http.ResponseWriter
	out     *http.ResponseController
	ended   chan struct{} // closed when it may not listen any more
}

// streams are all who listen.
type streams struct {
	ending chan struct{} // closed when all are to end
	once   sync.Once

	mu   sync.Mutex
	all  map[*stream]struct{}
	each map[string]int // by tenant
}

func newStreams() *streams {
	return &streams{ending: make(chan struct{}), all: map[*stream]struct{}{}, each: map[string]int{}}
}

func (s *streams) add(one *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := one.caller.ID; len(s.all) >= mostStreams || s.each[id] >= mostStreams/2 {
		return false
	}
	s.all[one] = struct{}{}
	s.each[one.caller.ID]++
	return true
}

func (s *streams) remove(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, one)
	if s.each[one.caller.ID]--; s.each[one.caller.ID] == 0 {
		delete(s.each, one.caller.ID)
	}
}

// pause is how long one waits after it was served. The more there are, the more changes
// go with one part, so that all together take a small part of the processors.
func (s *streams) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(len(s.all)) * streamsPerTime
}

// EndStreams ends all that listen for changes, now and from now on. It may be called again.
func (g *Gateway) EndStreams() { g.streams.once.Do(func() { close(g.streams.ending) }) }

// KeepStreams ends those whose key or tenant may not listen any more, and those of a
// directory that another host may have, until ctx ends.
func (g *Gateway) KeepStreams(ctx context.Context) {
	tick := time.NewTicker(checkStreams)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.checkStreams()
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gateway) checkStreams() {
	g.streams.mu.Lock()
	all := make([]*stream, 0, len(g.streams.all))
	for s := range g.streams.all {
		all = append(all, s)
	}
	g.streams.mu.Unlock()
	for _, s := range all {
		if !s.isOver(g) && !g.stillMay(s) {
			close(s.ended) // by nobody else
		}
	}
}

// stillMay says whether a stream may go on.
func (g *Gateway) stillMay(s *stream) bool {
	now, err := g.identify(s.request, g.now())
	return err == nil && !s.feed.Moved() && now.rights == s.rights && sameTenant(now.caller, s.caller) && sameTenant(now.tenant, s.tenant)
}

// sameTenant says whether a tenant is enabled, and has the phexts that it had.
func sameTenant(now, was *tenants.Tenant) bool {
	return now != nil && now.Enabled && now.UniqueID() == was.UniqueID() && now.DataDir == was.DataDir && now.SharedDataDir == was.SharedDataDir
}
