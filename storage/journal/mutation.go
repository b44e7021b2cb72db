package journal

import (
	"fmt"
	"os"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Op is what a mutation does.
type Op uint8

// The operations. Their numbers stand in journals on disk.
const (
	Insert  Op = 1 + iota // Text is appended to the scroll
	Update                // Text replaces the scroll; "" removes it
	Delete                // the scroll goes
	Replace               // the whole file becomes Text, verbatim
	Remove                // the file goes
)

var ops = [...]string{Insert: "insert", Update: "update", Delete: "delete", Replace: "replace", Remove: "remove"}

// String is the name of the operation, in lower case.
func (o Op) String() string {
	if !o.valid() {
		return fmt.Sprintf("Op(%d)", uint8(o))
	}
	return ops[o]
}

func (o Op) valid() bool { return o >= Insert && o <= Remove }

// Mutation is one change of one phext.
type Mutation struct {
	File        string // flat name, "notes.phext"
	Op          Op
	At          phext.Coordinate
	Text        string
	Tenant, Key string // tenant id; short fingerprint of the key
	Note        string // for people, mostly ""
	Idempotency string // the client's Idempotency-Key or ""
	Digest      string // of the request that carries the Idempotency-Key
	Answer      string // what the client is told once it is done
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

// checkBatch says whether the mutations may be begun in one batch. SQ makes them
// in an order that nobody knows; since they are of different scrolls, the file
// is the same after all of them.
func checkBatch(all []Mutation) error {
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

func checkName(file string) error {
	if file == "" || file == "." || file == ".." || strings.ContainsAny(file, "/\x00") || strings.HasPrefix(file, fsutil.Temporary) {
		return fmt.Errorf("%q %w", file, ErrName)
	}
	return nil
}

// State is a phext's file at a moment. Text is verbatim.
type State struct {
	Text   string
	Exists bool
}

// After is what m makes of s. Of a scroll's mutation it is what SQ writes: the
// phext rendered anew.
func (s State) After(m Mutation) State {
	switch m.Op {
	case Remove:
		return State{}
	case Replace:
		return State{m.Text, true}
	}
	p, text := phext.Parse(s.Text), m.Text
	switch old, _ := p.Select(m.At); m.Op {
	case Insert:
		text = old + text
	case Delete:
		text = ""
	}
	return State{p.With(m.At, text).Render(), true}
}

// readState is the file at path as it is.
func readState(path string) (State, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	return State{string(b), true}, nil
}
