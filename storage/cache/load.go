package cache

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"weak"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/phext"
)

// load is one reading of a file. Everybody who asks for the file waits for it.
type load struct {
	done    chan struct{}
	void    bool // the file was written meanwhile, so what was read may be torn
	version *Version
	err     error
}

func (c *Cache) load(path string, which view) (*Version, error) {
	for {
		c.mu.Lock()
		if p := c.frozenLocked(path, which); p != nil {
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
	held := room{c.reserve(path)}
	l.version, l.err = c.read(path, held)
	if l.err == nil {
		held.Grow(l.version.Memory()) // what was needed beside that while it was parsed is garbage now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, path)
	if l.err == nil && !l.void && l.version.Exists() && !c.putLocked(path, l.version) {
		// It counts until the last of those who asked for it has done with it.
		l.version.counted = true
		c.unkept = append(c.unkept, unkept{path, weak.Make(l.version), held})
	} else {
		held.Release()
	}
	close(l.done)
}

// unkept is a version that the cache has not kept, and that somebody may still have.
type unkept struct {
	path    string
	version weak.Pointer[Version]
	held    room
}

// inUseLocked is a version of a file in the state id that somebody still has, although the
// cache has not; else nil. So those who read a large file at a time have one copy of it.
// One that is Counted stays outside, and is left to those who have it once there is room
// for another.
func (c *Cache) inUseLocked(path string, id fsutil.FileID) *Version {
	if p := c.evicted[path].Value(); p != nil && p.ID == id {
		c.putLocked(path, p)
		return p
	}
	for _, u := range c.unkept {
		if p := u.version.Value(); u.path == path && p != nil && p.ID == id && p.costLocked() > c.limitNow() {
			return p
		}
	}
	return nil
}

// Collect gives back the memory of versions that the cache has not kept and that nobody
// has any more, and says whether there were any. collect has garbage collected, since only
// then a version that nobody has is known; nil = it must not wait.
func (c *Cache) Collect(collect func()) bool {
	if collect != nil && c.hasUnkept() {
		collect()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.unkept)
	c.unkept = slices.DeleteFunc(c.unkept, func(u unkept) bool {
		gone := u.version.Value() == nil
		if gone {
			u.held.PutBack()
		}
		return gone
	})
	return len(c.unkept) < before
}

func (c *Cache) hasUnkept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unkept) > 0
}

// room is the memory that a version takes while it is read.
type room struct{ *memlimit.Reservation }

// take takes more of it. It may wait, without the turn.
func (r room) take(bytes int64, turn *fairqueue.Turn) error {
	if bytes > memlimit.Little {
		defer turn.Suspend()()
	}
	switch n := r.Size() + bytes; {
	case !r.Fits(n):
		return ErrTooManyScrolls
	case !r.Grow(n):
		return ErrNoMemory
	}
	return nil
}

// attempts is how often a file is read if it changes meanwhile.
const attempts = 5

func (c *Cache) read(path string, held room) (p *Version, err error) {
	for range attempts {
		var stable bool
		if p, stable, err = c.readOnce(path, held); stable || err != nil {
			return p, err
		}
		held.Release()
	}
	return nil, errRestless
}

// readOnce reads the file. stable says that the file was the same before and after. It holds the
// directory, since another one may come into its place: what is checked is the one that was read.
func (c *Cache) readOnce(path string, held room) (p *Version, stable bool, err error) {
	dir, name := filepath.Split(path)
	at, letGo, err := fsutil.HoldDir(dir)
	if err != nil {
		return c.nothing, true, fsutil.IgnoreMissing(err)
	}
	defer letGo()
	p, stable, err = c.readAt(path, at, name, held)
	return p, stable, fsutil.Named(err, at, filepath.Clean(dir))
}

// readAt reads the file at path by its name in the directory that at leads to.
func (c *Cache) readAt(path, at, name string, held room) (p *Version, stable bool, err error) {
	file := filepath.Join(at, name)
	id, err := c.Links.Identify(file)
	if err != nil {
		return nil, false, err
	}
	if !id.Exists() {
		return c.nothing, true, nil
	}
	if id.Size > Largest {
		return nil, false, ErrTooLarge
	}
	turn := c.Turns.Turn(filepath.Dir(path))
	defer turn.Give()
	if err := held.take(id.Size, turn); err != nil {
		return nil, false, err
	}
	text, opened, err := c.readText(file, id, turn)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	after, err := c.Links.Identify(file)
	if after != id || opened != id || err != nil {
		return Missing(), false, err
	}
	if c.Check != nil {
		if err := c.Check(path, at, id); err != nil {
			return nil, false, err
		}
	}
	pace := phext.Pace(turn.Pace())
	if !pace.IsText(text) {
		return nil, false, ErrNotText
	}
	room := func(bytes int64) error { return held.take(bytes, turn) }
	if p, err = NewVersionWithin(text, id, pace, room); err != nil {
		return nil, true, err
	}
	if _, areNames := phext.FileOfNames(name); areNames {
		if err := room(indexMemory(p.Phext.Len())); err != nil {
			return nil, true, err
		}
		p.Indexed(pace)
	}
	return p, true, nil
}

// readText reads a file into one string, without a second copy of it, and takes the
// turn. If opened is not id, the file is another one by now, and nothing is read.
func (c *Cache) readText(path string, id fsutil.FileID, turn *fairqueue.Turn) (text string, opened fsutil.FileID, err error) {
	f, opened, err := c.Links.Open(path)
	if err != nil {
		return "", opened, err
	}
	defer f.Close()
	if opened != id {
		return "", opened, nil
	}
	if err := turn.Take(context.Background()); err != nil {
		return "", opened, err
	}
	var b strings.Builder
	b.Grow(int(id.Size))
	all := io.LimitReader(f, id.Size+1) // one more: a file that grows has changed
	_, err = io.CopyBuffer(&b, turn.Reader(all), make([]byte, min(id.Size+1, fairqueue.Piece)))
	return b.String(), opened, err
}

// errRestless is a file that changes at every attempt to read it.
var errRestless = errors.New("changes while it is read")

// putLocked keeps a version, and says whether it does. One that does not fit is not
// kept: it would push out every other.
func (c *Cache) putLocked(path string, p *Version) bool {
	c.versions.Remove(path)
	if p.costLocked() > c.limitNow() || !p.Exists() {
		return false
	}
	c.versions.Add(path, p)
	c.bytes += p.costLocked()
	c.trimLocked()
	return true
}

// limitNow is the limit less what others need of it now.
func (c *Cache) limitNow() int64 {
	if c.Taken == nil {
		return c.limit
	}
	return max(0, c.limit-c.Taken())
}

// Shrink lets go of what is beyond the limit, because others need it now.
func (c *Cache) Shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trimLocked()
}

// worthSharing is the memory of a version, in bytes, above which it is not read again
// while somebody has it.
const worthSharing = 64 << 10

// trimLocked removes versions, and the answers kept in them, until the rest fits.
func (c *Cache) trimLocked() {
	for limit := c.limitNow(); c.bytes > limit; {
		path, p, _ := c.versions.RemoveOldest()
		c.stats.Evictions++
		if p.Memory() > worthSharing {
			maps.DeleteFunc(c.evicted, func(_ string, p weak.Pointer[Version]) bool { return p.Value() == nil })
			c.evicted[path] = weak.Make(p)
		}
	}
}
