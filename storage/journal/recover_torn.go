package journal

import (
	"errors"
	"io"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// An interrupted write leaves a beginning of what was to be written, or nothing.
// A power cut may also leave blocks that were never written, which read as NUL,
// or an earlier state, since SQ never syncs what it writes.
//
// SQ writes the scrolls of a batch in an order that nobody knows, so a crash may
// leave a file with any of them. Each is as all mutations of it have made it: SQ
// never has a text between two of them.

// search replays the log of a file. After each step it can tell whether the file
// is what an interrupted write of that state left, without rendering the state.
type search struct {
	state  replayState
	goal   string                    // the file without NULs at its end
	parsed *phext.Phext              // goal
	end    phext.Coordinate          // where goal ends, perhaps in the middle of a scroll
	differ map[phext.Coordinate]bool // coordinates before end at which state and goal differ

	last    string           // the text at end
	before  phext.Coordinate // of the last scroll before end, or the origin
	gap     string           // the delimiters between before and end, as SQ writes them
	written bool             // goal is written as SQ writes it
}

// older says whether the file is in a state that it had earlier in the segment,
// or holds a beginning of one. Only a power cut causes that.
func (f *fileRecovery) older() (bool, error) {
	if !f.found.Exists {
		return false, nil
	}
	segment, err := f.view.file(f.segment)
	if err != nil {
		return false, err
	}
	found, err := f.foundInLog(segment)
	return found, errors.Join(err, segment.Close())
}

func (f *fileRecovery) foundInLog(segment io.ReaderAt) (bool, error) {
	look := newSearch(f.found.Whole().Text)
	for i, step := range f.log.applied {
		r, err := readRecord(segment, step.offset, f.segment.end)
		if err != nil {
			return false, err
		}
		if r.kind == begun || r.kind == begunAll {
			part, err := f.holdsPartOfBatchAt(look, segment, i)
			if err != nil || part {
				return part, err
			}
			for _, m := range r.mutations() {
				look.apply(m)
			}
		} else if err := look.start(readCheckpoint(f.view.j.dir, f.segment.number, r, nil)); err != nil {
			return false, err
		}
		if look.matches() {
			return true, nil
		}
	}
	return false, nil
}

// newSearch searches for a file that holds text.
func newSearch(text string) *search {
	goal := strings.TrimRight(text, "\x00")
	upToEnd := phext.Parse(goal + "x") // a scroll is not there unless it has text
	end, _ := upToEnd.Last()
	l := &search{goal: goal, parsed: phext.Parse(goal), end: end.At, before: phext.Origin()}
	l.last, _ = l.parsed.Select(l.end)
	if before, ok := upToEnd.Before(l.end); ok {
		l.before = before.At
	}
	if l.last == "" {
		l.gap = string(phext.AppendDelimiters(nil, l.before, l.end))
	}
	if text, ok := strings.CutSuffix(goal, l.gap); ok {
		l.written, _ = l.parsed.Same(strings.NewReader(text)) // of which no read fails
	}
	return l
}

// start begins with a checkpoint. err is returned as it is.
func (l *search) start(state State, err error) error {
	l.state = replayState{base: state}
	l.compare()
	return err
}

// compare compares all scrolls of the state and of the goal.
func (l *search) compare() {
	l.differ = map[phext.Coordinate]bool{}
	for s := range l.state.phext().All() {
		l.check(s.At)
	}
	for s := range l.parsed.All() {
		l.check(s.At)
	}
}

// check compares the scrolls at one coordinate.
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
	l.compare() // the whole file was replaced
}

// matches says whether the goal is the state, or a beginning of it.
func (l *search) matches() bool {
	if !l.state.rendered {
		return l.state.base.Exists && strings.HasPrefix(l.state.base.Text, l.goal)
	}
	if len(l.differ) > 0 || !l.written {
		return false
	}
	if l.last != "" || l.gap == "" || l.state.hasTextAt(l.end) {
		return l.state.hasPrefix(l.end, l.last)
	}
	next, ok := l.state.firstAfter(l.end)
	return ok && strings.HasPrefix(string(phext.AppendDelimiters(nil, l.before, next)), l.gap)
}

// torn says whether the file is what an interrupted write leaves of the state
// before or after the pending mutations.
func (f *fileRecovery) torn() bool {
	return isBeginning(f.found, f.want) || isBeginning(f.found, f.before) || hasHoles(f.found, f.want) || hasHoles(f.found, f.before)
}

