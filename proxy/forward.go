package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/supervisor"
)

// passage is calls of one phext on their way to a child and back: one, or some
// of which it does not matter which SQ does first.
type passage struct {
	calls   []*rewrite.Call
	dir     *dir
	reload  bool              // SQ must read the file again first
	anew    bool              // the file may be removed before each call that writes it
	sent    bool              // a child may have seen a call
	finish  func() error      // is told that SQ answered 200 to all; its error makes that a failure
	failed  func()            // is told that it did not; may be nil
	lease   *supervisor.Lease // of the present attempt
	answers [][]byte          // what SQ said to each call
	held    share             // the memory of the answers, which whoever made this gives back
}

func (p *passage) mutates() bool { return p.calls[0].Op.Mutates() }

// errUnreached is a child that could not be connected to: it has seen nothing
// of the call, so that the call may be tried on the next child.
var errUnreached = errors.New("the child did not accept a connection")

// forward sends a call to the child of its directory. One that has reached a
// child is never sent again: insert appends, and SQ may have done it.
func (g *Gateway) forward(r *http.Request, p *passage) error {
	p.held.of = []*budget{g.answers}
	err := g.attempt(r.Context(), p)
	if errors.Is(err, errUnreached) {
		err = g.attempt(r.Context(), p)
	}
	if err != nil {
		if p.failed != nil {
			p.failed()
		}
		g.logFailure(r, p, err)
	}
	return err
}

func (g *Gateway) logFailure(r *http.Request, p *passage, err error) {
	v := visitOf(r)
	g.log.LogAttrs(r.Context(), slog.LevelWarn, "the database did not answer",
		slog.String(keyRequest, v.id), slog.String(keyTenant, v.tenant.ID),
		slog.String(keyOp, string(p.calls[0].Op)), slog.String(keyDataDir, p.dir.path), slog.Any(keyError, err))
}

func (g *Gateway) attempt(ctx context.Context, p *passage) error {
	ctx, cancel := context.WithTimeout(ctx, g.config.BackendTimeout)
	defer cancel()
	lease, err := g.config.Children.Lease(ctx, p.dir.path)
	if err != nil {
		return err
	}
	p.lease = lease
	p.anew = p.anew && p.holdsInMemory()
	p.dir.inSQ.Store(nil)
	if p.reload {
		if err := g.loadFirst(ctx, p); err != nil {
			return p.ended(err)
		}
	}
	if err := g.exchange(ctx, p); err != nil {
		return p.ended(err)
	}
	return nil
}

// loadFirst has SQ read a phext that somebody else may have changed: SQ would
// answer from memory, and write that memory over the change (LEGACY.md).
func (g *Gateway) loadFirst(ctx context.Context, p *passage) error {
	resp, err := g.wire.roundTrip(ctx, p.calls[0].BuildLoad(p.lease.Addr(), p.lease.Key()))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return refusedBySQ(resp.StatusCode)
	}
	return nil
}

// ended ends the present attempt. The child is suspect, unless it was sqgate
// that had no room for the answer, or a read that was merely slow.
func (p *passage) ended(err error) error {
	switch {
	case errors.Is(err, errBusy), isTimeout(err) && !p.mutates(), isRefusal(err):
		p.lease.Release()
	case isDial(err):
		p.lease.Retire("it accepts no connections")
		err = errUnreached
	default:
		p.lease.Retire("an exchange with it failed")
	}
	p.lease = nil
	return err
}

// isDial says whether there was no connection to send anything on.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// refusedBySQ is an answer other than 200, by its status.
type refusedBySQ int

func (e refusedBySQ) Error() string { return "SQ answered " + strconv.Itoa(int(e)) }

// isRefusal says whether SQ is well and merely did not want the call. A 401 is
// none: that was not our child, or not our key.
func isRefusal(err error) bool {
	var status refusedBySQ
	return errors.As(err, &status) && status >= 400 && status < 500 && status != http.StatusUnauthorized
}

