package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// Set has the journals of one sqgate, one for each data_dir.
type Set struct {
	cfg settings

	mu       sync.Mutex
	journals map[string]*Journal
	closed   bool
}

// settings are a complete Config and what only tests of this package change.
type settings struct {
	Config
	inlineMax  int64            // bytes; a longer checkpoint has its own file
	segmentMax int64            // bytes of records, without checkpoints, after which a segment ends
	answersMax int              // how many answers to Idempotency-Keys of a data_dir are kept
	answersAll *memlimit.Budget // the same of all data_dirs
	owners     *ownerNotes      // of all journals
	since      time.Time        // when this process began

	// The file system, which fails or is faster in tests.
	syncPhext func(phext *os.File) error
	allocate  func(f *os.File, off, n int64) error
	syncDir   func(dir string) error
	replace   func(path string, content io.WriterTo, mode fs.FileMode, durable bool) error
	fileNow   func() time.Time // by which files get their times
}

// New creates a set. It does not touch the disk.
func New(c Config) (*Set, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	return &Set{
		cfg: settings{
			Config: c, inlineMax: 1 << 20, segmentMax: 4 << 20, answersMax: mostAnswers, answersAll: memlimit.NewBudget(mostAnswersAll), owners: &ownerNotes{}, since: time.Now(),
			syncPhext: (*os.File).Sync, allocate: allocate, syncDir: fsutil.SyncDir, replace: fsutil.ReplaceFrom,
			fileNow: time.Now,
		},
		journals: map[string]*Journal{},
	}, nil
}

// Of returns the journal of a data_dir. A journal has no files until it is
// used.
func (s *Set) Of(dataDir string) (*Journal, error) {
	data, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	j := s.journals[data]
	if j == nil {
		j = &Journal{cfg: &s.cfg, dataDir: data, dir: filepath.Join(s.cfg.Dir, dirName(data))}
		s.journals[data] = j
	}
	return j, nil
}

// dirName is the name of the journal of a data_dir: unique because of the hash,
// and readable.
func dirName(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:8]) + "-" + printable(data)
}

// printable is the last part of a path, with only characters that need no
// quoting.
func printable(path string) string {
	tail := filepath.Base(path)
	tail = tail[:min(len(tail), 40)]
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, tail)
}

// Dirs returns the data_dirs that have a journal on disk, sorted. One of which that cannot be
// read is logged, and is no reason to leave the others out.
func (s *Set) Dirs() ([]string, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for journals: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		path, err := dataDirOf(filepath.Join(s.cfg.Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.cfg.Logger.Error("it is not known of which data directory a journal is", "error", err)
			continue
		}
		dirs = append(dirs, path)
	}
	slices.Sort(dirs)
	return dirs, nil
}

// Close syncs all files, also the phexts, and closes them. The journals fail with ErrClosed
// afterwards.
func (s *Set) Close() error {
	s.mu.Lock()
	s.closed = true
	all := make([]*Journal, 0, len(s.journals))
	for _, j := range s.journals {
		all = append(all, j)
	}
	s.mu.Unlock()
	var err error
	for _, j := range all {
		err = errors.Join(err, j.close())
	}
	return err
}
