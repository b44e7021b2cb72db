package proxy

import (
	"bytes"
	"context"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/strictjson"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/changes"
)

const (
	jsonLines   = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// Limits of those who listen for changes.
const (
	mostStreams  = 4096                   // in all, see memlimit.Shares; one tenant may have half of them
	heartbeat    = 15 * time.Second       // after so long in which nothing was sent, so that a dead connection ends
	checkStreams = 500 * time.Millisecond // how often it is looked whether they may still listen
	streamsPart  = 60                     // all together take one in so many parts of the processors
	toSend       = 30 * time.Microsecond  // what it takes to send a part
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
		err = g.allows(r, call)
	}
	if err != nil {
		return err
	}
	s := &stream{request: r, access: info.access, ended: make(chan struct{}), endless: strings.Contains(r.Header.Get("Accept"), eventStream)}
	if !g.streams.enter(s) {
		return errTooManyStreams
	}
	defer g.streams.leave(s)
	since := call.Changes.Since
	if last := r.Header.Get("Last-Event-ID"); s.endless && last != "" {
		since = last
	}
	s.feed, err = g.Changes.Open(info.client, info.tenant, changes.Selection{Call: call, Since: since, FromNow: s.endless, UpToNow: !s.endless}, info.turn)
	if err != nil {
		return err
	}
	g.streams.begin(s)
	h := w.Header()
	h.Set("Content-Type", jsonLines)
	h.Set("X-SQ-Cursor", s.feed.Now())
	if s.endless {
		h.Set("Content-Type", eventStream)
		h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	}
	w.WriteHeader(http.StatusOK)
	s.w, s.out = w, http.NewResponseController(w)
	g.setWriteDeadline(w, 0)
	err = s.out.Flush() // the first change may be far from the cursor; and HEAD is a POST between hosts, whose answer would get a Content-Length
	if r.Method == http.MethodHead {
		return nil
	}
	if err == nil {
		g.send(s)
	}
	if !s.whole && !s.endless {
		panic(http.ErrAbortHandler) // else it would look like all there is
	}
	return nil
}

// send sends changes until all are sent or, if it is endless, until somebody ends it.
//
// An event without data, which has a cursor, comes at once: a client that loses the
// connection has a cursor from the first moment. It comes again after each heartbeat, so
// that the cursor does not get old while there is nothing for this client. When it comes
// does not depend on changes that the client is not shown.
func (g *Gateway) send(s *stream) {
	turn, ctx := infoOf(s.request).turn, infoOf(s.request).client
	wait := time.NewTimer(heartbeat)
	defer wait.Stop()
	var due time.Time // when something has to be sent
	for {
		news := s.feed.News() // before the changes are read, so that none is missed
		var more, sent bool
		var worked time.Duration
		var err error
		apart(func() {
			out := &bytes.Buffer{}
			if s.endless && !time.Now().Before(due) {
				out.WriteString("id: " + s.feed.Cursor() + "\n\n")
			}
			more, worked, err = s.feed.Next(ctx, turn, func(c changes.Change) { s.append(out, &c) })
			if sent = err == nil && out.Len() > 0; sent {
				err = g.sendPart(s, out.Bytes())
			}
		})
		if err != nil {
			return // the client comes back with its cursor, and is told why
		}
		if sent {
			due = time.Now().Add(heartbeat)
		}
		s.whole = !more && !s.endless
		switch {
		case s.whole:
			return
		case !s.endless: // it comes to an end, so it does not pause: its work waits for its turns
			if s.over(g, ctx) {
				return
			}
		case worked > 0 && !s.sleep(g, ctx, wait, g.streams.pauseAfter(s, worked+toSend)):
			return
		}
		if more {
			continue
		}
		wait.Reset(time.Until(due))
		select {
		case <-news:
		case <-wait.C:
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-g.streams.ending:
			return
		}
	}
}

// apart does work on another stack, which goes with it. Otherwise each listener would keep
// the large one that it needs now and then.
func apart(work func()) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		work()
	}()
	if <-done; panicked != nil {
		panic(panicked)
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

// over says whether the stream has to end.
func (s *stream) over(g *Gateway, ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-s.ended:
	case <-g.streams.ending:
	default:
		return false
	}
	return true
}

