package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// newLogger logs to w in the format and from the level that the flags say, and with
// priorities if standard error is systemd's journal.
func newLogger(o *options, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // the flag takes only slog's own names
	if !isJournal(os.Stderr) {
		return slog.New(newHandler(o, level, w))
	}
	lines := &priorityWriter{w: w}
	return slog.New(priorities{newHandler(o, level, lines), lines})
}

// isJournal says whether a file is what systemd's JOURNAL_STREAM names: its device and
// its inode.
func isJournal(f *os.File) bool {
	var s unix.Stat_t
	return unix.Fstat(int(f.Fd()), &s) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}

func newHandler(o *options, level slog.Level, w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if o.logFormat == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// priorities has systemd's journal know the level of each line, so that journalctl -p
// finds errors and warnings (sd-daemon(3)).
type priorities struct {
	slog.Handler
	lines *priorityWriter
}

func (p priorities) Handle(ctx context.Context, r slog.Record) error {
	p.lines.mu.Lock()
	defer p.lines.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		p.lines.priority = "<3>"
	case r.Level >= slog.LevelWarn:
		p.lines.priority = "<4>"
	case r.Level >= slog.LevelInfo:
		p.lines.priority = "<6>"
	default:
		p.lines.priority = "<7>"
	}
	return p.Handler.Handle(ctx, r)
}

func (p priorities) WithAttrs(attrs []slog.Attr) slog.Handler {
	return priorities{p.Handler.WithAttrs(attrs), p.lines}
}

func (p priorities) WithGroup(name string) slog.Handler {
	return priorities{p.Handler.WithGroup(name), p.lines}
}

// priorityWriter puts the priority in front of a line. A handler writes each line at
// once.
type priorityWriter struct {
	mu       sync.Mutex
	priority string // of the next line
	w        io.Writer
	line     []byte
}

func (w *priorityWriter) Write(line []byte) (int, error) {
	w.line = append(append(w.line[:0], w.priority...), line...)
	if _, err := w.w.Write(w.line); err != nil {
		return 0, err
	}
	return len(line), nil
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
