package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// load is one reading of a file. Everybody who asks for the file waits for it.
type load struct {
	done    chan struct{}
	void    bool // the file was written meanwhile, so what was read may be torn
	version *Version
	err     error
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
			return l.version, l.err
		}
	}
}

// finish reads the file and wakes everybody who waits for it.
func (c *Cache) finish(path string, l *load) {
	l.version, l.err = c.read(path)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, path)
	if l.err == nil && !l.void {
		c.putLocked(path, l.version)
	}
	close(l.done)
}

// attempts is how often a file is read if it changes meanwhile.
const attempts = 5

func (c *Cache) read(path string) (p *Version, err error) {
	for range attempts {
		var stable bool
		if p, stable, err = c.readOnce(path); stable || err != nil {
			return p, err
		}
	}
	return nil, errRestless
}

// readOnce reads the file. stable says that the file was the same before and after.
func (c *Cache) readOnce(path string) (p *Version, stable bool, err error) {
	id, err := c.Links.Identify(path)
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
	text, opened, err := c.readText(path, id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	after, err := c.Links.Identify(path)
	if after != id || opened != id || err != nil {
		return Missing(), false, err
	}
	turn := c.Turns.Turn(filepath.Dir(path))
	if err := turn.Take(context.Background()); err != nil {
		return nil, false, err
	}
	defer turn.Give()
	if !utf8.ValidString(text) {
		return nil, false, ErrNotText
	}
	return NewVersion(text, id), true, nil
}

// readText reads a file into one string, without a second copy of it. If opened
// is not id, the file is another one by now, and nothing is read.
func (c *Cache) readText(path string, id fsutil.FileID) (text string, opened fsutil.FileID, err error) {
	f, opened, err := c.Links.Open(path)
	if err != nil {
		return "", opened, err
	}
	defer f.Close()
	if opened != id {
		return "", opened, nil
	}
	var b strings.Builder
	b.Grow(int(id.Size))
	_, err = io.Copy(&b, io.LimitReader(f, id.Size+1)) // one more: a file that grows has changed
	return b.String(), opened, err
}

// errRestless is a file that changes at every attempt to read it.
var errRestless = errors.New("changes while it is read")

// putLocked keeps a version. One that does not fit is not kept: it would push
// out every other.
func (c *Cache) putLocked(path string, p *Version) {
	c.versions.Remove(path)
	if p.costLocked() > c.limit || !p.Exists() {
		return
	}
	c.versions.Add(path, p)
	c.bytes += p.costLocked()
	c.trimLocked()
}

// trimLocked removes versions, and the answers kept in them, until the rest fits.
func (c *Cache) trimLocked() {
	for c.bytes > c.limit {
		c.versions.RemoveOldest()
		c.stats.Evictions++
	}
}
