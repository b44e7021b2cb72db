package tenants

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/strictjson"
)

// listed is an element of a list in an Entry, in which no two have the same id.
type listed interface{ id() string }

// eachListed calls read for each element of the list in a field, which holds at most so
// many. one is what an element is called, and form how it is written. read decodes an
// element by decode, whose targets have the name of the field in front. It returns the id,
// and ok if there is an element.
func (b *builder) eachListed(field, one, form string, most int, list *[]json.RawMessage, read func(decode func(targets map[string]any) bool) (id string, ok bool)) {
	if list == nil {
		return
	}
	if len(*list) > most {
		b.refuse(field, "is too long", "list at most "+strconv.Itoa(most))
		return
	}
	seen := map[string]bool{}
	for _, raw := range *list {
		fields, isObject := strictjson.Fields(raw)
		if !isObject {
			b.refuse(field, "has something in it that is not a "+one, "write "+form)
			continue
		}
		for i := range fields {
			fields[i].Name = field + "." + fields[i].Name
		}
		id, ok := read(func(targets map[string]any) bool { return b.decode(fields, targets) })
		if !ok {
			continue
		}
		if id != "" && seen[id] {
			b.refuse(field+".id", "is that of another "+one+" of the tenant", "give each its own")
		}
		seen[id] = true
	}
}

// longestNote is how long a note is at most, in bytes.
const longestNote = 500

// note reads the note of an element.
func (b *builder) note(field string, note *string) string {
	text := valueOr(note, "")
	if len(text) > longestNote || strings.ContainsFunc(text, notInPath) {
		b.refuse(field, "is too long, or has control characters", "write up to 500 characters on one line")
	}
	return text
}

// addListed adds an element to a list. The error is taken if one has its id already.
func addListed[E listed](list **[]json.RawMessage, one E, taken error) error {
	switch i, _, err := findListed[E](*list, one.id()); {
	case err != nil:
		return err
	case i >= 0:
		return taken
	}
	raw, err := json.Marshal(one)
	if err != nil {
		return err
	}
	all := append(slices.Clone(valueOr(*list, nil)), raw)
	*list = &all
	return nil
}

// removeListed removes the element with an id, and returns it. The error is missing if there
// is none.
func removeListed[E listed](list **[]json.RawMessage, id string, missing error) (removed E, err error) {
	i, removed, err := findListed[E](*list, id)
	switch {
	case err != nil:
		return removed, err
	case i < 0:
		return removed, missing
	}
	left := slices.Delete(slices.Clone(**list), i, i+1)
	if *list = &left; len(left) == 0 {
		*list = nil
	}
	return removed, nil
}

// findListed returns the element with an id and its index, which is -1 if there is none.
func findListed[E listed](list *[]json.RawMessage, id string) (i int, found E, err error) {
	for i, raw := range valueOr(list, nil) {
		var one E
		if err := json.Unmarshal(raw, &one); err != nil {
			return -1, found, err
		}
		if one.id() == id {
			return i, one, nil
		}
	}
	return -1, found, nil
}
