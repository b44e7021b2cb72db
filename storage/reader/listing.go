package reader

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// row is a scroll that list or search has found.
type row struct {
	at       phext.Coordinate
	name     string // or ""
	phext    string
	text     string  // of a search; a list does not keep the text in memory
	size     int     // of the text, in bytes
	modified int64   // of the phext's file, in nanoseconds
	score    float64 // of a search, 0 to 1
}

func (r *row) label() string {
	if r.name != "" {
		return r.name
	}
	return r.at.String()
}

// searchTimeout is the longest that one list or search looks through phexts.
const searchTimeout = 10 * time.Second

var errTooSlow = apierror.RetryIn(time.Minute, apierror.Unavailable,
	"it takes too long to look through all of this: name one phext with p, or a prefix")

// listing answers list and search. What it collects is counted as memory while it is
// collected, and the answer until it is sent.
func (r *Reader) listing(ctx context.Context, d *datadir.Dir, call *rewrite.Call) (Answer, error) {
	if call.Op == rewrite.Search {
		if !d.Searches.Take(1) {
			return Answer{}, datadir.ErrBusy
		}
		defer d.Searches.Give(1)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, searchTimeout, errTooSlow)
	defer cancel()
	rows, release, err := r.collect(ctx, d, call)
	defer release()
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTooSlow):
		return Answer{}, errTooSlow
	case err != nil:
		return Answer{}, err
	}
	sortRows(rows)
	l := call.Listing
	first := min((l.Page-1)*l.Limit, len(rows))
	page := rows[first:min(first+l.Limit, len(rows))]
	size := int64(0)
	for _, row := range page {
		size += answerRow + inJSON*int64(2*len(row.name)+len(row.phext)+len(row.text))
	}
	made, err := r.Dirs.Admit(size)
	if err != nil {
		return Answer{}, err
	}
	defer made()
	text, err := answerListing(call, page, len(rows))
	if err != nil {
		return Answer{}, err
	}
	done, ok := d.Sending.Take(l, int64(len(text)))
	if !ok {
		return Answer{}, datadir.ErrBusy
	}
	return Answer{text, etag.Of(text), done}, nil
}

// answerRow is what a scroll takes in the answer beside its texts, in bytes, and inJSON
// what a byte of a text may take.
const (
	answerRow = 1024
	inJSON    = 6
)

// collect finds what the call asks for, phext by phext. release is never nil.
func (r *Reader) collect(ctx context.Context, d *datadir.Dir, call *rewrite.Call) (rows []row, release func(), err error) {
	var held []func()
	release = func() {
		for _, give := range held {
			give()
		}
	}
	phexts := []string{call.Phext}
	if call.Listing.Everywhere {
		if phexts, err = d.Phexts(ctx, call); err != nil {
			return nil, release, err
		}
	}
	matches := matcher(call.Listing.Terms)
	for _, name := range phexts {
		v, err := d.RecoveredView(ctx, call.Elsewhere(name))
		if err != nil {
			return nil, release, err
		}
		size := 2 * int64(v.Phext.Phext.Len()) * int64(unsafe.Sizeof(row{})) // a list that grows is there twice
		if call.Op == rewrite.Search {
			size += v.Phext.Size() // for matcher, and for texts that are part of what was found
		}
		give, err := r.Dirs.Admit(size)
		if err != nil {
			return nil, release, err
		}
		held = append(held, give)
		before := len(rows)
		named := v.Names.Phext.InOrder()
		for _, s := range v.Phext.Phext.Scrolls() {
			if ctx.Err() != nil {
				return nil, release, ctx.Err()
			}
			found := row{at: s.At, phext: name, size: len(s.Text), modified: v.Phext.ID.Mtime}
			found.name, _ = named(s.At)
			if !call.Listing.Covers(found.at, found.name) {
				continue
			}
			if call.Op == rewrite.Search {
				found.text = s.Text
			}
			if found.score = matches(s.Text); found.score > 0 {
				rows = append(rows, found)
			}
		}
		if len(rows) == before {
			give()
			held = held[:len(held)-1]
		}
	}
	return rows, release, nil
}

// sortRows sorts by score, and then as coordinates count.
func sortRows(rows []row) {
	slices.SortStableFunc(rows, func(a, b row) int {
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
		if a.name == "" && b.name == "" {
			return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.phext, b.phext))
		}
		return cmp.Or(compareNatural(a.label(), b.label()), cmp.Compare(a.phext, b.phext))
	})
}

// compareNatural compares coordinates and names component by component. Numbers come
// before words and count as numbers, so readme.9 is before readme.10.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		var partA, partB string
		partA, a = cutPart(a)
		partB, b = cutPart(b)
		if c := comparePart(partA, partB); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func cutPart(s string) (part, rest string) {
	end := strings.IndexAny(s, "./")
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end+1:]
}

func comparePart(a, b string) int {
	numberA, numberB := isNumber(a), isNumber(b)
	switch {
	case numberA && numberB:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	case numberA:
		return -1
	case numberB:
		return 1
	}
	return cmp.Compare(a, b)
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// listed and searched are the entries of the answers.
type listed struct {
	Coordinate string `json:"coordinate"`
	SizeBytes  int    `json:"size_bytes"`
	Modified   string `json:"modified"` // when the phext was written last: SQ keeps no time for a scroll
	Phext      string `json:"phext,omitempty"`
}

type searched struct {
	Coordinate string      `json:"coordinate"`
	Snippet    string      `json:"snippet"`
	Score      json.Number `json:"score"`
	Content    string      `json:"content"`
	Phext      string      `json:"phext,omitempty"`
}

// answerListing is the answer with one page of all rows that were found.
func answerListing(call *rewrite.Call, page []row, all int) (string, error) {
	l := call.Listing
	var answer any
	if call.Op == rewrite.Search {
		results := make([]searched, 0, len(page))
		for _, row := range page {
			one := searched{row.label(), snippet(row.text, l.Terms[0]), json.Number(strconv.FormatFloat(row.score, 'f', 4, 64)), row.text, ""}
			if l.Everywhere {
				one.Phext = row.phext
			}
			results = append(results, one)
		}
		answer = struct {
			Query   string     `json:"query"`
			Count   int        `json:"count"`
			Total   int        `json:"total"`
			Results []searched `json:"results"`
		}{l.Query, len(results), all, results}
	} else {
		coordinates, scrolls := make([]string, 0, len(page)), make([]listed, 0, len(page))
		for _, row := range page {
			one := listed{row.label(), row.size, time.Unix(0, row.modified).UTC().Format(time.RFC3339), ""}
			if l.Everywhere {
				one.Phext = row.phext
			}
			coordinates, scrolls = append(coordinates, one.Coordinate), append(scrolls, one)
		}
		answer = struct {
			Prefix      string   `json:"prefix"`
			Count       int      `json:"count"`
			Total       int      `json:"total"`
			Coordinates []string `json:"coordinates"`
			Scrolls     []listed `json:"scrolls"`
		}{l.Prefix, len(scrolls), all, coordinates, scrolls}
	}
	b, err := json.Marshal(answer)
	b = append(b, '\n')
	return unsafe.String(unsafe.SliceData(b), len(b)), err
}
