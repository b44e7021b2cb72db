package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// farewellPatience is how long connections that are kept open may take to send
// one more request, whose answer tells the client that it is the last one.
const farewellPatience = time.Second

// farewell ends connections in a way that costs no request: a server that
// closes one that is kept open may do so while a request is on its way, which
// a client must not repeat if it was a POST. So there is a time in which every
// answer carries `Connection: close` and everything is still answered.
type farewell struct {
	leaving atomic.Bool
	mu      sync.Mutex
	open    int
	alone   chan struct{} // closed when leaving and no connection is open
	once    sync.Once
}

func newFarewell() *farewell { return &farewell{alone: make(chan struct{})} }

// said has the answers of next say goodbye.
func (f *farewell) said(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// opened and closed are told of each connection.
func (f *farewell) opened() { f.count(1) }
func (f *farewell) closed() { f.count(-1) }

func (f *farewell) count(by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open += by
	f.checkLocked()
}

func (f *farewell) checkLocked() {
	if f.leaving.Load() && f.open == 0 {
		f.once.Do(func() { close(f.alone) })
	}
}

// say begins the farewell and waits until nobody is connected, the time is up
// or ctx ends.
func (f *farewell) say(ctx context.Context) {
	f.leaving.Store(true)
	f.mu.Lock()
	f.checkLocked()
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, farewellPatience)
	defer cancel()
	select {
	case <-f.alone:
	case <-ctx.Done():
	}
}
