package cache

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// load is one reading of a file, which all who ask for it wait for.
type load struct {
	done chan struct{}
	void bool // the file was written meanwhile: what was read may be torn
	page *Version
	err  error
}

func (c *Cache) load(path string) (*Version, error) {
	for {
		c.mu.Lock()
		if p := c.frozenLocked(path); p != nil {
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

func (c *Cache) read(path string) (p *Version, err error) {
	for range attempts {
		var settled bool
		if p, settled, err = c.readOnce(path); settled || err != nil {
			return p, err
		}
	}
	return nil, errRestless
}

// readOnce reads the file; settled says that it was the same file before and after.
func (c *Cache) readOnce(path string) (p *Version, settled bool, err error) {
	id, err := fsutil.Identify(path)
	if err != nil {
		return nil, false, err
	}
	if !id.Exists() {
		return c.nothing, true, nil
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
	after, err := fsutil.Identify(path)
	if after != id || err != nil {
		return Missing(), false, err
	}
	if !utf8.ValidString(text) {
		return nil, false, ErrNotText
	}
	return NewVersion(text, id), true, nil
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
func (c *Cache) putLocked(path string, p *Version) {
	c.pages.Remove(path)
	if p.cost() > c.limit || !p.Exists() {
		return
	}
	c.pages.Add(path, p)
	c.bytes += p.cost()
	c.trimLocked()
}

// trimLocked has pages go, and what is kept of them, until the rest fits.
func (c *Cache) trimLocked() {
	for c.bytes > c.limit {
		c.pages.RemoveOldest()
		c.stats.Outs++
	}
}
