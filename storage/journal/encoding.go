package journal

import (
	"encoding/binary"
	"fmt"
)

// AppendHead appends m to b in the form in which records have it, which other places that
// keep mutations use too, up to its text. That follows then, and what AppendEnd appends.
// ParseMutation reads all of it.
func (m Mutation) AppendHead(b []byte) []byte {
	return binary.AppendUvarint(m.encodeHead(appendString(b, m.File)), uint64(len(m.Text)))
}

// AppendEnd appends what is behind the text.
func (m Mutation) AppendEnd(b []byte) []byte { return m.encodeEnd(b) }

// Check says whether a journal takes m.
func (m Mutation) Check() error { return m.check() }

// ParseMutation reads such a mutation, and returns what follows it in text.
// The error is ErrDamaged if there is no such mutation, also if its file is none that
// a mutation can have. The texts of m are parts of text.
func ParseMutation(text string) (m Mutation, rest string, err error) {
	in := &decoder{rest: text}
	file := in.string()
	m, _ = in.mutation()
	m.File = file
	if in.bad {
		return Mutation{}, "", fmt.Errorf("a mutation %w", ErrDamaged)
	}
	if err := m.check(); err != nil {
		return Mutation{}, "", fmt.Errorf("a mutation %w: %w", ErrDamaged, err)
	}
	return m, in.rest, nil
}