// append appends a change as the client wants it.
func (s *stream) append(out *bytes.Buffer, c *changes.Change) {
	if s.endless {
		out.WriteString("id: " + c.ID + "\ndata: ")
	}
	strictjson.WriteLine(out, c)
	if s.endless {
		out.WriteByte('\n')
	}
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
	whole   bool          // all was sent that was asked for
	ended   chan struct{} // closed when it may not listen any more
	once    sync.Once
	toldIn  time.Time // the period in which it was last told of changes
}

// streams are all who listen.
type streams struct {
	ending chan struct{} // closed when all are to end
	once   sync.Once

	mu     sync.Mutex
	places *memlimit.Shares      // of streams, with those that have not begun
	each   map[string]*listeners // by tenant
	all    map[*stream]struct{}  // that have begun
	period time.Time             // when it began: it takes as long as a heartbeat
	told   lately                // tenants whose streams were told of changes
}

// listeners are the streams of one tenant.
type listeners struct {
	inside int
	told   lately // streams that were told of changes
}

// lately is a number of this period and of the one before.
type lately struct{ now, before int }

func (l *lately) most() int { return max(l.now, l.before) }
func (l *lately) next()     { *l = lately{before: l.now} }

func newStreams() *streams {
	return &streams{ending: make(chan struct{}), places: memlimit.NewShares(mostStreams, mostStreams/2), all: map[*stream]struct{}{}, each: map[string]*listeners{}}
}

// enter takes a place, which leave gives back.
func (s *streams) enter(one *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.each[one.caller.ID]
	if of == nil {
		of = &listeners{}
	}
	if !s.places.Of(one.caller.ID).Take(1) {
		return false
	}
	s.each[one.caller.ID] = of
	of.inside++
	return true
}

func (s *streams) leave(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, one)
	s.places.Of(one.caller.ID).Give(1)
	s.each[one.caller.ID].inside--
	s.forget(one.caller.ID)
}

// forget lets go of a tenant that nothing is to be known of any more. Until then, one whose
// listeners come and go counts once.
func (s *streams) forget(id string) {
	if of := s.each[id]; of.inside == 0 && of.told == (lately{}) {
		delete(s.each, id)
	}
}

// begin has one ended when it may not listen any more. It has its feed.
func (s *streams) begin(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[one] = struct{}{}
}

// pauseAfter is how long one waits after it was served. The more there are that were told
// of changes lately, the longer it is, so that all together take a small part of the
// processors, and what happens meanwhile goes together. Each tenant has an equal share of
// that part, so that one's listeners do not slow those of another.
func (s *streams) pauseAfter(one *stream, worked time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.period) >= heartbeat {
		s.period = now
		s.told.next()
		for id, of := range s.each {
			of.told.next()
			s.forget(id)
		}
	}
	of := s.each[one.caller.ID]
	if one.toldIn != s.period {
		one.toldIn = s.period
		if of.told.now++; of.told.now == 1 {
			s.told.now++
		}
	}
	return min(heartbeat, worked*streamsPart*time.Duration(of.told.most()*s.told.most())/time.Duration(runtime.GOMAXPROCS(0)))
}

// untilEnding is ctx until all streams are to end, the client leaves, or leave is called.
func (s *streams) untilEnding(ctx, client context.Context) (_ context.Context, leave func()) {
	ctx, leave = context.WithCancel(ctx)
	go func() {
		defer leave()
		select {
		case <-s.ending:
		case <-client.Done():
		case <-ctx.Done():
		}
	}()
	return ctx, leave
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
		if !g.stillMay(s) {
			s.once.Do(func() { close(s.ended) })
		}
	}
}

// stillMay says whether a stream may go on.
func (g *Gateway) stillMay(s *stream) bool {
	now, err := g.identify(s.request, g.now(), nil)
	return err == nil && !s.feed.Moved() && reflect.DeepEqual(now.scope, s.scope) && sameTenant(now.caller, s.caller) && sameTenant(now.tenant, s.tenant)
}
