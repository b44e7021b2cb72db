package rewrite

import (
	"path"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// Access is what a caller may do with the phexts in its scope, from least to most.
type Access int

// All kinds of access. Each allows what those before it allow.
const (
	NoAccess     Access = iota
	ReadAccess          // read scrolls, lists and changes
	AppendAccess        // insert, and write where nothing is
	WriteAccess         // replace and delete
)

// accessWords are the words of the tenants file and of tokens.
var accessWords = map[Access]string{ReadAccess: "read", AppendAccess: "append", WriteAccess: "read-write"}

func (a Access) String() string { return accessWords[a] }

// ParseAccess is the access that a word stands for.
func ParseAccess(word string) (Access, bool) {
	for a, text := range accessWords {
		if text == word {
			return a, true
		}
	}
	return NoAccess, false
}

// Scope is what a caller may do with the phexts of a tenant. It is immutable, and the
// zero Scope allows nothing. Whoever serves a request has it checked once, on the Call,
// by Authorize: a list of calls, as in a batch, one after the other. Storage then asks
// the Call itself (Shows, CheckChange), so that no other place has to know of scopes.
type Scope struct {
	Access    Access
	Phexts    []string // patterns of their names; nil = all
	Prefix    *Prefix  // of the coordinates; nil = all
	Anonymous bool     // without a key: only phexts, and nothing about the tenant itself
	Guest     bool     // with the key of another tenant, which is a writer: nothing about this one either
}

// Everything is the scope of a tenant's own key, and Guests is that of a writer's in the
// space of another.
var (
	Everything = &Scope{Access: WriteAccess}
	Guests     = &Scope{Access: WriteAccess, Guest: true}
)

// Within is s with at most an access.
func (s *Scope) Within(most Access) *Scope {
	if s.Access <= most {
		return s
	}
	less := *s
	less.Access = most
	return &less
}

// Authorize returns the error for a call that is out of scope, or nil. The error is
// Forbidden and says which right is missing, whether or not there is such a phext or
// scroll. Of a call about several scrolls, only those in scope are shown: c keeps the
// scope, and everything that is made of a datadir.View of it is made of those scrolls alone.
//
// It looks at nothing but c. Whether a scroll is there already is looked at by
// CheckChange, when the directory is locked.
func (s *Scope) Authorize(c *Call) error {
	if c.Batch != nil {
		for i, op := range c.Batch {
			if err := s.Authorize(op.Call); err != nil {
				return apierror.OfOperation(i, err)
			}
		}
		c.scope = s
		return nil
	}
	if err := s.authorize(c); err != nil {
		return err
	}
	c.scope = s
	return nil
}

func (s *Scope) authorize(c *Call) *apierror.Error {
	if needs := c.Op.access(); s.Access < needs {
		return forbidden("this key may %s: %s takes a key with the access %s", s.Access.can(), c.Op, needs.words())
	}
	switch {
	case s.Anonymous && c.Op == Changes: // they name keys
		return forbidden("%s takes a key of the tenant", c.Op)
	case (s.Anonymous || s.Guest) && operations[c.Op].own:
		return forbidden("%s takes a key of the tenant itself: this one may read and write here, and no more", c.Op)
	case c.Op == Where, c.Op == Usage, c.Op == MCP: // about the text that comes with it; about the key; what a tool does is a call of its own
		return nil
	case c.Op == Restore && s.Prefix != nil:
		return forbidden("restore takes a key that may read and write whole phexts, and this one has only the scrolls below %s", clip(s.Prefix.Text))
	case !s.coversPhextOf(c):
		return s.otherPhext(c.Phext)
	case c.History != nil && c.History.To != nil && !s.CoversPhext(c.History.To.Phext):
		return s.otherPhext(c.History.To.Phext)
	case s.Prefix != nil && strings.HasSuffix(c.Phext, NamesSuffix):
		return forbidden("phext %s has the names of all scrolls, and this key has only those below %s", clip(c.Phext), clip(s.Prefix.Text))
	case !s.coversCoordinatesOf(c):
		return s.outside()
	case (s.Prefix != nil || s.Access < WriteAccess) && c.Op.Mutates() && c.Pace.HasDelimiter(view(c.Scroll)):
		return forbidden("the text has delimiters, which would move the scrolls after it: that takes a key that may read and write all scrolls")
	}
	return nil
}

// can says what a key may do, and what not.
func (a Access) can() string {
	switch a {
	case ReadAccess:
		return "read and not write"
	case AppendAccess:
		return "append, and not replace or delete"
	}
	return "do nothing"
}

// words are those of what is needed, and of more.
func (a Access) words() string {
	if a == AppendAccess {
		return "append or read-write"
	}
	return a.String()
}

func (s *Scope) otherPhext(name string) *apierror.Error {
	return forbidden("phext %s is out of this key's scope: it has the phexts %s", clip(name), clip(strings.Join(s.Phexts, ", ")))
}

func (s *Scope) outside() *apierror.Error {
	return forbidden("this coordinate is out of this key's scope: it has the scrolls below %s", clip(s.Prefix.Text))
}

// access is what an operation takes.
func (op Op) access() Access {
	switch {
	case op == Insert || op == Update:
		return AppendAccess // CheckChange refuses the rest
	case op.Mutates():
		return WriteAccess
	}
	return ReadAccess
}

// coversPhextOf leaves those out that are about several phexts, of which only some are
// shown.
func (s *Scope) coversPhextOf(c *Call) bool {
	if c.Listing != nil && c.Listing.Everywhere || c.Changes != nil && c.Changes.Everywhere || c.History != nil && c.History.Everywhere {
		return true
	}
	return s.CoversPhext(c.Phext)
}

// CoversPhext says whether a phext is in scope. The names of coordinates are in scope if
// their phext is, whatever the patterns say about the name of theirs.
func (s *Scope) CoversPhext(name string) bool {
	if s.Phexts == nil {
		return true
	}
	for {
		of, isNames := strings.CutSuffix(name, NamesSuffix)
		if !isNames {
			break
		}
		name = of
	}
	for _, pattern := range s.Phexts {
		if ok, _ := path.Match(pattern, name); ok { // the pattern was checked when it was read
			return true
		}
	}
	return false
}

func (s *Scope) coversCoordinatesOf(c *Call) bool {
	if s.Prefix == nil {
		return true
	}
	if (operations[c.Op].coordinate || c.History != nil && c.History.OfScroll) && !s.covers(c.At, c.Name) {
		return false
	}
	if c.Query != nil {
		for _, place := range c.Query.Set {
			if !s.covers(place.At, place.Name) {
				return false
			}
		}
	}
	return true
}

// covers says whether a scroll is in scope: the one with a name, or else the one at a
// coordinate. Where names are kept, a coordinate alone never is. So nothing depends on
// which coordinates the names of others have.
func (s *Scope) covers(at phext.Coordinate, name string) bool {
	return s.Prefix == nil || s.Prefix.Covers(at, name) && (name != "" || at.Compare(FirstNamed()) < 0)
}

// FirstNamed is where the scrolls with names begin.
func FirstNamed() phext.Coordinate { return phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 1} }

