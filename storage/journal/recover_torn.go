package journal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/phext"
)

// search replays a track and asks after every step whether the file is what an
// interrupted write of that state left, without making the state each time.
type search struct {
	state  replayState
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
func (s *fileRecovery) older() (bool, error) {
	if s.sameBoot || !s.found.Exists {
		return false, nil
	}
	f, err := s.v.file(s.o)
	if err != nil {
		return false, err
	}
	found, err := s.foundInLog(f)
	return found, errors.Join(err, f.Close())
}

func (s *fileRecovery) foundInLog(f io.ReaderAt) (bool, error) {
	look := newSearch(s.found.Text)
	for i, step := range s.t.applied {
		r, err := readRecord(f, step.offset, s.o.end)
		if err != nil {
			return false, err
		}
		if r.kind == begun {
			amid, err := s.partOfBatchAt(look, f, i)
			if err != nil || amid {
				return amid, err
			}
			look.apply(r.m)
		} else if err := look.start(readCheckpoint(s.v.j.dir, s.o.number, r)); err != nil {
			return false, err
		}
		if look.matches() {
			return true, nil
		}
	}
	return false, nil
}

func newSearch(text string) *search {
	goal := strings.TrimRight(text, "\x00")
	upToEnd := phext.Parse(goal + "x").Scrolls()
	return &search{goal: goal, parsed: phext.Parse(goal), end: upToEnd[len(upToEnd)-1].At}
}

func (l *search) start(state State, err error) error {
	l.state = replayState{base: state}
	l.compare()
	return err
}

// compare looks at all scrolls of both.
func (l *search) compare() {
	l.differ = map[phext.Coordinate]bool{}
	for _, s := range l.state.phext().Scrolls() {
		l.check(s.At)
	}
	for _, s := range l.parsed.Scrolls() {
		l.check(s.At)
	}
}

func (l *search) check(at phext.Coordinate) {
	want, _ := l.parsed.Select(at)
	if at.Compare(l.end) >= 0 || l.state.hasText(at, want) {
		delete(l.differ, at)
		return
	}
	l.differ[at] = true
}

func (l *search) apply(m Mutation) {
	l.state.apply(m)
	if l.state.rendered {
		l.check(m.At)
		return
	}
	l.compare() // the whole file is another
}

func (l *search) matches() bool {
	if !l.state.rendered {
		return l.state.base.Exists && strings.HasPrefix(l.state.base.Text, l.goal)
	}
	if len(l.differ) > 0 || l.tries == mostTries {
		return false
	}
	l.tries++
	return strings.HasPrefix(l.state.state().Text, l.goal)
}

// torn says whether found is what an interrupted write of want leaves: nothing,
// a beginning of it, or half a character.
func torn(found, want State) bool {
	switch {
	case !want.Exists:
		return false
	case !found.Exists:
		return true
	}
	return len(found.Text) < len(want.Text) && strings.HasPrefix(want.Text, found.Text)
}

// holed says whether found is what a power cut leaves of want: blocks that were
// never written, and read as NUL.
func holed(found, want State) bool {
	if !found.Exists || !want.Exists || found.Text == want.Text {
		return false
	}
	for i := range len(found.Text) {
		if b := found.Text[i]; b != 0 && (i >= len(want.Text) || b != want.Text[i]) {
			return false
		}
	}
	return strings.IndexByte(found.Text, 0) >= 0
}

// holes says whether found has NULs although nothing in want has: it is what a
// power cut left, whatever of.
func holes(found, want State) bool {
	return strings.IndexByte(found.Text, 0) >= 0 && strings.IndexByte(want.Text, 0) < 0
}

func isUTF8(s State) bool { return utf8.ValidString(s.Text) }

// Mutations that are begun together reach SQ in an order that nobody knows.
// Since they are of different scrolls, the file is the same after all of them;
// but a crash may leave it with some of them, in whichever order they came.

// checkAll says whether the mutations may be begun together.
func checkAll(all []Mutation) error {
	if len(all) == 0 {
		return fmt.Errorf("no mutation: %w", ErrBatch)
	}
	seen := make(map[phext.Coordinate]bool, len(all))
	for _, m := range all {
		if err := m.check(); err != nil {
			return err
		}
		if len(all) > 1 && (m.File != all[0].File || m.Op > Delete || seen[m.At] || phext.HasDelimiter(m.Text)) {
			return fmt.Errorf("%v of %s at %s: %w", m.Op, m.File, m.At, ErrBatch)
		}
		seen[m.At] = true
	}
	return nil
}

// mutations reads the steps of a segment.
func (s *fileRecovery) mutations(f io.ReaderAt, steps []step) ([]Mutation, error) {
	all := make([]Mutation, len(steps))
	for i, step := range steps {
		r, err := readRecord(f, step.offset, s.o.end)
		if err != nil {
			return nil, err
		}
		all[i] = r.m
	}
	return all, nil
}

// holdsPartOfBatch says whether the file holds some of those under way, or a beginning
// of that.
func (s *fileRecovery) holdsPartOfBatch() bool {
	return len(s.batch) >= 2 && s.matchesPart(s.before)
}

// madeFromNothing says whether the file holds what is under way, or a part of it, and
// nothing else, although there was more: SQ found no file when it made it.
func (s *fileRecovery) madeFromNothing() bool {
	scrolls := !slices.ContainsFunc(s.batch, func(m Mutation) bool { return m.Op > Delete })
	return s.before.Text != "" && scrolls && s.matchesPart(State{Exists: true})
}

// matchesPart says whether the file is what from is with some of those under way, or
// a beginning of that.
func (s *fileRecovery) matchesPart(from State) bool {
	if !s.found.Exists {
		return false
	}
	look := newSearch(s.found.Text)
	return look.start(from, nil) == nil && look.matchesPart(s.batch)
}

// completeBatch makes the rest of those under way. Nothing in the file is unique.
func (s *fileRecovery) completeBatch() error {
	s.v.j.cfg.Logger.Warn("mutations were interrupted, and are completed", "path", s.path, "mutations", len(s.batch))
	if err := s.replace(s.path, s.want); err != nil {
		return err
	}
	return s.completed()
}

// partOfBatchAt says whether the file holds some of those that were begun together with
// step i of the trail, which is the first of them.
func (s *fileRecovery) partOfBatchAt(look *search, f io.ReaderAt, i int) (bool, error) {
	set := s.t.applied[i].batch
	if i > 0 && s.t.applied[i-1].batch == set {
		return false, nil
	}
	var all []step
	for _, other := range slices.Concat(s.t.applied[i:], s.t.pending) {
		if other.batch == set {
			all = append(all, other)
		}
	}
	if len(all) < 2 {
		return false, nil
	}
	mutations, err := s.mutations(f, all)
	return err == nil && look.matchesPart(mutations), err
}

// matchesPart says whether the file is what the state of the search is with some of
// the mutations made, or a beginning of that: there is no scroll in it that
// neither the state nor one of the mutations explains.
func (l *search) matchesPart(all []Mutation) bool {
	after := make(map[phext.Coordinate]string, len(all))
	for _, m := range all {
		after[m.At] = string(l.state.scrollAfter(m))
	}
	for at := range l.differ {
		got, _ := l.parsed.Select(at)
		if text, ok := after[at]; !ok || text != got {
			return false
		}
	}
	last, _ := l.parsed.Select(l.end)
	text, ok := after[l.end]
	return l.state.hasPrefix(l.end, last) || ok && strings.HasPrefix(text, last)
}
