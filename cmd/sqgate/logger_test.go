package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/proxy"
)

// sink is a log's end that tells how often it was written to.
type sink struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.text.Write(b)
}

func (s *sink) state() (lines, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), "\n"), s.writes
}

func TestLinesOfTheLogGoOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		log, closeLog := newLogger(defaultOptions(), &out)
		expect := func(lines, writes int) {
			t.Helper()
			synctest.Wait()
			if l, w := out.state(); l != lines || w != writes {
				t.Errorf("%d lines in %d writes, not %d in %d", l, w, lines, writes)
			}
		}
		log.Info(proxy.RequestLine, "n", 1)
		log.Info(proxy.RequestLine, "n", 2)
		expect(0, 0)
		time.Sleep(logDelay)
		expect(2, 1)
		log.Info(proxy.RequestLine, "n", 3)
		log.With("a", 1).WithGroup("g").Info("serving")
		expect(4, 2)
		time.Sleep(2 * logDelay)
		expect(4, 2)
		log.Info(proxy.RequestLine, "n", 5)
		closeLog()
		expect(5, 3)
		log.Info(proxy.RequestLine, "n", 6)
		expect(6, 4)
	})
}

func TestALogThatIsFullDoesNotWait(t *testing.T) {
	var out sink
	log, closeLog := newLogger(defaultOptions(), &out)
	defer closeLog()
	for range 20 {
		log.Info(proxy.RequestLine, "n", strings.Repeat("x", logRoom/10))
	}
	if lines, writes := out.state(); lines < 10 || writes > 3 {
		t.Errorf("%d lines in %d writes", lines, writes)
	}
}
