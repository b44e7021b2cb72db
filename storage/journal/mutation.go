package journal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Op is what a mutation does.
type Op uint8

// The operations. Journals on disk hold these numbers.
const (
	Insert  Op = 1 + iota // Text is appended to the scroll
	Update                // Text replaces the scroll; "" removes it
	Delete                // the scroll is removed
	Replace               // the whole file becomes Text, verbatim
	Remove                // the file is removed
)

var ops = [...]string{Insert: "insert", Update: "update", Delete: "delete", Replace: "replace", Remove: "remove"}

// String returns the name of the operation in lower case.
func (o Op) String() string {
	if !o.valid() {
		return fmt.Sprintf("Op(%d)", uint8(o))
	}
	return ops[o]
}

func (o Op) valid() bool { return o >= Insert && o <= Remove }

// Mutation is a change of one phext.
type Mutation struct {
	File        string // its name in the data_dir: "notes.phext"
	Op          Op
	At          phext.Coordinate
	Text        string
	Source      Source // of a Replace: the text, instead of Text; nil = it is Text
	Tenant, Key string // Tenant.UniqueID of the tenant, fingerprint of its key
	Note        string // for people who read the history; mostly ""
	Idempotency string // the client's Idempotency-Key or ""
	Digest      string // of the request that carries the Idempotency-Key
	Answer      string // what a repeated request is answered
	ETag        string // of the scroll afterwards; "" = there is none, or it is not known
	Size        int64  // of the scroll afterwards, in bytes, if there is an ETag
	// UpTo is the last scroll that the mutation may have changed, if it is another than At,
	// since Text has delimiters. Size is that of the file then, and there is no ETag.
	UpTo phext.Coordinate
}

func (m Mutation) check() error {
	if err := checkName(m.File); err != nil {
		return err
	}
	if !m.Op.valid() {
		return fmt.Errorf("%v is not an operation", m.Op)
	}
	return nil
}

// mostTogether is the most mutations that can be one batch.
const mostTogether = 1 << 16

// checkBatch says whether the mutations may be one batch. SQ writes their scrolls in
// an unknown order, and each once. So the order makes no difference to the file.
func checkBatch(all []Mutation) error {
	if len(all) == 0 || len(all) > mostTogether {
		return fmt.Errorf("%d mutations: %w", len(all), ErrBatch)
	}
	for _, m := range all {
		if err := m.check(); err != nil {
			return err
		}
		if len(all) > 1 && (m.File != all[0].File || m.Op > Delete || phext.HasDelimiter(m.Text)) {
			return fmt.Errorf("%v of %s at %s: %w", m.Op, m.File, m.At, ErrBatch)
		}
	}
	return nil
}

func checkName(file string) error {
	if file == "" || file == "." || file == ".." || strings.ContainsAny(file, "/\x00") || strings.HasPrefix(file, fsutil.Temporary) {
		return fmt.Errorf("%q %w", file, ErrName)
	}
	return nil
}

// State is what a phext's file holds, verbatim, or that it does not exist.
type State struct {
	Text   string
	Exists bool
	// Source is the text, instead of Text; nil = it is Text.
	Source Source
}

// After returns the state after m. After a mutation of a scroll it is what SQ
// writes: the whole phext, rendered again.
func (s State) After(m Mutation) State { return s.AfterAll([]Mutation{m}) }

// AfterAll returns the state after one mutation after the other. It parses and renders
// as rarely as it can.
func (s State) AfterAll(all []Mutation) State {
	p := Progress{state: s}
	for _, m := range all {
		p.Apply(m)
	}
	return p.State()
}

// Progress is AfterAll for mutations that come one by one.
type Progress struct {
	state State
	phext *phext.Phext // what the state holds and the scrolls since, unless it is nil
}

// NewProgress begins with a state.
func NewProgress(s State) *Progress { return &Progress{state: s} }

// Apply makes a mutation.
func (p *Progress) Apply(m Mutation) {
	switch m.Op {
	case Remove:
		*p = Progress{}
		return
	case Replace:
		*p = Progress{state: State{Text: m.Text, Exists: true}}
		return
	}
	if p.phext == nil {
		p.phext, p.state = phext.Parse(p.state.Text), State{}
	}
	text := m.Text
	switch old, _ := p.phext.Select(m.At); m.Op {
	case Insert:
		text = old + text
	case Delete:
		text = ""
	}
	if p.phext = p.phext.With(m.At, text); phext.HasDelimiter(text) {
		*p = Progress{state: State{Text: p.phext.Render(), Exists: true}} // it is several scrolls to whoever parses it next
	}
}

// State is the state after all of them.
func (p *Progress) State() State {
	if p.phext != nil {
		return State{Text: p.phext.Render(), Exists: true}
	}
	return p.state
}

// ReadState reads the file at path. It follows the links that links follows.
func ReadState(links fsutil.Links, path string) (State, error) {
	f, _, err := links.Open(path)
	if os.IsNotExist(err) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	var b strings.Builder
	b.Grow(int(info.Size()))
	_, err = io.Copy(&b, f)
	return State{Text: b.String(), Exists: true}, err
}
