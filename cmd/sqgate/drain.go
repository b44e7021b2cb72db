package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"mirrorborn.us/sqgate/internal/http1"
)

// drainTimeout is how long kept connections get to send one more request, whose
// answer tells the client that it is the last one on that connection.
const drainTimeout = time.Second

// connDrainer closes kept connections without losing a request. A server that
// simply closes an idle connection may do so while a request is on its way, and
// a client must not repeat that request if it was a POST. So while the drainer
// drains, every request is still answered, with `Connection: close`.
type connDrainer struct {
	draining atomic.Bool
	mu       sync.Mutex
	open     int           // connections
	idle     chan struct{} // closed once the server drains and no connection is open
	once     sync.Once
}

func newConnDrainer() *connDrainer { return &connDrainer{idle: make(chan struct{})} }

// wrap adds `Connection: close` to the answers of next while connections drain.
func (d *connDrainer) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// count is called for each connection, when it is opened and when it is closed.
func (d *connDrainer) count(by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open += by
	d.checkIdleLocked()
}

func (d *connDrainer) checkIdleLocked() {
	if d.draining.Load() && d.open == 0 {
		d.once.Do(func() { close(d.idle) })
	}
}

// drain begins to drain, and returns when no connection is open, drainTimeout
// has passed or ctx ends.
func (d *connDrainer) drain(ctx context.Context) {
	d.draining.Store(true)
	d.mu.Lock()
	d.checkIdleLocked()
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	select {
	case <-d.idle:
	case <-ctx.Done():
	}
}

// shutdown drains a server that listens on l, and ends it. If requests were cut off, it returns
// ctx's error.
func (d *connDrainer) shutdown(ctx context.Context, server *http1.Server, l net.Listener) error {
	if _, ok := l.(*inheritedListener); ok {
		server.StopAccepting() // systemd keeps the socket: new connections wait in it for the next sqgate
	}
	d.drain(ctx)
	err := server.Shutdown(ctx)
	if err != nil {
		_ = server.Close() // the requests had their time, and the listener is closed already
	}
	return err
}
