package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mirrorborn.us/sqgate/supervisor/procfs"
	"mirrorborn.us/sqgate/supervisor/sandbox"
)

// Keys of log records.
const (
	keyDir    = "data_dir"
	keyPID    = "pid"
	keyPort   = "port"
	keyReason = "reason"
	keyError  = "error"
	keyWait   = "wait"
)

// Supervisor owns all children of this process. Its mutex is held to look and
// to note only, never across a spawn, a signal or a wait.
type Supervisor struct {
	config  Config
	log     *slog.Logger
	marker  string // identifies this process to whoever finds its children later
	ports   ports
	logs    logs
	sandbox sandbox.Sandbox

	running sync.WaitGroup // one for each child, from its reservation to its end
	forced  chan struct{}  // closed when Close no longer waits for leases
	force   func()         // closes forced, once

	mu         sync.Mutex
	closed     bool
	slots      map[string]*slot
	unused     *simplelru.LRU[string, *child] // ready and without a lease, oldest first
	childEnded chan struct{}                  // closed and replaced when a child has ended
	live       int                            // children that count among MaxChildren
	draining   int                            // of those, the ones that have been asked to go
	queued     int                            // children that wait to be counted
	generation uint64
	abandoned  []error
}

// slot is what is known of one data directory, with or without a child.
type slot struct {
	dir     string
	child   *child // reserved before the spawn; nil only after the process has been waited for
	backoff backoff
	output  lastLines
	starts  int
}

// sqFolder is made by SQ in its working directory. A confined SQ cannot make it.
const sqFolder = ".sq"

// New checks the configuration and makes WorkDir and LogDir. It starts no child.
func New(c Config) (*Supervisor, error) {
	s, err := assemble(c)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	return s, nil
}

func assemble(c Config) (*Supervisor, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(c.WorkDir, sqFolder), c.LogDir} {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	if err := checkPidfd(); err != nil {
		return nil, err
	}
	marker, err := ownMarker()
	if err != nil {
		return nil, err
	}
	unused, err := simplelru.NewLRU[string, *child](math.MaxInt, nil)
	if err != nil {
		return nil, err
	}
	forced := make(chan struct{})
	return &Supervisor{
		config: c, log: c.Logger, marker: marker,
		ports:   ports{low: c.PortLow, high: c.PortHigh, workDir: c.WorkDir, inUse: map[int]bool{}},
		logs:    logs{dir: c.LogDir, stderr: c.Stderr, logger: c.Output, open: map[string]*childLog{}},
		sandbox: c.sandbox(),
		forced:  forced, force: sync.OnceFunc(func() { close(forced) }),
		slots: map[string]*slot{}, unused: unused, childEnded: make(chan struct{}),
	}, nil
}

// checkPidfd fails on a system that is too old, before the first child would.
func checkPidfd() error {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return fmt.Errorf("no pidfd, which needs Linux 5.3: %w", err)
	}
	self.Close()
	return nil
}

func (c Config) sandbox() sandbox.Sandbox {
	if c.Unconfined {
		c.Logger.Warn("children are not confined: each can do what this user can", keyReason, "configuration")
		return sandbox.Disabled()
	}
	s := sandbox.New(c.Logger)
	s.Links = c.Links
	return s
}

func makeDir(dir string) error {
	if dir == "" {
		return nil
	}
	return os.MkdirAll(dir, 0o700)
}

var errRelative = errors.New("data directory must be an absolute path")

func cleanDir(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", &StartError{Dir: dir, Err: errRelative}
	}
	return filepath.Clean(dir), nil
}

func (s *Supervisor) slotLocked(dir string) *slot {
	p := s.slots[dir]
	if p == nil {
		p = &slot{dir: dir, output: lastLines{maxLines: keptLines, maxBytes: keptBytes}}
		s.slots[dir] = p
	}
	return p
}
