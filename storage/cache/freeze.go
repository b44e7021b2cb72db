package cache

// Frozen is files that are being written. Until Publish, readers see them as
// they were before. Only the holder of their data directory may freeze files.
type Frozen struct {
	cache  *Cache
	before map[string]*Version
}

// Freeze has readers see these versions of the files, by path, until Publish.
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

// Publish lets readers see the files as they are now, all at once. A file that
// is not in after is read from the disk again.
func (h *Frozen) Publish(after map[string]*Version) {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range h.before {
		delete(c.frozen, path)
		if p := after[path]; p != nil {
			c.putLocked(path, p)
		} else {
			c.versions.Remove(path)
		}
	}
}
