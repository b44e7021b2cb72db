package cache

// Hold is files being written: until it ends, they read as they were before.
// Whoever holds a file has its data directory's turn.
type Frozen struct {
	cache  *Cache
	before map[string]*Version
}

// Hold keeps what the files are now for those who read.
func (c *Cache) Freeze(before map[string]*Version) *Frozen {
	h := &Frozen{cache: c, before: before}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freezes++
	for path := range before {
		c.frozen[path] = h
		if l, ok := c.loading[path]; ok {
			l.void = true
		}
	}
	return h
}

// End lets readers see the files as they are now, all at once. A file of which
// nothing is said in after is read again by whoever asks for it.
func (h *Frozen) Publish(after map[string]*Version) {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range h.before {
		delete(c.frozen, path)
		if p := after[path]; p != nil {
			c.putLocked(path, p)
		} else {
			c.pages.Remove(path)
		}
	}
}
