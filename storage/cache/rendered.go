package cache

import (
	"sync"
	"weak"

	"mirrorborn.us/sqgate/phext"
)

// Kind is a kind of rendered answer.
type Kind int

// The kinds show a whole phext and are the same for everybody who asks.
const (
	Toc Kind = iota
	JSONExport
	Get
	Checksum
	kinds
)

// Compressed is the kind of the same answer, compressed.
func (k Kind) Compressed() Kind { return k + kinds }

// Rendered is an answer made from a version, and its entity tag.
type Rendered struct{ Text, Tag string }

// kept is the answer of one kind that is kept in a version, if there is one.
type kept struct {
	mu     sync.Mutex // held while an answer is rendered
	answer *Rendered
	// names are the ones that the answer shows. The pointer is weak, so that old
	// names do not stay in memory just to be compared.
	names weak.Pointer[phext.Phext]
}

// answers are those that are kept in a version: by kind, and then compressed.
type answers [2 * kinds]kept

// keptOf is where the answer of a kind is kept.
func (p *Version) keptOf(kind Kind) *kept {
	for {
		if all := p.kept.Load(); all != nil {
			return &all[kind]
		}
		p.kept.CompareAndSwap(nil, new(answers))
	}
}

// dropAnswersLocked lets go of the answers of a version that leaves the cache, since it is
// counted without them from now on. Somebody may have the version still.
func (p *Version) dropAnswersLocked() {
	p.answers = 0
	p.kept.Store(nil)
}

// Answer is the answer of a kind that shows of with names. render makes it, and
// its errors are returned. As long as of is kept at path and there is room for
// the answer beside it, render is called once; others who ask meanwhile wait.
func (c *Cache) Answer(path string, of, names *Version, kind Kind, render func() (*Rendered, error)) (*Rendered, error) {
	k := of.keptOf(kind)
	k.mu.Lock()
	defer k.mu.Unlock()
	state := weak.Make(names.Phext)
	if k.answer != nil && k.names == state {
		return k.answer, nil
	}
	a, err := render()
	if err == nil && c.keep(path, of, kind, k, of.takes(a)-of.takes(k.answer)) {
		k.answer, k.names = a, state
	}
	return a, err
}

// keep counts n more bytes for an answer in k, which is p's, unless that is too much, p itself is not
// kept at path, or its answers were let go of. Versions that were not read for longer leave.
func (c *Cache) keep(path string, p *Version, kind Kind, k *kept, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, _ := c.versions.Get(path); now != p || p.keptOf(kind) != k || p.costLocked()+n > c.limitNow() {
		return false
	}
	p.answers += n
	c.bytes += n
	c.trimLocked()
	return true
}

// perAnswer is the memory of an answer beside its text, in bytes.
const perAnswer = 128

// takes is what an answer takes in memory beside its version, in bytes. The text
// of get is the version's own if it has the file's text.
func (p *Version) takes(a *Rendered) int64 {
	switch {
	case a == nil:
		return 0
	case a.Text == p.verbatim:
		return perAnswer
	}
	return perAnswer + int64(len(a.Text))
}
