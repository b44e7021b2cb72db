package proxy

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/mcp"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/tenants/quota"
)

var errNotForTools = apierror.New(apierror.Forbidden, "no tool is for the management API")

// longestUncounted is how long an answer to a message is at most, in bytes, that does not
// count as memory.
const longestUncounted = 16 << 10

// copiesOfAnswer is how often the text of a tool is in memory, as JSON, while the answer to its
// message is made.
const copiesOfAnswer = 2

// serveMCP answers a message of the Model Context Protocol. The request of its tool walks the
// whole chain, as if the client had sent it itself: so keys, rights, limits, counts, the log
// and other hosts are looked after in one place. A message without a tool counts as a call.
func (g *Gateway) serveMCP(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	info := infoOf(r)
	if err := info.turn.Take(r.Context()); err != nil {
		return err
	}
	made := func() {} // counts what the library makes of a tool's answer out again
	defer func() { made() }()
	answer := g.mcp.Serve(r.Context(), info.scope.Access, r.Header, call.Scroll, call.Long, http.HandlerFunc(func(w http.ResponseWriter, tool *http.Request) {
		info.leave()     // the tool's request takes a place of its own
		info.turn.Give() // serveMCP waits meanwhile, in another goroutine
		defer func() { _ = info.turn.Take(context.WithoutCancel(r.Context())) }()
		g.serveTool(w, tool, r)
		a := w.(*mcp.Answer)
		size := copiesOfAnswer * phext.QuotedLen(string(a.Body), info.turn.Pace())
		if size <= longestUncounted { // as to every write
			return
		}
		release, ok := dir.Send(info.recipient(), a, int64(size))
		if !ok {
			a.Discard()
			apierror.Write(a, datadir.ErrBusy)
			return
		}
		made = release // a message has one tool
	}))
	answer.Body = call.Long.PutBack(answer.Body, info.turn.Pace())
	if !info.counted {
		info.counted = true
		if err := g.Calls.Admit(info.caller, quota.NoClass, info.began); err != nil {
			return err
		}
	}
	// An answer that is not taken is kept until then. That to a write is short: it must not be
	// refused any more.
	made()
	made = func() {}
	if size := cap(answer.Body); size > longestUncounted {
		release, ok := reader.Send(r.Context(), dir, info.recipient(), answer, int64(size))
		if !ok {
			return datadir.ErrBusy
		}
		defer release()
	}
	h := w.Header()
	switch kind := answer.Header().Get("Content-Type"); {
	case strings.HasPrefix(kind, "text/plain"): // the library's errors are text
		return apierror.New(apierror.BadRequest, "%s", strings.TrimSpace(string(answer.Body)))
	case kind == "":
		h.Del("Content-Type")
	default:
		h.Set("Content-Type", kind)
	}
	g.setWriteDeadline(w, len(answer.Body))
	h.Set("Content-Length", strconv.Itoa(len(answer.Body)))
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the client may have gone
	return nil
}

// serveTool serves the request of a tool of message, with its key and its place in front of
// the path.
func (g *Gateway) serveTool(w http.ResponseWriter, tool, message *http.Request) {
	info := infoOf(message)
	r := tool.WithContext(withReceivedID(tool.Context(), info.id))
	r.RemoteAddr, r.Host = message.RemoteAddr, message.Host
	before := strings.TrimSuffix(strings.TrimRight(message.URL.Path, "/"), string(rewrite.MCP))
	r.URL = &url.URL{Path: before + tool.URL.Path, RawQuery: tool.URL.RawQuery}
	if isAdminPath(r.URL.Path) { // with dots in a prefix
		apierror.Write(w, errNotForTools)
		return
	}
	info.counted = true // by the tool's request
	for _, name := range []string{"Authorization", "X-Sq-Api-Key", "X-Forwarded-For", "Idempotency-Key"} {
		if values := message.Header.Values(name); len(values) > 0 {
			r.Header[name] = values
		}
	}
	g.Handler().ServeHTTP(w, r)
}
