package tenants

import "fmt"

// FieldError is one thing wrong with a tenants file. Its text names the
// tenant, the field and what to do. It repeats no value of the file but an
// id that is sound, or too short to hold a key: a key may stand in any wrong
// place.
type FieldError struct {
	Tenant  string // id, or "" if that is what is wrong
	Index   int    // position in the file, from 1; 0 for the file itself
	Field   string // "" if the name is not fit to be repeated
	Problem string // what is wrong, to be read behind the field
	Fix     string // what to do about it
}

func (e *FieldError) Error() string {
	said := fmt.Sprintf("field %q %s: %s", e.Field, e.Problem, e.Fix)
	if e.Field == "" {
		said = fmt.Sprintf("a field %s: %s", e.Problem, e.Fix)
	}
	if e.Index == 0 {
		return said
	}
	return who(e.Tenant, e.Index) + ": " + said
}

// who names a tenant by its id, or by its place in the file if it has none.
func who(id string, index int) string {
	if id == "" {
		return fmt.Sprintf("tenant number %d", index)
	}
	return fmt.Sprintf("tenant %q", id)
}

// FormatError says that a text is no tenants file at all, and where.
type FormatError struct {
	Line, Column int // from 1, in characters; 0 if the whole text is meant
	Problem      string
	Fix          string
}

func (e *FormatError) Error() string {
	if e.Line == 0 {
		return e.Problem + ": " + e.Fix
	}
	return fmt.Sprintf("line %d, column %d: %s: %s", e.Line, e.Column, e.Problem, e.Fix)
}

// ValueError says what is wrong with an id or a key, to be read behind the
// name of its field. It repeats no value that could hold a key.
type ValueError struct {
	Problem string
	Fix     string
}

func (e *ValueError) Error() string { return e.Problem + ": " + e.Fix }
