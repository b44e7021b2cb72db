package journal

import "fmt"

// Append appends m to b in the form in which records have it, which other places
// that keep mutations use too. ParseMutation reads it.
func (m Mutation) Append(b []byte) []byte { return m.encode(appendString(b, m.File)) }

// Check says whether a journal takes m.
func (m Mutation) Check() error { return m.check() }

// ParseMutation reads what Append appended, and returns what follows it in text.
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
