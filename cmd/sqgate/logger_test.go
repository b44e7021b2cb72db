package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestLoggerFollowsItsFlags(t *testing.T) {
	for _, c := range []struct {
		format logFormat
		level  logLevel
		want   string // the end of what is logged, or "" for nothing
	}{
		{"text", "info", ` level=INFO msg="a line" n=1` + "\n"},
		{"json", "debug", `,"level":"INFO","msg":"a line","n":1}` + "\n"},
		{"text", "warn", ""},
		{"json", "error", ""},
	} {
		o := defaultOptions()
		o.logFormat, o.logLevel = c.format, c.level
		var out bytes.Buffer
		newLogger(o, &out).Info("a line", "n", 1)
		if !strings.HasSuffix(out.String(), c.want) || (c.want == "") != (out.Len() == 0) {
			t.Errorf("%s from %s: %q, want ...%q", c.format, c.level, out.String(), c.want)
		}
	}
}

// TestThePrioritiesOfLines are those of sd-daemon(3) in systemd's journal, and nowhere
// else.
func TestThePrioritiesOfLines(t *testing.T) {
	var own unix.Stat_t
	if err := unix.Fstat(int(os.Stderr.Fd()), &own); err != nil {
		t.Fatal(err)
	}
	journal := fmt.Sprintf("%d:%d", own.Dev, own.Ino)
	for _, stream := range []string{"", "8:1234", journal} {
		t.Setenv("JOURNAL_STREAM", stream)
		for _, format := range []logFormat{"text", "json"} {
			o := defaultOptions()
			o.logFormat, o.logLevel = format, "debug"
			var out bytes.Buffer
			log := newLogger(o, &out).With("a", 1).WithGroup("g")
			for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				log.Log(t.Context(), level, "a line", "n", 2)
			}
			want := []string{"<7>", "<6>", "<4>", "<3>"}
			for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
				rest, found := strings.CutPrefix(line, want[i])
				if found != (stream == journal) || !strings.HasPrefix(rest, "time=") && !strings.HasPrefix(rest, "{") {
					t.Errorf("JOURNAL_STREAM=%q, %s: %s", stream, format, line)
				}
			}
		}
	}
}

// stuckWriter takes nothing until it is released.
type stuckWriter struct {
	bytes.Buffer
	entered, release chan struct{}
}

func newStuckWriter() *stuckWriter {
	return &stuckWriter{entered: make(chan struct{}, 8), release: make(chan struct{})}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	w.entered <- struct{}{}
	<-w.release
	return w.Buffer.Write(p)
}

// TestALogQueueNeverWaits fills a queue whose writer is stuck, and releases it.
func TestALogQueueNeverWaits(t *testing.T) {
	w := newStuckWriter()
	q := newLogQueue(w, func(lines int) { fmt.Fprintf(w, "%d lost\n", lines) })
	fmt.Fprintln(q, "first")
	<-w.entered
	line := strings.Repeat("x", 1<<10-1) + "\n"
	for range logQueueBytes/len(line) + 3 {
		fmt.Fprint(q, line)
	}
	close(w.release)
	q.close()
	<-q.ended
	if want := "first\n" + strings.Repeat(line, logQueueBytes/len(line)) + "3 lost\n"; w.String() != want {
		t.Errorf("%d bytes, the last of them %q", w.Len(), tail(w.String(), 2))
	}
}

// TestALogQueueThatIsClosed waits for a stuck writer only for so long.
func TestALogQueueThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStuckWriter()
		q := newLogQueue(w, nil)
		fmt.Fprintln(q, "first")
		<-w.entered
		start := time.Now()
		q.close()
		if took := time.Since(start); took != logPatience {
			t.Errorf("it took %v", took)
		}
		close(w.release)
		<-q.ended
	})
}

// TestALogThatIsStuck has sqgate log to a pipe that nobody reads, but that somebody
// has open: the reader of "sqgate serve 2>&1 | reader" is stopped.
func TestALogThatIsStuck(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		g.logTo(read, write)
		for range 500 {
			g.must("will", "POST", at("update", "n", origin), "text", 200)
		}
		g.must("", "GET", "/health", "", 200)
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		g.client.CloseIdleConnections()
		g.wait()
		if status := g.cmd.ProcessState.ExitCode(); status != 0 {
			t.Errorf("it ended with %d", status)
		}
	})
}

// TestEachLineOfAJSONLogIsJSON, what SQ prints too.
func TestEachLineOfAJSONLogIsJSON(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.args = []string{"--log-format", "json"}
	g.start()
	g.must("will", "POST", at("update", "n", origin), "x", 200)
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	if _, err := g.log.await(ctx, regexp.MustCompile(`"msg":"this is not SQ, but[^"]*","data_dir":"`+g.dataDir("will")+`"`)); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(g.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}
