package journal

import (
	"mirrorborn.us/sqgate/phext"
)

// Op is how a mutation changes a phext.
type Op uint8

// The operations. Their numbers stand in journals.
const (
	Insert  Op = iota + 1 // Text is appended to the scroll
	Update                // Text takes the scroll's place
	Delete                // the scroll goes
	Replace               // Text is the whole file
	Remove                // the file goes
)

// String is the word for people.
func (o Op) String() string {
	return map[Op]string{Insert: "insert", Update: "update", Delete: "delete", Replace: "replace", Remove: "remove"}[o]
}

// Mutation is one change of one phext.
type Mutation struct {
	File        string // base name of the file
	Op          Op
	At          phext.Coordinate
	Text        string
	Tenant      string // id
	Key         string // fingerprint of the caller's key
	Note        string // for people
	Idempotency string // the client's Idempotency-Key, if it gave one
	Digest      string // of the request that carried it
	Answer      string // what the client is told
}

// State is a phext's file at a moment; Text is the file to the byte.
type State struct {
	Text   string
	Exists bool
}

// After is what m makes of the file, as SQ writes it.
func (s State) After(m Mutation) State { return s.afterAll([]Mutation{m}) }

// afterAll is After for many, in one pass over the phext.
func (s State) afterAll(ms []Mutation) State {
	if len(ms) == 0 {
		return s
	}
	r := replay{state: s}
	for i := range ms {
		r.apply(&ms[i])
	}
	return r.end()
}

// replay gathers what changes before it renders once.
type replay struct {
	state   State
	base    *phext.Phext // of state, once it is needed
	changed map[phext.Coordinate]string
}

func (r *replay) apply(m *Mutation) {
	switch m.Op {
	case Replace:
		*r = replay{state: State{Text: m.Text, Exists: true}}
		return
	case Remove:
		*r = replay{}
		return
	}
	if r.base == nil {
		r.base, r.changed = phext.Parse(r.state.Text), map[phext.Coordinate]string{}
	}
	switch m.Op {
	case Insert:
		r.changed[m.At] = r.at(m.At) + m.Text
	case Update:
		r.changed[m.At] = m.Text
	case Delete:
		r.changed[m.At] = ""
	}
	if phext.HasDelimiter(m.Text) {
		r.state = r.end() // to whoever reads the file next, the text is several scrolls
		r.base = nil
	}
}

func (r *replay) at(c phext.Coordinate) string {
	if text, ok := r.changed[c]; ok {
		return text
	}
	text, _ := r.base.Select(c)
	return text
}

func (r *replay) end() State {
	if r.base == nil {
		return r.state
	}
	all := make([]phext.Scroll, 0, r.base.Len()+len(r.changed))
	for _, s := range r.base.Scrolls() {
		if _, ok := r.changed[s.At]; !ok {
			all = append(all, s)
		}
	}
	for at, text := range r.changed {
		all = append(all, phext.Scroll{At: at, Text: text})
	}
	return State{Text: phext.Of(all).Render(), Exists: true}
}