// exchange sends the calls and takes SQ's answers whole, so that a client that
// is slow to read does not keep the child or the directory's turn. Of an answer
// the client gets the body; the headers are sqgate's own.
//
// Whatever becomes of one call, the answers to all that a child may have seen
// are awaited: nobody may stop a child that is in the middle of a write.
func (g *Gateway) exchange(ctx context.Context, p *passage) error {
	exchanges := g.allAtOnce
	if p.anew {
		exchanges = g.oneByOne
	}
	if err := exchanges(ctx, p); err != nil {
		return err
	}
	// Before finish, which gives the directory's turn back: whoever has it next
	// says what SQ has in memory then. Where finish fails, this child is ended.
	if p.mutates() { // of several reads nobody knows which came last
		p.dir.inSQ.Store(&inSQ{p.lease.Generation(), p.path()})
	}
	if err := p.finish(); err != nil {
		if p.anew && errors.Is(err, errNotMade) {
			g.keepFiles(p.dir)
		}
		return err
	}
	p.lease.Release()
	p.lease = nil
	return nil
}

// allAtOnce lets SQ have all calls before the first answer is awaited: it takes
// up the next while its answer to the one before is on the way. The last one is
// awaited first, since it is most often answered last: the others need no wait
// then.
func (g *Gateway) allAtOnce(ctx context.Context, p *passage) error {
	how := way{turn: &p.dir.sending}
	if p.mutates() {
		how = g.wire.mutation()
	}
	all, err := g.sendAll(ctx, p, how)
	p.sent = len(all) > 0 || err != nil && !isDial(err)
	p.answers = make([][]byte, len(all))
	for i, s := range slices.Backward(all) {
		var failed error
		p.answers[i], failed = g.takeAnswer(s, &p.held)
		s.end()
		if err == nil {
			err = failed
		}
	}
	return err
}

// oneByOne lets SQ have all of each call but its last byte, so that it has
// nothing left to do but the write when the file is out of its way.
func (g *Gateway) oneByOne(ctx context.Context, p *passage) error {
	all, err := g.sendAll(ctx, p, g.wire.heldMutation())
	for i, s := range all {
		if err == nil {
			err = p.release(s)
		}
		if i > 0 {
			all[i-1].end() // when the next is on its way, since it costs a moment
		}
		if err == nil {
			var body []byte
			body, err = g.takeAnswer(s, &p.held)
			p.answers = append(p.answers, body)
		}
	}
	if len(all) > 0 {
		all[len(all)-1].end()
	}
	return err
}

// release lets SQ have the rest of a call.
func (p *passage) release(s *sending) error {
	p.sent = true
	if s.cut != nil {
		return nil // SQ has hung up; its answer says why, if there is one
	}
	if p.anew {
		p.remove()
	}
	return s.release()
}

// sendAll sends the calls. Those that were sent it returns also with an error,
// which is then never that of a child which has seen nothing.
func (g *Gateway) sendAll(ctx context.Context, p *passage, how way) (all []*sending, err error) {
	for _, call := range p.calls {
		s, err := g.wire.send(ctx, call.Build(p.lease.Addr(), p.lease.Key()), how)
		if err != nil && len(all) > 0 {
			return all, errors.New("only some of the calls were sent: " + err.Error())
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// takeAnswer reads SQ's answer. The exchange is the caller's to end.
func (g *Gateway) takeAnswer(s *sending, held *share) ([]byte, error) {
	resp, err := g.wire.answer(s)
	if err != nil {
		return nil, err
	}
	return readAnswer(resp, held)
}

// readAnswer is the body of an answer that says that all is well.
func readAnswer(resp *http.Response, held *share) ([]byte, error) {
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, refusedBySQ(resp.StatusCode)
	case resp.ContentLength < 0:
		return nil, errors.New("SQ's answer has no Content-Length")
	case !held.grow(resp.ContentLength):
		return nil, errBusy
	}
	body := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, body)
	return body, err
}
