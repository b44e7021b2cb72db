package journal

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// draft is a state to which many mutations are applied: State.After for all of
// them, in the time of one.
type draft struct {
	base     State
	parsed   *phext.Phext // of base; nil as long as nobody asked
	changed  map[phext.Coordinate][]byte
	rendered bool // SQ wrote the file since base
}

func (d *draft) apply(m Mutation) {
	switch m.Op {
	case Remove:
		*d = draft{}
	case Replace:
		*d = draft{base: State{m.Text, true}}
	default:
		d.write(m)
	}
}

func (d *draft) write(m Mutation) {
	if d.changed == nil {
		d.changed = map[phext.Coordinate][]byte{}
	}
	d.changed[m.At] = d.next(m)
	d.rendered = true
	if phext.HasDelimiter(m.Text) || !m.At.Valid() {
		*d = draft{base: d.state()} // SQ reads back other scrolls than were written
	}
}

// next is the scroll that m leaves. Appending to what is there already costs
// no copy of it, which matters for ten thousand lines in one scroll.
func (d *draft) next(m Mutation) []byte {
	switch m.Op {
	case Update:
		return []byte(m.Text)
	case Delete:
		return nil
	}
	if old, ok := d.changed[m.At]; ok {
		return append(old, m.Text...)
	}
	old, _ := d.phext().Select(m.At)
	return append([]byte(old), m.Text...)
}

func (d *draft) phext() *phext.Phext {
	if d.parsed == nil {
		d.parsed = phext.Parse(d.base.Text)
	}
	return d.parsed
}

// holds says whether the text at c is want.
func (d *draft) holds(c phext.Coordinate, want string) bool {
	if text, ok := d.changed[c]; ok {
		return string(text) == want
	}
	text, _ := d.phext().Select(c)
	return text == want
}

// begins says whether the text at c begins with part.
func (d *draft) begins(c phext.Coordinate, part string) bool {
	if text, ok := d.changed[c]; ok {
		return bytes.HasPrefix(text, []byte(part))
	}
	text, _ := d.phext().Select(c)
	return strings.HasPrefix(text, part)
}

// state is the file as it stands now. More can be applied afterwards.
func (d *draft) state() State {
	if !d.rendered {
		return d.base
	}
	all := slices.Clip(d.phext().Scrolls())
	for _, at := range slices.SortedFunc(maps.Keys(d.changed), phext.Coordinate.Compare) {
		all = append(all, phext.Scroll{At: at, Text: string(d.changed[at])})
	}
	return State{phext.Of(all).Render(), true}
}
