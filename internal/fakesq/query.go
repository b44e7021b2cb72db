package fakesq

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// query is a request for the scrolls of a range, of a set, or of both. SQ has it
// since 0.6.0.
type query struct {
	ranged   bool
	from, to phext.Coordinate // both inclusive
	set      []phext.Coordinate
	limit    uint64 // scrolls at most
}

// parseQuery reads the parameters of `query`. The error is the text of SQ's 400.
// The order of the checks is SQ's (recorded in "query refused").
func parseQuery(p map[string]string) (query, error) {
	q := query{limit: 1<<64 - 1}
	if err := q.parseRange(strings.TrimSpace(p["from"]), strings.TrimSpace(p["to"])); err != nil {
		return query{}, err
	}
	set, ok := p["set"] // even an empty one goes before the body
	if !ok {
		set = p["content"]
	}
	if err := q.parseSet(set); err != nil {
		return query{}, err
	}
	if !q.ranged && len(q.set) == 0 {
		return query{}, errors.New("query needs a range (from + to) or a set of coordinates")
	}
	if limit := strings.TrimSpace(p["limit"]); limit != "" {
		n, err := unsigned(limit)
		if err != nil {
			return query{}, fmt.Errorf("invalid limit: %s", limit)
		}
		q.limit = n
	}
	return q, nil
}

func (q *query) parseRange(from, to string) error {
	if from == "" && to == "" {
		return nil
	}
	if from == "" || to == "" {
		return errors.New("a range needs both 'from' and 'to'")
	}
	q.ranged = true
	var ok bool
	if q.from, ok = strictCoordinate(from); !ok {
		return fmt.Errorf("invalid 'from' coordinate: %s", from)
	}
	if q.to, ok = strictCoordinate(to); !ok {
		return fmt.Errorf("invalid 'to' coordinate: %s", to)
	}
	if q.from.Compare(q.to) > 0 {
		return fmt.Errorf("'from' (%s) is after 'to' (%s)", from, to)
	}
	return nil
}

func (q *query) parseSet(text string) error {
	for item := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || r == '\n' }) {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		at, ok := strictCoordinate(item)
		if !ok {
			return fmt.Errorf("invalid coordinate in set: %s", item)
		}
		q.set = append(q.set, at)
	}
	return nil
}

// strictCoordinate accepts three groups of three numbers of at least 1. It has no
// upper bound but that of 64 bits, and readCoordinate then wraps the numbers at
// 32 bits.
func strictCoordinate(s string) (phext.Coordinate, bool) {
	groups := strings.Split(s, "/")
	if len(groups) != 3 {
		return phext.Coordinate{}, false
	}
	for _, group := range groups {
		numbers := strings.Split(group, ".")
		if len(numbers) != 3 {
			return phext.Coordinate{}, false
		}
		for _, number := range numbers {
			if n, err := unsigned(number); err != nil || n < 1 {
				return phext.Coordinate{}, false
			}
		}
	}
	return readCoordinate(s), true
}

// run makes the answer from the scrolls in memory. Of the range it takes only
// scrolls that are not empty. Of the set it takes every coordinate, with "" where
// there is no scroll (recorded in "query by range and set").
func (q query) run(scrolls map[phext.Coordinate]string) string {
	found := map[phext.Coordinate]string{}
	if q.ranged {
		for at, text := range scrolls {
			if text != "" && q.from.Compare(at) <= 0 && at.Compare(q.to) <= 0 {
				found[at] = text
			}
		}
	}
	for _, at := range q.set {
		found[at] = scrolls[at]
	}
	order := slices.SortedFunc(maps.Keys(found), phext.Coordinate.Compare)
	if uint64(len(order)) > q.limit {
		order = order[:q.limit]
	}
	entries := make([]string, 0, len(order))
	for _, at := range order {
		entries = append(entries, fmt.Sprintf(`{"coordinate":"%s","scroll":"%s"}`, show(at), jsonEscapes.Replace(found[at])))
	}
	return "[" + strings.Join(entries, ",") + "]"
}

// jsonEscapes escapes as serde_json does. encoding/json also escapes U+2028
// and U+2029.
var jsonEscapes = func() *strings.Replacer {
	pairs := []string{`"`, `\"`, `\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`}
	for c := range 0x20 {
		pairs = append(pairs, string(rune(c)), `\u00`+strconv.FormatInt(0x100+int64(c), 16)[1:])
	}
	return strings.NewReplacer(pairs...)
}()
