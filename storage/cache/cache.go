package cache

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"weak"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// Largest is the largest file that SQ reads whole, in bytes; it cuts a larger
// one off, and its next mutation would make the loss permanent.
const Largest = 512 << 20

// Files that are not fed to SQ, nor read from.
var (
	ErrNotText  = errors.New("is not UTF-8 text")
	ErrTooLarge = fmt.Errorf("is larger than the %d bytes that SQ can hold", int64(Largest))
	// ErrTooManyScrolls is a file that can never be in memory.
	ErrTooManyScrolls = errors.New("has so many scrolls that they do not fit into memory")
)

// ErrNoMemory is a file for which there is no memory now.
var ErrNoMemory = errors.New("there is no memory for a file now")

// Cache keeps versions of files. Those read least recently leave first.
type Cache struct {
	// Links says which symbolic links are followed. It is set before the first Read.
	Links fsutil.Links
	// Turns is where a file waits to be parsed, in a turn of its directory. Whoever
	// calls Read must have no turn. It is set before the first Read; nil = none waits.
	Turns *fairqueue.Queue

	// Check looks whether a file that was just read may be shown. at leads to the directory in
	// which it was. It is set before the first Read; nil = all may.
	Check func(path, at string, id fsutil.FileID) error

	// Taken is how much of the limit others need now, in bytes. It is set before the
	// first Read; nil = nothing.
	Taken func() int64

	limit int64
	// reserve is where memory for a file that is being read is reserved.
	reserve func(path string) *memlimit.Reservation

	mu       sync.Mutex
	unkept   []unkept
	evicted  map[string]weak.Pointer[Version] // by path; somebody may still have them
	versions *simplelru.LRU[string, *Version]
	bytes    int64
	loading  map[string]*load
	frozen   map[string]*frozenFile
	freezes  uint64 // how often Freeze was called
	stats    Stats
	nothing  *Version
}

// Stats counts what a cache holds and what it has done.
type Stats struct {
	Bytes, Versions         int64
	Hits, Misses, Evictions uint64
}

// New makes a cache of limit bytes. With 0, nothing is kept. Before a file is read,
// memory for it is reserved in an empty reservation that reserve makes.
func New(limit int64, reserve func(path string) *memlimit.Reservation) *Cache {
	c := &Cache{limit: limit, reserve: reserve, loading: map[string]*load{}, evicted: map[string]weak.Pointer[Version]{}, frozen: map[string]*frozenFile{}, nothing: Missing()}
	versions, err := simplelru.NewLRU(math.MaxInt32, func(_ string, p *Version) { c.bytes -= p.costLocked(); p.dropAnswersLocked() })
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	c.versions = versions
	return c
}

// Stats is a snapshot of the counts.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Bytes, s.Versions = c.bytes, int64(c.versions.Len())
	return s
}

// Read is the file as it is or, while it is frozen, as readers may see it. Errors:
// ErrNotText, ErrTooLarge, ErrTooManyScrolls, ErrNoMemory, fsutil.ErrNotRegular,
// fsutil.ErrLink, and those of reading.
func (c *Cache) Read(path string) (*Version, error) { return c.readFile(path, published) }

// ReadNewest is the file as it is, also while it is frozen. Only the holder of its data
// directory may call it, and nobody may be writing the file. Errors are those of Read.
func (c *Cache) ReadNewest(path string) (*Version, error) { return c.readFile(path, newest) }

// view is which version of a frozen file somebody is to see.
type view bool

const (
	published view = false
	newest    view = true
)

func (c *Cache) readFile(path string, which view) (*Version, error) {
	p, freezes := c.frozenVersion(path, which)
	if p != nil {
		return p, nil
	}
	id, err := c.Links.Identify(path)
	if err != nil {
		return nil, err
	}
	if p := c.known(path, which, id, freezes); p != nil {
		return p, nil
	}
	return c.load(path, which)
}

// frozenVersion is the version of a frozen path, and how often files were frozen.
func (c *Cache) frozenVersion(path string, which view) (*Version, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frozenLocked(path, which), c.freezes
}

func (c *Cache) frozenLocked(path string, which view) *Version {
	if f, ok := c.frozen[path]; ok && which == published {
		return f.seen
	}
	return nil
}

// known is the version of a file in the state id, if it need not be read. That
// there was no file counts only if nothing was frozen since: a write may have
// renamed the file aside.
func (c *Cache) known(path string, which view, id fsutil.FileID, freezes uint64) *Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.frozenLocked(path, which); p != nil {
		return p
	}
	if !id.Exists() && freezes == c.freezes {
		c.stats.Misses++
		return c.nothing
	}
	if p, ok := c.versions.Get(path); ok && p.ID == id {
		c.stats.Hits++
		return p
	}
	return c.inUseLocked(path, id)
}
