package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/fairqueue"
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
	held := &room{cache: c}
	l.version, l.err = c.read(path, held)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, path)
	if l.err == nil && !l.void && l.version.Exists() && !c.putLocked(path, l.version) {
		// It counts until the last of those who asked for it has done with it.
		c.unkept.Add(1)
		runtime.AddCleanup(l.version, c.forget, held)
	} else {
		held.release()
	}
	close(l.done)
}

// forget is called when nobody has a version any more that the cache did not keep.
func (c *Cache) forget(held *room) {
	held.release()
	c.unkept.Add(-1)
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// room is the memory that a version takes while it is read.
type room struct {
	cache *Cache
	held  []func()
}

// cleanupTime is how long forget may take after a collection.
const cleanupTime = 100 * time.Millisecond

// take makes room. If there is none, versions that nobody has any more may have it
// until they are collected. The turn is given back meanwhile.
func (r *room) take(bytes int64, turn *fairqueue.Turn) error {
	release, err := r.cache.admit(bytes)
	if err != nil && r.cache.unkept.Load() > 0 {
		turn.Give()
		release, err = r.cache.admitCollected(bytes)
		_ = turn.Take(context.Background()) // it ends with a turn
	}
	if err == nil {
		r.held = append(r.held, release)
	}
	return err
}

// admitCollected makes room once what nobody uses is collected.
func (c *Cache) admitCollected(bytes int64) (release func(), err error) {
	runtime.GC()
	for over := time.After(cleanupTime); ; {
		if release, err = c.admit(bytes); err == nil {
			return release, nil
		}
		select {
		case <-c.freed:
		case <-over:
			return c.admit(bytes) // another may have been told of what was freed
		}
	}
}

func (r *room) release() {
	for _, release := range r.held {
		release()
	}
	r.held = nil
}

// attempts is how often a file is read if it changes meanwhile.
const attempts = 5

func (c *Cache) read(path string, held *room) (p *Version, err error) {
	for range attempts {
		var stable bool
		if p, stable, err = c.readOnce(path, held); stable || err != nil {
			return p, err
		}
		held.release()
	}
	return nil, errRestless
}

// readOnce reads the file. stable says that the file was the same before and after.
func (c *Cache) readOnce(path string, held *room) (p *Version, stable bool, err error) {
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
	if err := held.take(id.Size, nil); err != nil {
		return nil, false, err
	}
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
	p, err = NewVersionWithin(text, id, func(bytes int64) error { return held.take(bytes, turn) })
	return p, true, err
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

// putLocked keeps a version, and says whether it does. One that does not fit is not
// kept: it would push out every other.
func (c *Cache) putLocked(path string, p *Version) bool {
	c.versions.Remove(path)
	if p.costLocked() > c.limit || !p.Exists() {
		return false
	}
	c.versions.Add(path, p)
	c.bytes += p.costLocked()
	c.trimLocked()
	return true
}

// trimLocked removes versions, and the answers kept in them, until the rest fits.
func (c *Cache) trimLocked() {
	for c.bytes > c.limit {
		c.versions.RemoveOldest()
		c.stats.Evictions++
	}
}
