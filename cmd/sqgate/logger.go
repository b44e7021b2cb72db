package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"mirrorborn.us/sqgate/proxy"
)

// newLogger logs to w. close writes what waits, and has later lines go out at once.
func newLogger(o *options, w io.Writer) (log *slog.Logger, close func()) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // the flag takes nothing but slog's own names
	how, out := &slog.HandlerOptions{Level: level}, newLogBatch(w)
	var h slog.Handler = slog.NewTextHandler(out, how)
	if o.logFormat == "json" {
		h = slog.NewJSONHandler(out, how)
	}
	return slog.New(urgent{h, out}), out.close
}

// logDelay is how long the line of a request may wait for others that go out
// with it. Written alone, it is a seventh of what a read from memory costs.
const logDelay = 100 * time.Millisecond

// logRoom is how many bytes may wait.
const logRoom = 64 << 10

// logBatch gathers log lines and writes several at a time, in their order.
type logBatch struct {
	mu    sync.Mutex
	to    io.Writer
	wait  bytes.Buffer
	timer *time.Timer // runs while something waits
	ended bool
}

func newLogBatch(to io.Writer) *logBatch {
	l := &logBatch{to: to}
	l.timer = time.AfterFunc(time.Hour, l.flush)
	l.timer.Stop()
	return l
}

// Write takes a line. What has no room goes out at once, and after close everything does.
func (l *logBatch) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wait.Len() == 0 {
		l.timer.Reset(logDelay)
	}
	l.wait.Write(line)
	if l.wait.Len() >= logRoom || l.ended {
		l.flushLocked()
	}
	return len(line), nil
}

func (l *logBatch) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

func (l *logBatch) flushLocked() {
	l.timer.Stop()
	if l.wait.Len() == 0 {
		return
	}
	_, _ = l.to.Write(l.wait.Bytes()) // a log that cannot be written has nobody to tell
	l.wait.Reset()
}

// close writes what waits. Lines that come later are written at once.
func (l *logBatch) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.flushLocked()
}

// urgent has all that is not the line of a request go out at once, with what
// waits before it: it may be the last that a process says.
type urgent struct {
	slog.Handler
	batch *logBatch
}

func (h urgent) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message != proxy.RequestLine {
		h.batch.flush()
	}
	return err
}

func (h urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{h.Handler.WithAttrs(attrs), h.batch}
}

func (h urgent) WithGroup(name string) slog.Handler {
	return urgent{h.Handler.WithGroup(name), h.batch}
}
