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
	Tenant, Key string // Tenant.UniqueID of the tenant, fingerprint of its key
	Note        string // for people who read the history; mostly ""
	Idempotency string // the client's Idempotency-Key or ""
	Digest      string // of the request that carries the Idempotency-Key
	Answer      string // what a repeated request is answered
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

// checkBatch says whether the mutations may be one batch. SQ makes them in an
// unknown order. Because they are of different scrolls, the order makes no
// difference to the file.
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

// State is what a phext's file holds, verbatim, or that it does not exist.
type State struct {
	Text   string
	Exists bool
}

// After returns the state after m. After a mutation of a scroll it is what SQ
// writes: the whole phext, rendered again.
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

// readState reads the file at path.
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
