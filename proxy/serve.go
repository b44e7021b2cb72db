package proxy

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// serveCall understands a request and has it answered.
func (g *Gateway) serveCall(w http.ResponseWriter, r *http.Request) {
	v := visitOf(r)
	head, err := rewrite.ParseHead(r.Method, v.path, r.URL.RawQuery, rewriteTenant(v.tenant))
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	v.op = head.Op
	if head.Op == rewrite.Version {
		g.answerVersion(w, r)
		return
	}
	d := g.dir(v.tenant.DataDir)
	leave, err := d.enter()
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	defer leave()
	held := &share{of: []*budget{g.bodies, d.held}}
	defer held.release()
	call, err := g.understand(w, r, head, held)
	if err == nil {
		err = g.dispatch(w, r, d, call)
	}
	if err != nil {
		g.refuse(w, r, err)
	}
}

func (g *Gateway) understand(w http.ResponseWriter, r *http.Request, head *rewrite.Head, held *share) (*rewrite.Call, error) {
	if !head.TakesBody() {
		return head.Call(nil)
	}
	body, err := g.readBody(w, r, held)
	if err != nil {
		return nil, err
	}
	return head.Call(body)
}

// dispatch answers a call from here where SQ has nothing to add, and sends the
// rest to the child. An error is returned only while nothing was written to w.
func (g *Gateway) dispatch(w http.ResponseWriter, r *http.Request, d *dir, call *rewrite.Call) error {
	switch {
	case call.Op == rewrite.Where:
		g.writeText(w, whereAnswer(call))
		return nil
	case call.Op.Mutates():
		return g.mutate(w, r, d, call)
	}
	return g.read(w, r, d, call)
}

// turn waits for a turn at the tenant's directory, of which the files are in
// order, and looks again whether the tenant may have it: it may have been
// disabled or removed in the meantime, and its files with it.
func (g *Gateway) turn(r *http.Request, d *dir, take func(context.Context) (func(), error)) (done func(), err error) {
	for {
		if err := g.settled(r.Context(), d); err != nil {
			return nil, err
		}
		if done, err = take(r.Context()); err != nil {
			return nil, err
		}
		if d.settled.Load() {
			break
		}
		done() // the write before this one came to a bad end
	}
	if err := g.stillAdmitted(visitOf(r).tenant); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

func (g *Gateway) stillAdmitted(t *tenants.Tenant) error {
	switch now, ok := g.config.Tenants.Current().ByID(t.ID); {
	case now == t:
		return nil
	case !ok:
		return errGone
	case !now.Enabled:
		return errDisabled
	case now.DataDir != t.DataDir || now.SharedDataDir != t.SharedDataDir:
		return errMoved
	}
	return nil
}

func rewriteTenant(t *tenants.Tenant) rewrite.Tenant {
	return rewrite.Tenant{ID: t.ID, SharedDataDir: t.SharedDataDir, AllowDelimiters: t.AllowDelimiters}
}

// ServiceVersion is the protocol version that the hosted service reports.
const ServiceVersion = "0.5.5"

func (g *Gateway) answerVersion(w http.ResponseWriter, r *http.Request) {
	if g.config.BackendVersion != "" {
		w.Header().Set("X-SQ-Backend", g.config.BackendVersion)
	}
	if wantsPlainText(r.Header.Get("Accept")) {
		g.writeText(w, ServiceVersion)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Version string `json:"version"`
	}{ServiceVersion})
}

// wantsPlainText says whether Accept asks for text/plain and nothing else.
func wantsPlainText(accept string) bool {
	media, _, _ := strings.Cut(accept, ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/plain") && !strings.Contains(accept, ",")
}

// The pace below which an answer is given up, in bytes a second, after a grace
// period: far below any link that a person would call working.
const (
	answerPace  = 16 << 10
	answerGrace = 30 * time.Second
)

// paceAnswer gives a client as long to take n bytes as the slowest useful link needs.
func (g *Gateway) paceAnswer(w http.ResponseWriter, n int) {
	limit := answerGrace + time.Duration(n/answerPace)*time.Second
	_ = http.NewResponseController(w).SetWriteDeadline(g.now().Add(limit)) // a test's recorder has no deadlines
}

func (g *Gateway) writeText(w http.ResponseWriter, body string) {
	g.writeBytes(w, bytesOf(body))
}

func (g *Gateway) writeBytes(w http.ResponseWriter, body []byte) {
	g.announce(w, len(body))
	_, _ = w.Write(body) // the client may have gone; the access log has the count
}

func (g *Gateway) announce(w http.ResponseWriter, n int) {
	g.paceAnswer(w, n)
	w.Header()["Content-Length"] = []string{strconv.Itoa(n)}
}
