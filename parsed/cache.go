package parsed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mirrorborn.us/sqgate/internal/disk"
)

// Largest is the largest file that SQ reads whole, in bytes; it cuts a larger
// one off, and its next mutation would make the loss permanent.
const Largest = 512 << 20

// Files that are not fed to SQ, nor read from.
var (
	ErrNotText  = errors.New("is not UTF-8 text")
	ErrTooLarge = fmt.Errorf("is larger than the %d bytes that SQ can hold", int64(Largest))
)

// Cache keeps pages, those read least recently out first.
type Cache struct {
	limit int64
	// admit makes room in memory for a file that is being read.
	admit func(bytes int64) (release func(), err error)

	mu      sync.Mutex
	pages   *simplelru.LRU[string, *Page]
	bytes   int64
	loading map[string]*load
	holds   map[string]*Hold
	stats   Stats
}

// Stats counts what a cache did.
type Stats struct {
	Bytes, Pages       int64
	Hits, Misses, Outs uint64
}

// New makes a cache of limit bytes; with 0 nothing is kept. admit is asked for
// room before a file is read; its error is Read's.
func New(limit int64, admit func(bytes int64) (release func(), err error)) *Cache {
	c := &Cache{limit: limit, admit: admit, loading: map[string]*load{}, holds: map[string]*Hold{}}
	pages, err := simplelru.NewLRU(math.MaxInt32, func(_ string, p *Page) { c.bytes -= p.cost() })
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	c.pages = pages
	return c
}

// Stats is a snapshot of the counts.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Bytes, s.Pages = c.bytes, int64(c.pages.Len())
	return s
}

// Read is the file as it is; while it is held, as it was before. Errors:
// ErrNotText, ErrTooLarge, disk.ErrNotRegular, those of admit and of reading.
func (c *Cache) Read(path string) (*Page, error) {
	if p := c.held(path); p != nil {
		return p, nil
	}
	id, err := disk.Identify(path)
	if err != nil {
		return nil, err
	}
	if p := c.known(path, id); p != nil {
		return p, nil
	}
	return c.load(path)
}

func (c *Cache) held(path string) *Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heldLocked(path)
}

func (c *Cache) heldLocked(path string) *Page {
	if h, ok := c.holds[path]; ok {
		return h.before[path]
	}
	return nil
}

func (c *Cache) known(path string, id disk.FileID) *Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.heldLocked(path); p != nil {
		return p
	}
	if p, ok := c.pages.Get(path); ok && p.ID == id {
		c.stats.Hits++
		return p
	}
	return nil
}

// load is one reading of a file, which all who ask for it wait for.
type load struct {
	done chan struct{}
	void bool // the file was written meanwhile: what was read may be torn
	page *Page
	err  error
}

func (c *Cache) load(path string) (*Page, error) {
	for {
		c.mu.Lock()
		if p := c.heldLocked(path); p != nil {
			c.mu.Unlock()
			return p, nil
		}
		l, joined := c.loading[path]
		if !joined {
			l = &load{done: make(chan struct{})}
			c.loading[path] = l
			c.stats.Misses++
		}
		c.mu.Unlock()
		if joined {
			<-l.done
		} else {
			c.finish(path, l)
		}
		if !l.void {
			return l.page, l.err
		}
	}
}

// finish reads the file and lets those who wait go on.
func (c *Cache) finish(path string, l *load) {
	l.page, l.err = c.read(path)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, path)
	if l.err == nil && !l.void {
		c.putLocked(path, l.page)
	}
	close(l.done)
}

// attempts is how often a file is read that changes while it is read.
const attempts = 5

func (c *Cache) read(path string) (p *Page, err error) {
	for range attempts {
		var settled bool
		if p, settled, err = c.readOnce(path); settled || err != nil {
			return p, err
		}
	}
	return nil, errRestless
}

// readOnce reads the file; settled says that it was the same file before and after.
func (c *Cache) readOnce(path string) (p *Page, settled bool, err error) {
	id, err := disk.Identify(path)
	if err != nil {
		return nil, false, err
	}
	if !id.Exists() {
		return Nothing(), true, nil
	}
	if id.Size > Largest {
		return nil, false, ErrTooLarge
	}
	release, err := c.admit(id.Size)
	if err != nil {
		return nil, false, err
	}
	defer release()
	text, err := readText(path, id.Size)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	after, err := disk.Identify(path)
	if after != id || err != nil {
		return Nothing(), false, err
	}
	if !utf8.ValidString(text) {
		return nil, false, ErrNotText
	}
	return Of(text, id), true, nil
}

// readText reads a file into one string, without a second copy of it.
func readText(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var text strings.Builder
	text.Grow(int(size))
	_, err = io.Copy(&text, io.LimitReader(f, Largest))
	return text.String(), err
}

// errRestless is a file that somebody writes to all the time.
var errRestless = errors.New("changes while it is read")

// putLocked keeps a page. One that does not fit is not kept at all: it would
// push every other out.
func (c *Cache) putLocked(path string, p *Page) {
	c.pages.Remove(path)
	if p.cost() > c.limit || !p.Exists() {
		return
	}
	c.pages.Add(path, p)
	c.bytes += p.cost()
	for c.bytes > c.limit {
		c.pages.RemoveOldest()
		c.stats.Outs++
	}
}
