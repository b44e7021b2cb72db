package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"golang.org/x/time/rate"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/logkey"
)

// How many lines of refused requests the log has: one a second, and some more now and
// then. These requests cost nearly nothing, and need no key.
const (
	refusedLines = 1
	refusedBurst = 60
)

// refusals bounds what the log has of requests that the server refused itself.
type refusals struct {
	lines *rate.Limiter
	left  atomic.Int64 // out of the log since its last line
}

// Refused notes a request that the server refused before it came here, as far as is
// known of it, and returns its X-Request-Id. All of them are counted.
func (g *Gateway) Refused(remote net.Addr, e *apierror.Error) (id string) {
	id = NewRequestID()
	if g.Observe != nil {
		g.Observe("", "", e.Status, e.Code, 0)
	}
	now := g.now()
	if !g.refusals.lines.AllowN(now, 1) {
		g.refusals.left.Add(1)
		return id
	}
	attrs := []slog.Attr{
		slog.String(logkey.Request, id),
		slog.String(logkey.Remote, keylimit.RemoteHost(&http.Request{RemoteAddr: remote.String()})),
		slog.Int(logkey.Status, e.Status),
		slog.String(logkey.Code, e.Code),
	}
	if left := g.refusals.left.Swap(0); left > 0 {
		attrs = append(attrs, slog.Int64(logkey.LeftOut, left))
	}
	g.logRequest(context.Background(), slog.LevelInfo, now, attrs)
	return id
}
