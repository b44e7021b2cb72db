package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLogger logs to w in the format and from the level that the flags say.
func newLogger(o *options, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // the flag takes only slog's own names
	options := &slog.HandlerOptions{Level: level}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

const (
	logQueueBytes = 1 << 20     // some 4,000 lines
	logPatience   = time.Second // for what is queued when the process ends
)

// logQueue is a writer of whole lines that never waits. One goroutine writes the
// lines to w, which may stop taking them: a pipe that nobody reads, or a terminal
// that is stopped. When the queue is full, lines are lost and counted.
type logQueue struct {
	w      io.Writer
	onLoss func(lines int) // called by the goroutine, when w takes lines again

	mu     sync.Mutex
	queued []byte
	lost   int

	spare   []byte // owned by the goroutine: what becomes queued next
	wake    chan struct{}
	flushes chan chan struct{}
	stop    chan struct{}
	ended   chan struct{}
}

// newLogQueue starts the goroutine. It ends with close.
func newLogQueue(w io.Writer, onLoss func(lines int)) *logQueue {
	q := &logQueue{w: w, onLoss: onLoss, wake: make(chan struct{}, 1), flushes: make(chan chan struct{}),
		stop: make(chan struct{}), ended: make(chan struct{})}
	go q.run()
	return q
}

// Write never fails.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	if len(q.queued)+len(line) <= logQueueBytes {
		q.queued = append(q.queued, line...)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
	return len(line), nil
}

func (q *logQueue) run() {
	defer close(q.ended)
	for {
		select {
		case <-q.wake:
			q.writeQueued()
		case done := <-q.flushes:
			q.writeQueued()
			close(done)
		case <-q.stop:
			return
		}
	}
}

func (q *logQueue) writeQueued() {
	q.mu.Lock()
	lines, lost := q.queued, q.lost
	q.queued, q.lost = q.spare, 0
	q.mu.Unlock()
	if len(lines) > 0 {
		_, _ = q.w.Write(lines) // there is nowhere to report it
	}
	if lost > 0 {
		q.onLoss(lost)
	}
	q.spare = lines[:0]
}

// flush returns when w has all lines so far, or after logPatience.
func (q *logQueue) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), logPatience)
	defer cancel()
	done := make(chan struct{})
	select {
	case q.flushes <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// close flushes and ends the goroutine, unless that is stuck in w for good.
func (q *logQueue) close() {
	q.flush()
	close(q.stop)
}
