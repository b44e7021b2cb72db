package rewrite

import (
	"cmp"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

// Published is what the answer to a request of the published API needs to know beside
// the Call.
type Published struct {
	Coordinate string // as the client wrote it; "" for List and Search
	AsObject   bool   // read with c in the query: the answer is a JSON object
}

// LargestScroll is the largest scroll that Write takes, in bytes.
const LargestScroll = 10 << 20

// LargestBody is the largest body, in bytes, of a service that takes most.
func (h *Head) LargestBody(most int64) int64 {
	switch h.Op {
	case Write:
		return min(most, LargestScroll)
	case Restore:
		return min(most, largestRestore)
	case MCP:
		return min(most, largestMessage)
	case Batch:
		return min(most, LargestBatch)
	}
	return most
}

// setPublished checks what only the published API demands, and reads what only it has.
func (c *Call) setPublished(h *Head, p *params) *apierror.Error {
	switch {
	case !h.route.published():
		return nil
	case c.Op == List || c.Op == Search:
		c.Published = &Published{}
		return c.setListing(h, p)
	case !p.hasCoordinate():
		return badCoordinate("%s needs a coordinate: put it behind the operation, as in /api/v2/%s/1.1.1/1.1.1/1.1.1", h.Op, h.Op)
	}
	c.Published = &Published{Coordinate: cmp.Or(p.get(paramCoordinate), c.At.String()), AsObject: h.Op == Read && h.route.coordinate == ""}
	if h.Op != Write {
		return nil
	}
	if len(c.Scroll) == 0 {
		return badRequest("the body is empty: send the text, or use delete to remove the scroll")
	}
	return CheckName(c.Name)
}

// CheckName is the error for a coordinate's name that has not the form that the
// published API demands, or nil. SQ's own operations always took other names too.
func CheckName(name string) *apierror.Error {
	if hasLetter(name) && !WellFormedName(name) {
		return badCoordinate("the coordinate's name %s must have a '.', no part that is empty, and no '*'", clip(name))
	}
	return nil
}

// Listing is what List and Search look for.
type Listing struct {
	Everywhere bool // in all phexts that the call may show
	Prefix
	Query string   // of a search, as the client wrote it
	Terms []string // that must all be in the text of a search's scroll
	Page  int      // from 1
	Limit int      // most entries of an answer
}

// everyPhext is the name with which list and search ask for all phexts.
const everyPhext = "*"

// The most entries of an answer to list and search, and how many there are if the
// client does not say.
const (
	maxListed       = 1000
	defaultSearched = 10
	maxSearched     = 100
)

func (c *Call) setListing(h *Head, p *params) *apierror.Error {
	l := &Listing{Everywhere: c.Phext == everyPhext, Page: 1, Limit: maxListed}
	most, prefix := maxListed, h.route.coordinate
	if c.Op == Search {
		l.Limit, most, prefix = defaultSearched, maxSearched, p.get(paramNamespace)
		l.Query, l.Terms = p.get(paramQ), terms(p.get(paramQ))
		if len(l.Terms) == 0 {
			return badRequest("search needs the parameter q, with what to search for")
		}
	}
	var err *apierror.Error
	if l.Page, err = positive(p, paramPage, l.Page); err != nil {
		return err
	}
	if l.Limit, err = positive(p, paramLimit, l.Limit); err != nil {
		return err
	}
	l.Limit = min(l.Limit, most)
	c.Listing = l
	l.Prefix, err = parsePrefix(prefix)
	return err
}

// positive is a parameter that must be a number of at least 1.
func positive(p *params, which param, missing int) (int, *apierror.Error) {
	if !p.given(which) {
		return missing, nil
	}
	n, err := strconv.ParseInt(p.get(which), 10, 32)
	if err != nil || n < 1 {
		return 0, badRequest("parameter %q is %s: a number from 1 on is wanted", p[which].name, clip(p.get(which)))
	}
	return int(min(n, largestNumber)), nil
}

// largestNumber is the largest page, so that its first entry has an index.
const largestNumber = 1 << 20

// longestQuery is the most, in bytes, of the terms of a search, and mostTerms how many
// there may be. Further ones are ignored.
const (
	longestQuery = 1024
	mostTerms    = 16
)

// terms are the words of a query. What stands in quotes is one.
func terms(query string) (all []string) {
	if len(query) > longestQuery {
		query = strings.ToValidUTF8(query[:longestQuery], "")
	}
	for i, part := range strings.Split(query, `"`) {
		words := strings.Fields(part)
		if i%2 == 1 && len(words) > 0 {
			words = []string{part}
		}
		all = append(all, words...)
	}
	return all[:min(len(all), mostTerms)]
}

// Elsewhere is the same call for another phext.
func (c *Call) Elsewhere(phext string) *Call {
	other := *c
	other.Phext = phext
	return &other
}
