package cache

import (
	"maps"
	"path/filepath"
	"weak"
)

// Frozen is files that are being written, or whose write is not durable yet. Until
// Publish, readers see them as they were before. Only the holder of their data
// directory may freeze files.
type Frozen struct {
	cache  *Cache
	number uint64 // a later one has a greater number
	files  map[string]*frozenFile
}

// frozenFile is a file that at least one Frozen keeps from its readers.
type frozenFile struct {
	seen    *Version // by readers
	number  uint64   // of the latest Frozen that was published; 0 = none was
	after   *Version // what that left; nil = it is to be read again
	holders int      // Frozens that are not published yet
}

// Freeze has readers see these versions of the files, by path, until Publish. A file
// that is frozen already stays what readers see of it now.
func (c *Cache) Freeze(before map[string]*Version) *Frozen {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freezes++
	h := &Frozen{cache: c, number: c.freezes, files: make(map[string]*frozenFile, len(before))}
	for path, v := range before {
		f := c.frozen[path]
		if f == nil {
			f = &frozenFile{seen: v}
			c.frozen[path] = f
		}
		f.holders++
		h.files[path] = f
		if l, ok := c.loading[path]; ok {
			l.void = true
		}
	}
	return h
}

// IsFrozen says whether a file is frozen: readers may not see what is at its path.
func (c *Cache) IsFrozen(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frozen[path] != nil
}

// Written has ReadNewest know the files as they are now. Readers do not see that yet.
func (h *Frozen) Written(after map[string]*Version) {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range h.files {
		c.replaceLocked(path, after[path])
	}
}

// Publish lets readers see the files as these writes left them, all at once. A file
// that is not in after is read from the disk again. A file that is frozen again
// meanwhile is read again only when that ends. Frozens of one file may be published
// in any order: readers never go back to an earlier state.
func (h *Frozen) Publish(after map[string]*Version) {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, f := range h.files {
		if h.number > f.number {
			f.number, f.after = h.number, after[path]
			if f.after != nil {
				f.seen = f.after
			}
		}
		f.holders--
		if f.holders == 0 && c.frozen[path] == f {
			delete(c.frozen, path)
			c.replaceLocked(path, f.after)
		}
	}
}

func (c *Cache) replaceLocked(path string, p *Version) {
	delete(c.evicted, path)
	if p != nil {
		c.putLocked(path, p)
	} else {
		c.versions.Remove(path)
	}
}

// Forget has all files of a directory be read again, also those that are frozen. A
// Frozen of before changes nothing any more. Only the holder of the directory may
// call it, and nobody may be writing there.
func (c *Cache) Forget(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freezes++
	for path := range c.frozen {
		if filepath.Dir(path) == dir {
			delete(c.frozen, path)
		}
	}
	for _, path := range c.versions.Keys() {
		if filepath.Dir(path) == dir {
			c.versions.Remove(path)
		}
	}
	maps.DeleteFunc(c.evicted, func(path string, _ weak.Pointer[Version]) bool { return filepath.Dir(path) == dir })
	for path, l := range c.loading {
		if filepath.Dir(path) == dir {
			l.void = true
		}
	}
}
