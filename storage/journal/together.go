package journal

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

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
func (s *subject) mutations(f io.ReaderAt, steps []step) ([]Mutation, error) {
	all := make([]Mutation, len(steps))
	for i, step := range steps {
		r, err := readAt(f, step.offset, s.o.end)
		if err != nil {
			return nil, err
		}
		all[i] = r.m
	}
	return all, nil
}

// partway says whether the file holds some of those under way, or a beginning
// of that.
func (s *subject) partway() bool {
	return len(s.set) >= 2 && s.amidSet(s.before)
}

// emptied says whether the file holds what is under way, or a part of it, and
// nothing else, although there was more: SQ found no file when it made it.
func (s *subject) emptied() bool {
	scrolls := !slices.ContainsFunc(s.set, func(m Mutation) bool { return m.Op > Delete })
	return s.before.Text != "" && scrolls && s.amidSet(State{Exists: true})
}

// amidSet says whether the file is what from is with some of those under way, or
// a beginning of that.
func (s *subject) amidSet(from State) bool {
	if !s.found.Exists {
		return false
	}
	look := searchFor(s.found.Text)
	return look.begin(from, nil) == nil && look.amid(s.set)
}

// finishAll makes the rest of those under way. Nothing in the file is unique.
func (s *subject) finishAll() error {
	s.v.j.cfg.Logger.Warn("mutations were interrupted, and are completed", "path", s.path, "mutations", len(s.set))
	if err := s.replace(s.path, s.want); err != nil {
		return err
	}
	return s.completed()
}

// amid says whether the file holds some of those that were begun together with
// step i of the trail, which is the first of them.
func (s *subject) amid(look *search, f io.ReaderAt, i int) (bool, error) {
	set := s.t.trail[i].set
	if i > 0 && s.t.trail[i-1].set == set {
		return false, nil
	}
	var all []step
	for _, other := range slices.Concat(s.t.trail[i:], s.t.open) {
		if other.set == set {
			all = append(all, other)
		}
	}
	if len(all) < 2 {
		return false, nil
	}
	mutations, err := s.mutations(f, all)
	return err == nil && look.amid(mutations), err
}

// amid says whether the file is what the state of the search is with some of
// the mutations made, or a beginning of that: there is no scroll in it that
// neither the state nor one of the mutations explains.
func (l *search) amid(all []Mutation) bool {
	after := make(map[phext.Coordinate]string, len(all))
	for _, m := range all {
		after[m.At] = string(l.d.next(m))
	}
	for at := range l.differ {
		got, _ := l.parsed.Select(at)
		if text, ok := after[at]; !ok || text != got {
			return false
		}
	}
	last, _ := l.parsed.Select(l.end)
	text, ok := after[l.end]
	return l.d.begins(l.end, last) || ok && strings.HasPrefix(text, last)
}
