package supervisor

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

const (
	ringLines = 200
	ringBytes = 64 << 10
	tailLines = 10
	lineBytes = 4 << 10 // a longer line is kept in pieces
)

// lines keeps the last lines of output within bounds of number and bytes.
type lines struct {
	most, bytes int

	mu   sync.Mutex
	kept []string
	size int
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, line)
	l.size += len(line)
	for len(l.kept) > l.most || l.size > l.bytes {
		l.size -= len(l.kept[0])
		l.kept[0] = ""
		l.kept = l.kept[1:]
	}
}

// last returns up to n of the newest lines, oldest first.
func (l *lines) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.kept[max(0, len(l.kept)-n):]...)
}

func join(lines []string) string { return strings.Join(lines, "\n") }

// output takes all that one child prints. Only the goroutine of os/exec that
// owns the pipe writes to it; it never fails, since SQ breaks for good on a
// pipe that nobody reads.
type output struct {
	key       string // never to be repeated in a log
	place     *lines
	tail      lines
	log       lineSink
	part      []byte
	announced chan struct{} // closed on the start line
	version   string        // valid once announced is closed
	portTaken bool          // valid once the child has been waited for
}

// lineSink takes whole lines without their end.
type lineSink func(line string)

func newOutput(key string, place *lines, log lineSink) *output {
	return &output{
		key: key, place: place, log: log,
		tail:      lines{most: tailLines, bytes: tailLines * lineBytes},
		announced: make(chan struct{}),
	}
}

// Write splits into lines.
func (o *output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			o.keep(rest)
			break
		}
		o.keep(rest[:i])
		o.flush()
		rest = rest[i+1:]
	}
	return len(p), nil
}

func (o *output) keep(p []byte) {
	for len(o.part)+len(p) > lineBytes {
		n := lineBytes - len(o.part)
		o.part = append(o.part, p[:n]...)
		p = p[n:]
		o.flush()
	}
	o.part = append(o.part, p...)
}

// flush hands on what has been collected; also called when the pipe has ended.
func (o *output) flush() {
	if len(o.part) == 0 {
		return
	}
	line := strings.ReplaceAll(strings.ToValidUTF8(string(o.part), "\uFFFD"), o.key, "[key]")
	o.part = o.part[:0]
	o.notice(line)
	o.tail.add(line)
	o.place.add(line)
	o.log(line)
}

// startLine is what SQ 0.5.x prints right after it has bound its port.
var startLine = regexp.MustCompile(`^SQ v(\S+) listening on port \d+`)

// notice picks the two lines out that mean something to the start.
func (o *output) notice(line string) {
	if strings.Contains(strings.ToLower(line), "address already in use") {
		o.portTaken = true
	}
	if found := startLine.FindStringSubmatch(line); found != nil && o.version == "" {
		o.version = found[1]
		close(o.announced)
	}
}
