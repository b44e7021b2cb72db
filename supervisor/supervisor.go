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

// Supervisor owns all children of this process. Its lock is held for looking
// and noting only, never across a spawn, a signal or a wait.
type Supervisor struct {
	config Config
	log    *slog.Logger
	marker string // names this process to whoever finds its children later
	ports  ports
	logs   logs

	sandbox sandbox.Sandbox

	running sync.WaitGroup // one per child, from reservation to exit
	urgent  chan struct{}  // closed when Close stops waiting for leases

	mu         sync.Mutex
	closed     bool
	hurried    bool
	places     map[string]*place
	idle       *simplelru.LRU[string, *child] // ready and unused, oldest first
	freed      chan struct{}                  // closed and replaced when a child is gone
	live       int                            // children that have room
	leaving    int                            // of those, the ones on their way out
	wanting    int                            // children that wait for room
	generation uint64
	abandoned  []error
}

// place is what is known of one data directory, with or without a child.
type place struct {
	dir     string
	child   *child // reserved before the spawn, nil only after Wait has returned
	history history
	output  lines
	starts  int
}

// sqFolder is what SQ makes in its working directory. A confined one cannot.
const sqFolder = ".sq"

// New checks the configuration and makes WorkDir; it starts no child.
func New(c Config) (*Supervisor, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(c.WorkDir, sqFolder), c.LogDir} {
		if err := makeDir(dir); err != nil {
			return nil, fmt.Errorf("supervisor: %w", err)
		}
	}
	if err := checkSystem(); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	return assemble(c)
}

// checkSystem tells a system that is too old at the start, not at the first child.
func checkSystem() error {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return fmt.Errorf("pidfd, Linux 5.3: %w", err)
	}
	self.Close()
	return nil
}

func assemble(c Config) (*Supervisor, error) {
	marker, err := ownMarker()
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	idle, err := simplelru.NewLRU[string, *child](math.MaxInt, nil)
	if err != nil {
		return nil, err
	}
	return &Supervisor{
		config: c, log: c.Logger, marker: marker,
		ports:   ports{low: c.PortLow, high: c.PortHigh, workDir: c.WorkDir, held: map[int]bool{}},
		logs:    logs{dir: c.LogDir, stderr: c.stderr, open: map[string]*childLog{}},
		sandbox: c.sandbox(),
		urgent:  make(chan struct{}),
		places:  map[string]*place{},
		idle:    idle,
		freed:   make(chan struct{}),
	}, nil
}

func (c Config) sandbox() sandbox.Sandbox {
	if c.Unconfined {
		c.Logger.Warn("children are not confined: each can do what this user can", keyReason, "configuration")
		return sandbox.Disabled()
	}
	return sandbox.New(c.Logger)
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

func (s *Supervisor) placeLocked(dir string) *place {
	p := s.places[dir]
	if p == nil {
		p = &place{dir: dir, output: lines{most: ringLines, bytes: ringBytes}}
		s.places[dir] = p
	}
	return p
}
