package cache

import (
	"sync"
	"weak"

	"mirrorborn.us/sqgate/phext"
)

// Kind tells the answers apart that are kept of a page.
type Kind int

// What is kept: answers that show a whole phext, and are the same for all who ask.
const (
	Toc Kind = iota
	JSONExport
	Get
	Checksum
	kinds
)

// Answer is what a page was rendered to, and its entity tag.
type Rendered struct{ Text, Tag string }

// kept is the answer of one kind that is kept of a page, if one is.
type kept struct {
	mu     sync.Mutex // held while an answer is rendered
	answer *Rendered
	// names are those that the answer shows. They may be long gone, and must not
	// stay in memory for being compared.
	names weak.Pointer[phext.Phext]
}

// Answer is of's answer of a kind, which shows names. It is render's, whose
// errors are returned; as long as of is kept at path, and there is room beside
// it, it is rendered once. One is rendered at a time: who asks meanwhile waits.
func (c *Cache) Answer(path string, of, names *Version, kind Kind, render func() (*Rendered, error)) (*Rendered, error) {
	k := &of.kept[kind]
	k.mu.Lock()
	defer k.mu.Unlock()
	state := weak.Make(names.Phext)
	if k.answer != nil && k.names == state {
		return k.answer, nil
	}
	a, err := render()
	if err == nil && c.keep(path, of, of.takes(a)-of.takes(k.answer)) {
		k.answer, k.names = a, state
	}
	return a, err
}

// keep counts what is kept of a page as grown by n bytes, unless that is too
// much or the page is not kept itself. Pages that were not read for longer go.
func (c *Cache) keep(path string, p *Version, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, _ := c.pages.Get(path); now != p || p.cost()+n > c.limit {
		return false
	}
	p.answers += n
	c.bytes += n
	c.trimLocked()
	return true
}

// perAnswer is the memory of an answer beside its text, in bytes.
const perAnswer = 128

// takes is what an answer takes in memory beside its page, in bytes: the text
// of get is the page's own, where the page has the file as it is.
func (p *Version) takes(a *Rendered) int64 {
	switch {
	case a == nil:
		return 0
	case a.Text == p.verbatim:
		return perAnswer
	}
	return perAnswer + int64(len(a.Text))
}
