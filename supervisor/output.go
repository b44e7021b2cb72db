package supervisor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"mirrorborn.us/sqgate/internal/logkey"
)

const (
	keptLines = 200 // for each data directory
	keptBytes = 64 << 10
	tailLines = 10      // for each child
	lineBytes = 4 << 10 // a longer line is split
	logSize   = 10      // MB, then the file is rotated
	logFiles  = 3       // old ones
)

// lastLines keeps the last lines of output, within two limits.
type lastLines struct {
	maxLines, maxBytes int

	mu    sync.Mutex
	lines []string
	size  int
}

func (l *lastLines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	l.size += len(line)
	for len(l.lines) > l.maxLines || l.size > l.maxBytes {
		l.size -= len(l.lines[0])
		l.lines[0] = ""
		l.lines = l.lines[1:]
	}
}

// last returns up to n of the newest lines, oldest first.
func (l *lastLines) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[max(0, len(l.lines)-n):]...)
}

// output takes all that one child prints. Only the goroutine of os/exec that
// owns the pipe writes to it. It never fails, since SQ breaks for good on a pipe
// that nobody reads.
type output struct {
	key       string // kept out of all logs
	ofSlot    *lastLines
	tail      lastLines
	log       lineWriter
	partial   []byte
	announced chan struct{} // closed when the child says that it listens
	version   string        // valid once announced is closed
	portTaken bool          // valid once the child has been waited for
}

// lineWriter takes a whole line without its end.
type lineWriter func(line string)

func newOutput(key string, ofSlot *lastLines, log lineWriter) *output {
	return &output{
		key: key, ofSlot: ofSlot, log: log,
		tail:      lastLines{maxLines: tailLines, maxBytes: tailLines * lineBytes},
		announced: make(chan struct{}),
	}
}

// Write splits into lines.
func (o *output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			o.append(rest)
			break
		}
		o.append(rest[:i])
		o.flush()
		rest = rest[i+1:]
	}
	return len(p), nil
}

func (o *output) append(p []byte) {
	for len(o.partial)+len(p) > lineBytes {
		n := lineBytes - len(o.partial)
		o.partial = append(o.partial, p[:n]...)
		p = p[n:]
		o.flush()
	}
	o.partial = append(o.partial, p...)
}

// flush ends the line. It is also called when the pipe has ended.
func (o *output) flush() {
	if len(o.partial) == 0 {
		return
	}
	line := strings.ReplaceAll(strings.ToValidUTF8(string(o.partial), "\uFFFD"), o.key, "[key]")
	o.partial = o.partial[:0]
	o.interpret(line)
	o.tail.add(line)
	o.ofSlot.add(line)
	o.log(line)
}

// announcement is what SQ 0.5.3, 0.5.6 and 0.6.0 print right after they have
// bound their port.
var announcement = regexp.MustCompile(`^SQ v(\S+) listening on port \d+`)

// interpret recognises the two lines that matter to the start.
func (o *output) interpret(line string) {
	if strings.Contains(strings.ToLower(line), "address already in use") {
		o.portTaken = true
	}
	if found := announcement.FindStringSubmatch(line); found != nil && o.version == "" {
		o.version = found[1]
		close(o.announced)
	}
}

// logs writes the output of children to one rotated file per data directory, or
// to stderr.
type logs struct {
	dir    string // "" = logger or stderr get all
	stderr io.Writer
	logger *slog.Logger // nil = stderr

	mu   sync.Mutex
	open map[string]*childLog
}

// childLog is kept as long as the supervisor. A lumberjack logger starts a
// goroutine with its first write and never ends it (lumberjack issue 56), so a
// new logger for each start would leak one each time.
type childLog = lumberjack.Logger

// writer returns where the lines of a directory's children go.
func (l *logs) writer(dataDir string) lineWriter {
	w, prefix := l.stderr, filepath.Base(dataDir)+": "
	if l.dir != "" {
		if err := checkLog(l.name(dataDir)); err != nil {
			_, _ = fmt.Fprintf(l.stderr, "%sits output is kept in memory only: %v\n", prefix, err) // as below
			return func(string) {}
		}
		w, prefix = l.file(dataDir), ""
	} else if l.logger != nil {
		return func(line string) { l.logger.Info(line, logkey.DataDir, dataDir) }
	}
	return func(line string) {
		// A full disk must not stop the child. The line is kept in memory.
		_, _ = io.WriteString(w, prefix+line+"\n")
	}
}

// checkLog refuses to write to what is there and no regular file of its own: a FIFO would keep the
// child, and whoever waits for its end, for good, and a link may lead to a file that is no log.
func checkLog(name string) error {
	var st unix.Stat_t
	if unix.Lstat(name, &st) == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1) {
		return fmt.Errorf("%s is a link, or no regular file: remove it, and the next child writes there again", name)
	}
	return nil
}

func (l *logs) file(dataDir string) *childLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.open[dataDir]
	if log == nil {
		log = &childLog{Filename: l.name(dataDir), MaxSize: logSize, MaxBackups: logFiles}
		l.open[dataDir] = log
	}
	return log
}

// name contains a part of the path's hash, because two directories may have the
// same base name.
func (l *logs) name(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return filepath.Join(l.dir, fmt.Sprintf("%s-%x.log", filepath.Base(dataDir), sum[:4]))
}

// closeFile closes the file while no child writes. The next line opens it again.
func (l *logs) closeFile(dataDir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if log := l.open[dataDir]; log != nil {
		// Nothing is buffered, so a failing close loses nothing.
		_ = log.Close()
	}
}

func (l *logs) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all error
	for _, log := range l.open {
		all = errors.Join(all, log.Close())
	}
	return all
}
