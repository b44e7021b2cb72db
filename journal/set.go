package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Policy says when the journal goes to the disk.
type Policy int

// Batch is the default: before a mutation is acknowledged, together with
// others. Always: before SQ sees it. Off: when the system likes.
const (
	Batch Policy = iota
	Off
	Always
)

// ParsePolicy reads the value of a flag.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{Batch, Off, Always} {
		if s == p.String() {
			return p, nil
		}
	}
	return Batch, fmt.Errorf("%q is not a policy: use always, batch or off", s)
}

func (p Policy) String() string { return [...]string{"batch", "off", "always"}[p] }

// Config is what a Set is made of.
type Config struct {
	Dir        string // of the journals, made when it is needed
	Quarantine string // where damaged files are set aside
	Sync       Policy
	History    time.Duration // how far back states can be restored; 0 = only what recovery needs
	Limit      int64         // bytes for each data directory; 0 = no limit. The newest segment always stays
	Logger     *slog.Logger
	Now        func() time.Time // nil = time.Now
	BootID     string           // "" = the system's
}

// mostOpen is how many journals have their files open at a time.
const mostOpen = 128

// Set is the journals of all data directories.
type Set struct {
	config Config
	log    *slog.Logger
	mu     sync.Mutex
	byPath map[string]*Journal
	open   *simplelru.LRU[*Journal, struct{}]
	// faults of tests: nil = none.
	write func(f *os.File, b []byte, off int64) (int, error)
	sync  func(f *os.File) error
}

// New makes a Set; it touches no file.
func New(c Config) (*Set, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BootID == "" {
		text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("finding out which start of the system this is: %w", err)
		}
		c.BootID = strings.TrimSpace(string(text))
	}
	open, err := simplelru.NewLRU[*Journal, struct{}](mostOpen, nil)
	if err != nil {
		return nil, err
	}
	return &Set{config: c, log: c.Logger, byPath: map[string]*Journal{}, open: open,
		write: func(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) },
		sync:  datasync}, nil
}

// Of is the journal of a data directory, an absolute path. An error is one of
// reading the journal's newest segment.
func (s *Set) Of(dataDir string) (*Journal, error) {
	dataDir = filepath.Clean(dataDir)
	s.mu.Lock()
	j, ok := s.byPath[dataDir]
	if !ok {
		j = &Journal{set: s, dataDir: dataDir, dir: filepath.Join(s.config.Dir, folder(dataDir))}
		s.byPath[dataDir] = j
	}
	s.mu.Unlock()
	return j, j.ensure()
}

// folder names the journal of a data directory: unique, and to be recognised by a person.
func folder(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return hex.EncodeToString(sum[:8]) + "-" + filepath.Base(dataDir)
}

// nameFile says in a journal's folder whose it is.
const nameFile = "data_dir"

// Dirs are the data directories that have a journal.
func (s *Set) Dirs() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(s.config.Dir, "*", nameFile))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, string(text))
	}
	return dirs, nil
}

// used notes that a journal has its file open, and has the one used least
// recently close its own if there are too many.
func (s *Set) used(j *Journal) {
	s.mu.Lock()
	var oldest *Journal
	if !s.open.Contains(j) && s.open.Len() >= mostOpen {
		oldest, _, _ = s.open.RemoveOldest()
	}
	s.open.Add(j, struct{}{})
	s.mu.Unlock()
	if oldest != nil {
		go func() { _ = oldest.Rest() }() // what cannot be closed in order is noticed when it is opened again
	}
}

// Close writes everything to the disk and closes all files.
func (s *Set) Close() error {
	s.mu.Lock()
	all := make([]*Journal, 0, len(s.byPath))
	for _, j := range s.byPath {
		all = append(all, j)
	}
	s.mu.Unlock()
	var errs []error
	for _, j := range all {
		errs = append(errs, j.Rest())
	}
	return errors.Join(errs...)
}
