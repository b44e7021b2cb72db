// Package mcp speaks the Model Context Protocol, by which language models use tools. Each
// tool makes one request of the tenant API, and tells the model its answer. The package knows
// neither tenants nor rights: whoever serves the requests of the tools checks those, as of
// any other request.
package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"mirrorborn.us/sqgate/rewrite"
)

// Handler answers messages of the Model Context Protocol. It keeps nothing between two
// messages: there are no sessions, so that any host can answer any of them.
type Handler struct {
	http    http.Handler
	servers map[rewrite.Access]*sdk.Server // with the tools that such a key may use
}

// New makes a Handler, which tells clients a version of sqgate.
func New(version string) *Handler {
	h := &Handler{servers: map[rewrite.Access]*sdk.Server{}}
	for _, access := range []rewrite.Access{rewrite.ReadAccess, rewrite.AppendAccess, rewrite.WriteAccess} {
		server := sdk.NewServer(&sdk.Implementation{Name: "sqgate", Title: "SQ phexts", Version: version}, &sdk.ServerOptions{
			Instructions: instructions,
			Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}},                               // the list of tools never changes, so nobody waits for that
			SetCacheable: func(_ context.Context, _ sdk.Request, c *sdk.Cacheable) { c.CacheScope = "private" }, // other keys have other tools
		})
		server.AddReceivingMiddleware(keepPanic)
		addTools(server, access)
		h.servers[access] = server
	}
	h.http = sdk.NewStreamableHTTPHandler(
		func(r *http.Request) *sdk.Server { return messageOf(r.Context()).server },
		// A page that came here by a name of its own (DNS rebinding) would lack a key.
		&sdk.StreamableHTTPOptions{Stateless: true, JSONResponse: true, DisableLocalhostProtection: true},
	)
	return h
}

// message is what the tool of a message needs to know. It is in the context of its request.
type message struct {
	server   *sdk.Server
	api      http.Handler
	long     *rewrite.LongTexts // for which names stand in the message and in its answer; may be nil
	panicked any                // with what, while it was answered; nil = it was not
}

type messageKey struct{}

func messageOf(ctx context.Context) *message { return ctx.Value(messageKey{}).(*message) }

// Serve answers a message, which has the tools that an access allows. api serves the request
// of its tool, whose path is an operation, such as "select". header has what the client says
// of the message. long are the texts that were taken out of it. Nothing is written to anybody
// before the answer is complete.
func (h *Handler) Serve(ctx context.Context, access rewrite.Access, header http.Header, text []byte, long *rewrite.LongTexts, api http.Handler) *Answer {
	m := &message{server: h.servers[access], api: api, long: long}
	ctx = context.WithValue(ctx, messageKey{}, m)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(text))
	if err != nil {
		panic(err) // method and URL are constant
	}
	for name, values := range header {
		if strings.HasPrefix(name, "Mcp-") {
			r.Header[name] = values
		}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream") // clients must take both, and an answer is JSON
	a := newAnswer(0, mostAnswer)
	h.http.ServeHTTP(a, r)
	if m.panicked != nil {
		panic(m.panicked)
	}
	return a
}

// keepPanic keeps a panic for Serve. The library calls tools in goroutines of its own, where
// it would end the process.
func keepPanic(next sdk.MethodHandler) sdk.MethodHandler {
	return func(ctx context.Context, method string, r sdk.Request) (result sdk.Result, err error) {
		defer func() {
			if v := recover(); v != nil {
				if err = errPanicked; v != http.ErrAbortHandler {
					v = fmt.Sprintf("%v\n%s", v, debug.Stack())
				}
				messageOf(ctx).panicked = v
			}
		}()
		return next(ctx, method, r)
	}
}

var errPanicked = errors.New("the message could not be answered")

// Answer is an http.ResponseWriter that keeps a part of what is written, and no more.
type Answer struct {
	Status int
	Body   []byte // the part
	Size   int    // of the whole, in bytes
	header http.Header
	skip   int // where the part begins
	most   int // how long it may be
}

// mostAnswer is more than any answer to a message has: the text of a tool has at most mostText
// bytes, each of which may take six as JSON.
const mostAnswer = 8*mostText + 64<<10

func newAnswer(skip, most int) *Answer {
	return &Answer{header: http.Header{}, skip: skip, most: most}
}

// Discard forgets what was written.
func (a *Answer) Discard() {
	clear(a.header)
	a.Status, a.Body, a.Size = 0, nil, 0
}

// Header implements http.ResponseWriter.
func (a *Answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.Status == 0 {
		a.Status = status
	}
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	part := b[min(len(b), max(0, a.skip-a.Size)):]
	a.Body = append(a.Body, part[:min(len(part), a.most-len(a.Body))]...)
	a.Size += len(b)
	return len(b), nil
}
