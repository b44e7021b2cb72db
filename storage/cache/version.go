package cache

import (
	"io"
	"slices"
	"sync/atomic"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Version is one state of a phext's file. It is immutable, except that answers
// rendered from it are kept in it.
type Version struct {
	Phext *phext.Phext
	ID    fsutil.FileID // the file that holds it; zero if there is none
	// verbatim is the file's text if it may differ from what Phext renders to,
	// such as a file with delimiters at its end; else "".
	verbatim string
	retained int64    // bytes of text that stay in memory because scrolls are parts of them
	counted  bool     // see Counted
	whole    *Version // that this one is a part of; nil = of none
	names    *index   // nil unless it is a version of names that are looked up again and again
	kept     atomic.Pointer[answers]
	answers  int64 // bytes that kept takes, guarded by the cache's lock
}

// NewVersion is the version of a file that holds text.
func NewVersion(text string, id fsutil.FileID) *Version {
	v, _ := NewVersionWithin(text, id, nil, func(int64) error { return nil }) // which never fails
	return v
}

// NewVersionWithin is NewVersion with the room of phext.ParseWithin.
func NewVersionWithin(text string, id fsutil.FileID, pace phext.Pace, room func(bytes int64) error) (*Version, error) {
	p, err := phext.ParseWithin(text, pace, room)
	if err != nil {
		return nil, err
	}
	return &Version{Phext: p, ID: id, verbatim: text, retained: int64(len(text))}, nil
}

// FromPhext is a version of a file that holds what p renders to, without an identity.
func FromPhext(p *phext.Phext) *Version {
	return &Version{Phext: p, retained: int64(p.RenderedSize())}
}

// Missing is the version of a file that does not exist.
func Missing() *Version { return NewVersion("", fsutil.FileID{}).Indexed(nil) }

// Exists says whether there is a file.
func (p *Version) Exists() bool { return p.ID.Exists() }

// Text is the file, byte for byte.
func (p *Version) Text() string { return p.TextPaced(nil) }

// TextPaced is Text.
func (p *Version) TextPaced(pace phext.Pace) string {
	if p.verbatim != "" {
		return p.verbatim
	}
	return p.Phext.RenderPaced(pace)
}

// Same says whether r holds Text(), without rendering it.
func (p *Version) Same(r io.Reader) (bool, error) {
	if p.verbatim == "" {
		return p.Phext.Same(r)
	}
	return phext.SameText(r, p.verbatim)
}

// WriteTo writes Text() to w, without rendering it.
func (p *Version) WriteTo(w io.Writer) (n int64, err error) {
	if p.verbatim == "" {
		return p.Phext.WriteTo(w)
	}
	written, err := io.WriteString(w, p.verbatim)
	return int64(written), err
}

// Size is len(Text()), in bytes.
func (p *Version) Size() int64 {
	if p.verbatim != "" {
		return int64(len(p.verbatim))
	}
	return int64(p.Phext.RenderedSize())
}

// Scrolls is how many scrolls SQ counts in the file: an empty one at the end
// of a file that ends in delimiters counts (recorded in "seeded trail").
func (p *Version) Scrolls(pace phext.Pace) int {
	if p.verbatim == "" || p.Phext.RenderedSize() == len(p.verbatim) {
		return max(1, p.Phext.Len())
	}
	return phext.CountDistinct(p.verbatim, pace)
}

// ScrollsCost is at least the memory that Scrolls takes, in bytes.
func (p *Version) ScrollsCost(pace phext.Pace) int64 {
	if p.verbatim == "" || p.Phext.RenderedSize() == len(p.verbatim) {
		return 0
	}
	return phext.CountCost(p.verbatim, pace)
}

// wasteful is how much dead text, in bytes, a version may keep in memory beyond its own size.
const wasteful = 64 << 10

// With is the version after text was written at a coordinate, as SQ writes it.
// It has no identity until WithID gives it one.
func (p *Version) With(at phext.Coordinate, text string) *Version { return p.WithPaced(at, text, nil) }

// WithPaced is With.
func (p *Version) WithPaced(at phext.Coordinate, text string, pace phext.Pace) *Version {
	next := &Version{Phext: p.Phext.With(at, text), retained: p.retained + int64(len(text)), names: p.names}
	if !p.Exists() {
		next.names = newIndex(new(phext.Phext), nil) // all missing files share one version, and so one index
	}
	next.compact(pace.HasDelimiter(text), pace)
	return next
}

// compact parses p again if it keeps much dead text, or if a scroll is delimited.
func (p *Version) compact(delimited bool, pace phext.Pace) {
	size := int64(p.Phext.RenderedSize())
	if p.retained > 2*size+wasteful || delimited {
		// Parse again to let go of texts that no scroll holds any more. A text
		// with delimiters is several scrolls to whoever reads the file, and may end
		// in some or count past 999: then the file is not what they render to.
		rendered := p.Phext.RenderPaced(pace)
		p.Phext, _ = phext.ParseWithin(rendered, pace, func(int64) error { return nil }) // which never fails
		p.retained = size
		if delimited {
			p.verbatim = rendered
		}
	}
}

// WithAll is the version after all these scrolls were written, each once. They come in the
// order of their coordinates, and their texts have no delimiters.
func (p *Version) WithAll(changed []phext.Scroll, pace phext.Pace) *Version {
	next := &Version{Phext: p.Phext.WithAll(len(changed), slices.Values(changed), pace), retained: p.retained, names: p.names}
	for _, s := range changed {
		next.retained += int64(len(s.Text))
	}
	if !p.Exists() {
		next.names = newIndex(new(phext.Phext), nil)
	}
	next.compact(false, pace)
	return next
}

// WithAllCost is at least the memory that WithAll takes beside the texts, in bytes.
func (p *Version) WithAllCost(changed []phext.Scroll) int64 {
	list, size := phext.ScrollSize*int64(p.Phext.Len()+len(changed))+p.indexMemory(), p.retained
	for _, s := range changed {
		size += int64(len(s.Text))
	}
	if size > wasteful { // it may be parsed again
		return 4*list + size
	}
	return list
}

// WithCost is at least the memory that With(at, text) takes beside text, in bytes.
func (p *Version) WithCost(at phext.Coordinate, text string) int64 {
	cost, size := p.Phext.WithMemory(), int64(p.Phext.SizeWith(at, text))
	if phext.HasDelimiter(text) || p.wasteful(size, text) { // it is parsed again
		cost += size + 4*phext.ScrollSize*int64(p.Phext.Len()+phext.CountDelimiters(text)+1)
	}
	return cost
}

// wasteful says whether too much dead text would stay in memory with another text, where
// the file has size bytes then.
func (p *Version) wasteful(size int64, text string) bool {
	return p.retained+int64(len(text)) > 2*size+wasteful
}

// WithID is p with the identity of the file that holds it now.
func (p *Version) WithID(id fsutil.FileID) *Version {
	return &Version{Phext: p.Phext, ID: id, verbatim: p.verbatim, retained: p.retained, names: p.names}
}

// Memory is at least what the version takes in memory, without answers, in bytes.
func (p *Version) Memory() int64 {
	return max(p.retained, int64(len(p.verbatim))) + p.Phext.Memory() + p.indexMemory()
}

// Counted says that the cache has not kept the version, and that its memory stays
// reserved until nobody has it any more.
func (p *Version) Counted() bool { return p.counted }

// perVersion is the memory of a version with its place in the cache, in bytes.
const perVersion = 1024

// costLocked is what the version takes in memory, with the answers kept in it,
// in bytes. The cache's lock is held.
func (p *Version) costLocked() int64 {
	return p.answers + perVersion + p.Memory()
}
