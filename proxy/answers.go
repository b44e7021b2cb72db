package proxy

import (
	"net/http"
	"sync"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
)

// keptKinds are the answers that are kept once they were made. status names the
// phext as the client does, delta is one client's own, and a scroll is there
// already.
var keptKinds = map[rewrite.Op]cache.Kind{
	rewrite.Toc:        cache.Toc,
	rewrite.JSONExport: cache.JSONExport,
	rewrite.Get:        cache.Get,
	rewrite.ChecksumOf: cache.Checksum,
}

// readKept answers with what is kept of a phext, or is kept from now on.
//
// What is kept is in --read-memory, together with its page. What is being made
// is in g.answers. What is being sent is there too, whether it is kept or not,
// since its page may be let go meanwhile: but once, however many it is sent to.
func (g *Gateway) readKept(w http.ResponseWriter, r *http.Request, d *dir, v view, call *rewrite.Call) error {
	a, err := g.pages.Answer(call.FilePath(d.path), v.page, v.names, keptKinds[call.Op], func() (*cache.Rendered, error) {
		return g.makeAnswer(v, call)
	})
	if err != nil {
		return err
	}
	if !g.outgoing.begin(a) {
		return errBusy
	}
	defer g.outgoing.end(a)
	if call.Op == rewrite.JSONExport {
		w.Header().Set("Content-Type", jsonType)
	}
	g.writeTagged(w, r, a.Text, a.Tag)
	return nil
}

func (g *Gateway) makeAnswer(v view, call *rewrite.Call) (*cache.Rendered, error) {
	room := min(sizeOfAnswer(v, call), g.answers.limit)
	if !g.answers.take(room) {
		return nil, errBusy
	}
	defer g.answers.give(room)
	text := rendered(v, call)
	return &cache.Rendered{Text: text, Tag: tagOf(text)}, nil
}

// outgoing counts answers that are being sent, each once, as that much of a budget.
type outgoing struct {
	of *budget
	mu sync.Mutex
	to map[*cache.Rendered]int
}

func newOutgoing(of *budget) *outgoing { return &outgoing{of: of, to: map[*cache.Rendered]int{}} }

// begin has end called, unless it finds no room.
func (o *outgoing) begin(a *cache.Rendered) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to[a] == 0 && !o.of.take(o.room(a)) {
		return false
	}
	o.to[a]++
	return true
}

func (o *outgoing) end(a *cache.Rendered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to[a]--; o.to[a] == 0 {
		delete(o.to, a)
		o.of.give(o.room(a))
	}
}

// room is what an answer takes; the largest must find some when nobody else does.
func (o *outgoing) room(a *cache.Rendered) int64 { return min(int64(len(a.Text)), o.of.limit) }
