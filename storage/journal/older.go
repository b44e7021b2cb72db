package journal

import (
	"errors"
	"io"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// search replays a track and asks after every step whether the file is what an
// interrupted write of that state left, without making the state each time.
type search struct {
	d      draft
	goal   string       // the file without NULs at its end
	parsed *phext.Phext // of goal
	end    phext.Coordinate
	differ map[phext.Coordinate]bool // coordinates before end whose scrolls are not those of goal
	tries  int
}

// mostTries bounds how often a state is made because all before the end of the
// file is right, and turns out to be another all the same.
const mostTries = 64

// older says whether the file is in a state that it had earlier in the segment,
// or in a beginning of one. Only a power cut brings that about.
func (s *subject) older() (bool, error) {
	if s.sameBoot || !s.found.Exists {
		return false, nil
	}
	f, err := s.v.file(s.o)
	if err != nil {
		return false, err
	}
	found, err := s.passed(f)
	return found, errors.Join(err, f.Close())
}

func (s *subject) passed(f io.ReaderAt) (bool, error) {
	look := searchFor(s.found.Text)
	for i, step := range s.t.trail {
		r, err := readAt(f, step.offset, s.o.end)
		if err != nil {
			return false, err
		}
		if r.kind == begun {
			amid, err := s.amid(look, f, i)
			if err != nil || amid {
				return amid, err
			}
			look.apply(r.m)
		} else if err := look.begin(held(s.v.j.dir, s.o.number, r)); err != nil {
			return false, err
		}
		if look.here() {
			return true, nil
		}
	}
	return false, nil
}

func searchFor(text string) *search {
	goal := strings.TrimRight(text, "\x00")
	upToEnd := phext.Parse(goal + "x").Scrolls()
	return &search{goal: goal, parsed: phext.Parse(goal), end: upToEnd[len(upToEnd)-1].At}
}

func (l *search) begin(state State, err error) error {
	l.d = draft{base: state}
	l.compare()
	return err
}

// compare looks at all scrolls of both.
func (l *search) compare() {
	l.differ = map[phext.Coordinate]bool{}
	for _, s := range l.d.phext().Scrolls() {
		l.check(s.At)
	}
	for _, s := range l.parsed.Scrolls() {
		l.check(s.At)
	}
}

func (l *search) check(at phext.Coordinate) {
	want, _ := l.parsed.Select(at)
	if at.Compare(l.end) >= 0 || l.d.holds(at, want) {
		delete(l.differ, at)
		return
	}
	l.differ[at] = true
}

func (l *search) apply(m Mutation) {
	l.d.apply(m)
	if l.d.rendered {
		l.check(m.At)
		return
	}
	l.compare() // the whole file is another
}

func (l *search) here() bool {
	if !l.d.rendered {
		return l.d.base.Exists && strings.HasPrefix(l.d.base.Text, l.goal)
	}
	if len(l.differ) > 0 || l.tries == mostTries {
		return false
	}
	l.tries++
	return strings.HasPrefix(l.d.state().Text, l.goal)
}