// ShowsPhext says whether the caller may know of a phext of the same tenant.
func (c *Call) ShowsPhext(name string) bool { return c.scope == nil || c.scope.CoversPhext(name) }

// Shows says whether the caller may know of a scroll, which has a name or none.
func (c *Call) Shows(at phext.Coordinate, name string) bool {
	return c.scope == nil || c.scope.covers(at, name)
}

// ShowsAnyOf says whether the caller may know of a scroll from one coordinate up to
// another, as far as that can be said without the names of those that have one.
func (c *Call) ShowsAnyOf(from, to phext.Coordinate) bool {
	return c.ShowsAll() || to.Compare(FirstNamed()) >= 0 || c.scope.Prefix.reaches(from, to)
}

// ShowsChange says whether the caller may know of a change of a phext: of a scroll, which
// has a name or none; of those up to another one, if that is valid; or of all of it, if at
// is not valid.
func (c *Call) ShowsChange(phext string, at, upTo phext.Coordinate, name string) bool {
	switch {
	case !c.ShowsPhext(phext):
		return false
	case upTo.Valid():
		return c.ShowsAnyOf(at, upTo)
	}
	return !at.Valid() || c.Shows(at, name)
}

// Scope is what the caller may know of; nil = all that the tenant has.
func (c *Call) Scope() *Scope { return c.scope }

// ShowsAll says whether the caller may know of all scrolls of the phext.
func (c *Call) ShowsAll() bool { return c.scope == nil || c.scope.Prefix == nil }

// ShowsFigures says whether the caller may know what the whole tenant has and may have: its
// quota, its disk, and how much of them is used. That takes a key of the tenant itself, for
// all that it has.
func (c *Call) ShowsFigures() bool {
	s := c.scope
	return s == nil || s.Phexts == nil && s.Prefix == nil && !s.Guest && !s.Anonymous
}

// IsGuests says whether the caller is another tenant, which may write here.
func (c *Call) IsGuests() bool { return c.scope != nil && c.scope.Guest }

// CheckChange is the error for a change of a scroll that the caller may not make, now that
// it is known whether the scroll exists, and which name its coordinate has, or "".
func (c *Call) CheckChange(name string, exists bool) error {
	switch {
	case c.scope == nil:
	case name != "" && name != c.Name && !c.scope.covers(c.At, name):
		return c.scope.outside()
	case exists && c.Op != Insert && c.scope.Access < WriteAccess:
		return forbidden("there is a scroll at this coordinate, and this key may %s: that takes a key with the access read-write", c.scope.Access.can())
	}
	return nil
}
