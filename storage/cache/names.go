package cache

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"unsafe"

	"mirrorborn.us/sqgate/phext"
)

// index finds the coordinate of a name without going through all names. All versions of one
// file share it, so what it finds is a guess that the version confirms. It keeps no texts.
type index struct {
	mu    sync.Mutex
	parts [][]place // by the first bits of their hashes, in no order
	n     int       // places
	of    int       // names that there were when it was made
}

// place is where a name is, or was.
type place struct {
	hash uint32 // the last bits of it
	at   phext.Coordinate
}

const (
	perPart     = 64 // places, about
	sparePlaces = 64 // that a small file may have of names that are gone
	mostPlaces  = 16 // of one name, for those who still have earlier versions
	// placeMemory is what the places of a name take, in bytes, at most about: a part has room for
	// some more, and there may be as many names that are gone.
	placeMemory = 3 * int64(unsafe.Sizeof(place{}))
	// perPlace is what making one counts as, in bytes of work.
	perPlace = 64
)

// seed keeps names from being made up that are all in one part.
var seed = maphash.MakeSeed()

// newIndex has all names, which are the texts of a phext.
func newIndex(names *phext.Phext, pace phext.Pace) *index {
	x := &index{of: names.Len()}
	x.parts = make([][]place, 1<<bits.Len(uint(x.of/perPart)))
	for s := range names.All() {
		pace.Did(perPlace)
		x.add(s)
	}
	return x
}

func (x *index) part(name string) (part *[]place, hash uint32) {
	sum := maphash.String(seed, name)
	return &x.parts[(sum>>32)&uint64(len(x.parts)-1)], uint32(sum)
}

// add adds a name, unless it has most places already.
func (x *index) add(s phext.Scroll) bool {
	part, hash := x.part(s.Text)
	if *part == nil {
		*part = make([]place, 0, min(x.of, perPart+perPart/4))
	}
	n := 0
	for _, p := range *part {
		switch {
		case p.hash != hash:
			continue
		case p.at == s.At:
			return true
		}
		n++
	}
	if n == mostPlaces {
		return false
	}
	*part = append(*part, place{hash, s.At})
	x.n++
	return true
}

// indexMemory is about the most that the index takes, in bytes.
func (p *Version) indexMemory() int64 {
	if p.names == nil {
		return 0
	}
	return indexMemory(p.Phext.Len())
}

func indexMemory(names int) int64 { return placeMemory * int64(names+sparePlaces/2) }

// Find is the coordinate of the scroll that is exactly text. It is for phexts in
// which each text stands once: the names of coordinates.
func (p *Version) Find(text string, pace phext.Pace) (at phext.Coordinate, ok bool) {
	if p.names == nil { // it was made for one call alone
		for s := range p.Phext.All() {
			if pace.Did(perPlace); s.Text == text {
				return s.At, true
			}
		}
		return at, false
	}
	at, looked, ok := p.names.find(text, p.Phext)
	pace.Did(looked * perPlace) // which may wait, and not behind the lock
	return at, ok
}

// find is where a name is in a phext, and in how many places it was looked for.
func (x *index) find(name string, names *phext.Phext) (at phext.Coordinate, looked int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	part, hash := x.part(name)
	for _, place := range *part {
		if place.hash != hash {
			continue
		}
		looked++
		if there, _ := names.Select(place.at); there == name {
			return place.at, looked, true
		}
	}
	return at, looked, false
}

// Noted has the version find names that With or WithAll has just written to it. It is called
// before anybody sees the version. Names that are gone stay in the index, for earlier versions. Once it is
// twice as large as it has to be, or one name has come and gone too often, the version gets a new one.
func (p *Version) Noted(changed []phext.Scroll, pace phext.Pace) {
	if !p.names.addAll(changed, 2*min(p.names.of, p.Phext.Len())+sparePlaces) {
		p.Indexed(pace)
	}
}

// addAll adds names that are not empty, unless the index has more than most places then.
func (x *index) addAll(names []phext.Scroll, most int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.n+len(names) > most {
		return false
	}
	for _, s := range names {
		if s.Text != "" && !x.add(s) {
			return false
		}
	}
	return true
}

// Indexed has the version find each name without going through all. It is called before anybody sees
// the version.
func (p *Version) Indexed(pace phext.Pace) *Version {
	p.names = newIndex(p.Phext, pace)
	return p
}
