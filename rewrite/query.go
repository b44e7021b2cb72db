package rewrite

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// QuerySpec is what a query asks for: the scrolls of a range that are not empty, and
// each coordinate of a set, whether there is a scroll or not.
type QuerySpec struct {
	Ranged   bool
	From, To Place // of the range; both belong to it
	Set      []Place
	Limit    uint64 // the most scrolls of the answer
}

// Place is a coordinate in a query.
type Place struct {
	At   phext.Coordinate // for a name of numbers too, as far as they fit; not valid for another name
	Name string           // or ""
	Sent string           // as the client wrote it, if it has to be shown so; else ""
}

// What a set may take. A coordinate is kept from parsing to the answer.
const (
	maxSet      = 300_000
	placeMemory = 256 // bytes, while the list of places grows
)

// setMemory is Head.ParsedMemory for a query: the places, and what they copy.
func setMemory(body []byte, query string) int64 {
	items := 1 + strings.Count(query, "%") // an escape may be a separator
	for _, separator := range []string{",", ";", "\n"} {
		items += bytes.Count(body, []byte(separator)) + strings.Count(query, separator)
	}
	if items == 1 && len(body) == 0 {
		return 0
	}
	return int64(min(items, maxSet))*placeMemory + int64(len(body))
}

// setQuery reads a query in SQ's order, and refuses it in SQ's words (recorded in
// "query refused" and "query by body, method and route"). Of an empty parameter, only
// that of set counts: then the body does not.
func (c *Call) setQuery(p *params) *apierror.Error {
	if c.Op != Query {
		return nil
	}
	q := &QuerySpec{Limit: math.MaxUint64}
	if err := c.setRange(q, strings.TrimSpace(p.get(paramFrom)), strings.TrimSpace(p.get(paramTo))); err != nil {
		return err
	}
	set := c.Scroll
	if p.given(paramSet) {
		set = []byte(p.get(paramSet))
	}
	if err := c.setPlaces(q, set); err != nil {
		return err
	}
	if !q.Ranged && len(q.Set) == 0 {
		return sqRefuses("query needs a range (from + to) or a set of coordinates")
	}
	if limit := strings.TrimSpace(p.get(paramLimit)); limit != "" {
		n, ok := rustUnsigned(limit)
		if !ok {
			return sqRefuses("invalid limit: " + repeated(limit))
		}
		q.Limit = n
	}
	c.Query, c.Scroll = q, nil
	return nil
}

func (c *Call) setRange(q *QuerySpec, from, to string) *apierror.Error {
	switch {
	case from == "" && to == "":
		return nil
	case from == "" || to == "":
		return sqRefuses("a range needs both 'from' and 'to'")
	}
	var err *apierror.Error
	if q.From, err = c.place(from, "invalid 'from' coordinate: "); err != nil {
		return err
	}
	if q.To, err = c.place(to, "invalid 'to' coordinate: "); err != nil {
		return err
	}
	q.Ranged = true
	q.From.Sent, q.To.Sent = from, to
	if !hasLetter(q.From.Name) && !hasLetter(q.To.Name) && q.From.At.Compare(q.To.At) > 0 {
		return q.ErrReversed()
	}
	return nil
}

// ErrReversed is the error for a range whose end lies before its beginning.
func (q *QuerySpec) ErrReversed() *apierror.Error {
	return sqRefuses("'from' (" + repeated(q.From.Sent) + ") is after 'to' (" + repeated(q.To.Sent) + ")")
}

func (c *Call) setPlaces(q *QuerySpec, set []byte) *apierror.Error {
	if !isText(set, c.Pace) {
		return notUTF8("the set")
	}
	for len(set) > 0 {
		end := bytes.IndexAny(set[:min(len(set), longestOther)], ",;\n")
		if end < 0 {
			end = min(len(set), longestOther) // what is longer is no coordinate
		}
		item := bytes.TrimSpace(set[:end])
		c.Pace.Did(end + perItem)
		set = set[min(end+1, len(set)):]
		switch {
		case len(item) == 0:
			continue
		case len(q.Set) == maxSet:
			return apierror.New(apierror.TooLarge, "a set may have %d coordinates: send it in parts", maxSet)
		}
		place, err := c.place(string(item), "invalid coordinate in set: ")
		if err != nil {
			return err
		}
		q.Set = append(q.Set, place)
	}
	return nil
}

// place reads a coordinate of a query. SQ takes three groups of three numbers there,
// and nothing else. Names work too, and the caller's own id in front of numbers.
func (c *Call) place(s, refusal string) (p Place, err *apierror.Error) {
	numbers := s
	if id, rest, ok := splitPrefix(s); ok && (hasLetter(id) || id == c.tenant.ID) {
		if id != c.tenant.ID {
			return p, forbidden("coordinate %s has a prefix that is not your tenant id: leave the prefix out", clip(s))
		}
		numbers, p.Sent = rest, s
	}
	switch {
	case hasLetter(numbers):
		if !WellFormedName(s) || strings.ContainsAny(s, "%\ufeff") {
			return p, sqRefuses(refusal + repeated(s))
		}
		return Place{Name: canonicalName(s), Sent: s}, nil
	case !strictNumbers(numbers):
		return p, sqRefuses(refusal + repeated(s))
	}
	numbers = strings.ReplaceAll(numbers, "+", "")
	if p.At, p.Name, err = parseCoordinate(numbers, ""); p.Name != "" {
		p.At, _ = phext.Numbers(numbers)
		p.Sent = s
	}
	return p, err
}

// strictNumbers says whether s has the form that SQ's query takes. SQ also demands
// that no number is 0: here, such a coordinate is a name.
func strictNumbers(s string) bool {
	groups := strings.Split(s, "/")
	if len(groups) != 3 {
		return false
	}
	for _, group := range groups {
		numbers := strings.Split(group, ".")
		if len(numbers) != 3 {
			return false
		}
		for _, number := range numbers {
			if _, ok := rustUnsigned(number); !ok {
				return false
			}
		}
	}
	return true
}

// rustUnsigned reads a number as Rust does, which allows a plus sign.
func rustUnsigned(s string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64)
	return n, err == nil
}

// sqRefuses is a 400 in SQ's words.
func sqRefuses(reason string) *apierror.Error {
	return &apierror.Error{Kind: apierror.BadRequest, Message: "Bad Request: " + reason, Text: true}
}

// longestRepeat is the most, in bytes, that a refusal in SQ's words repeats of what a
// caller sent. SQ repeats all of it.
const longestRepeat = 1024

func repeated(s string) string { return shortened(s, longestRepeat, "...") }

// shortened is s, or its beginning of most bytes and an end that says so.
func shortened(s string, most int, end string) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + end
}
