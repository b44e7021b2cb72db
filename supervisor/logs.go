package supervisor

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	logMegabytes = 10
	logBackups   = 3
)

// logs writes the output of children: to one rotated file per data directory,
// or to standard error.
type logs struct {
	dir    string // "" = standard error
	stderr io.Writer

	mu   sync.Mutex
	open map[string]*childLog
}

// childLog is kept as long as the supervisor: lumberjack starts a goroutine
// with a logger's first write and never ends it (its issue 56), so a new
// logger for each start would leak one each time.
type childLog = lumberjack.Logger

// sink returns where the lines of a directory's children go.
func (l *logs) sink(dataDir string) lineSink {
	w, prefix := l.stderr, filepath.Base(dataDir)+": "
	if l.dir != "" {
		w, prefix = l.file(dataDir), ""
	}
	return func(line string) {
		// A full disk must not stop the child, and its output has no other
		// place to go than the ring, where it is already.
		_, _ = io.WriteString(w, prefix+line+"\n")
	}
}

func (l *logs) file(dataDir string) *childLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.open[dataDir]
	if log == nil {
		log = &childLog{Filename: l.name(dataDir), MaxSize: logMegabytes, MaxBackups: logBackups}
		l.open[dataDir] = log
	}
	return log
}

// name has a part of the path's hash, because two directories may share a base.
func (l *logs) name(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return filepath.Join(l.dir, fmt.Sprintf("%s-%x.log", filepath.Base(dataDir), sum[:4]))
}

// rest closes the file while no child writes; the next line opens it again.
func (l *logs) rest(dataDir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if log := l.open[dataDir]; log != nil {
		// Nothing is buffered, so there is nothing a failing close could lose.
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