// isBeginning says whether found is a part of want that ends early, or is missing.
func isBeginning(found, want State) bool {
	switch {
	case !want.Exists:
		return false
	case !found.Exists:
		return true
	}
	return found.begins(want)
}

// hasHoles says whether found is want with blocks that were never written.
func hasHoles(found, want State) bool {
	if !found.Exists || !want.Exists || !found.hasEmptyBlock() || found.Equals(want) {
		return false
	}
	found, want = found.Whole(), want.Whole()
	for i := range len(found.Text) {
		if b := found.Text[i]; b != 0 && (i >= len(want.Text) || b != want.Text[i]) {
			return false
		}
	}
	return true
}

// hasNewHoles says whether found has blocks that were never written, of whatever state. A text may have
// NULs, also where want has none.
func hasNewHoles(found, want State) bool {
	return found.hasEmptyBlock() && !want.hasEmptyBlock()
}

// mutations reads the mutations of some steps from the segment.
func (f *fileRecovery) mutations(segment io.ReaderAt, steps []step) ([]Mutation, error) {
	var all []Mutation
	for _, step := range steps {
		r, err := readRecord(segment, step.offset, f.segment.end)
		if err != nil {
			return nil, err
		}
		all = append(all, r.mutations()...)
	}
	return all, nil
}

// holdsPartOfBatch says whether the file holds some of the pending mutations, or
// a beginning of that.
func (f *fileRecovery) holdsPartOfBatch() bool {
	return len(f.batch) >= 2 && f.holdsPartFrom(f.before)
}

// madeFromNothing says whether the file holds some of the pending mutations and
// nothing of the state before: SQ found no file to read when it wrote.
func (f *fileRecovery) madeFromNothing() bool {
	ofScrolls := !slices.ContainsFunc(f.batch, func(m Mutation) bool { return m.Op > Delete })
	most := int64(0)
	for _, m := range f.batch {
		most += int64(len(m.Text)) + mostDelimiters
	}
	return f.before.Size() > 0 && ofScrolls && f.found.Size() <= most && f.holdsPartFrom(State{Exists: true})
}

// mostDelimiters is how many delimiters there can be before one scroll, in bytes.
const mostDelimiters = 9 * phext.Max

// holdsPartFrom says whether the file is from with some of the pending mutations
// made, or a beginning of that.
func (f *fileRecovery) holdsPartFrom(from State) bool {
	if !f.found.Exists {
		return false
	}
	look := newSearch(f.found.Whole().Text)
	return look.start(from.Whole(), nil) == nil && look.matchesPart(f.batch)
}

// completeBatch makes the pending mutations that the file does not hold yet.
// Nothing in the file is unique.
func (f *fileRecovery) completeBatch() error {
	f.view.j.cfg.Logger.Warn("mutations were interrupted and are completed", "path", f.path, "mutations", len(f.batch))
	if err := f.put(); err != nil {
		return err
	}
	return f.completed()
}

// holdsPartOfBatchAt says whether the file holds some of the batch that begins
// with step i, or a beginning of that. The search is at the state before step i.
func (f *fileRecovery) holdsPartOfBatchAt(look *search, segment io.ReaderAt, i int) (bool, error) {
	batch := f.log.applied[i].batch
	if i > 0 && f.log.applied[i-1].batch == batch {
		return false, nil // not the first step of its batch
	}
	var steps []step
	for _, s := range slices.Concat(f.log.applied[i:], f.log.pending) {
		if s.batch == batch {
			steps = append(steps, s)
		}
	}
	if len(steps) < 2 { // what is one record was never written in parts
		return false, nil
	}
	mutations, err := f.mutations(segment, steps)
	return err == nil && look.matchesPart(mutations), err
}

// matchesPart says whether the goal is the state of the search with some scrolls as
// the mutations make them, or a beginning of that: every scroll in it comes from the
// state or from the mutations.
func (l *search) matchesPart(all []Mutation) bool {
	after := make(map[phext.Coordinate]string, len(all))
	for _, m := range all {
		text := m.Text
		if m.Op == Insert {
			old, begun := after[m.At]
			if !begun {
				old = l.state.text(m.At)
			}
			text = old + text
		} else if m.Op == Delete {
			text = ""
		}
		after[m.At] = text
	}
	for at := range l.differ {
		got, _ := l.parsed.Select(at)
		if text, ok := after[at]; !ok || text != got {
			return false
		}
	}
	text, ok := after[l.end]
	return l.state.hasPrefix(l.end, l.last) || ok && strings.HasPrefix(text, l.last)
}
