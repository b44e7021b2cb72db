package rewrite

import (
	"bytes"
	"fmt"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// What a batch may be: the bytes of its body, and how many operations it has.
const (
	LargestBatch   = 4 << 20
	MostOperations = 1000
)

// Operation is one of a batch: select, insert, update or delete.
type Operation struct {
	*Call
	IfMatch    []string // as Request.IfMatch of package writer; none = whatever is there
	Coordinate string   // as the client wrote it
}

// What an operation takes in memory beside its texts, in bytes: in the list, in the
// journal's record and among the results.
const (
	operationMemory = 2 << 10
	copiesOfBatch   = 6 // of the texts: the calls, the phext, the mutations, the journal's record while it grows, the bucket
)

// batchMemory is what a batch takes in memory beside its body, at most.
func batchMemory(body []byte) int64 {
	operations := min(bytes.Count(body, []byte("{")), MostOperations+1)
	return copiesOfBatch*int64(len(body)) + int64(operations)*operationMemory
}

// batch reads {"operations": [{"op", "c", "s", "if_match"}, ...]}. A field that is not known
// is refused: it could be a precondition with another name.
func (h *Head) batch(body []byte) (*Call, *apierror.Error) {
	got := collector{op: h.Op, pace: h.Pace}
	if err := got.query(h.query); err != nil {
		return nil, err
	}
	if got.hasCoordinate() || got.given(paramScroll) {
		return nil, badRequest("a batch takes coordinates and texts from its operations, and not from the query: nothing was changed")
	}
	c := &Call{Op: Batch, Pace: h.Pace, Recipient: h.Recipient, At: phext.Origin(), tenant: h.tenant}
	if err := c.setPhext(&got.params); err != nil {
		return nil, err
	}
	if !isText(body, h.Pace) {
		return nil, notUTF8("the body")
	}
	r := &batchReader{jsonText: jsonText{rest: bytes.TrimPrefix(body, byteOrderMark), pace: h.Pace}, call: c}
	size := len(r.rest)
	err := r.read()
	if err != nil && err.Message == "" {
		*err = *badRequest("the body is no JSON as a batch is, with a mistake at byte %d: nothing was changed; send {\"operations\":[{\"op\":\"update\",\"c\":\"1.1.1/1.1.1/1.1.1\",\"s\":\"text\"}]}", size-len(r.rest))
	}
	if err == nil && len(c.Batch) == 0 {
		err = badRequest("a batch needs the field \"operations\", a list with at least one operation")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// batchReader reads the body of a batch.
type batchReader struct {
	jsonText
	call *Call
}

// mistake is a mistake in the syntax, which gets its message when its place is known.
func mistake() *apierror.Error { return &apierror.Error{Kind: apierror.BadRequest} }

func (r *batchReader) read() *apierror.Error {
	given := false
	err := r.object(func(name string) *apierror.Error {
		switch {
		case name != "operations":
			return badRequest("the field %s of a batch is not known: it has \"operations\" alone, and the phext stands in the query as p", clip(name))
		case given:
			return badRequest("the field \"operations\" is given twice: give it once")
		}
		given = true
		return r.list()
	})
	if err == nil && len(trimSpaces(r.rest, r.pace)) > 0 {
		err = mistake()
	}
	return err
}

// object reads an object; value reads the value of a field.
func (r *batchReader) object(value func(name string) *apierror.Error) *apierror.Error {
	if !r.skip('{') {
		return mistake()
	}
	for n := 0; !r.skip('}'); n++ {
		if n > 0 && !r.skip(',') {
			return mistake()
		}
		name, ok := r.text()
		if !ok || !r.skip(':') {
			return mistake()
		}
		if err := value(name); err != nil {
			return err
		}
	}
	return nil
}

// text reads a string.
func (r *batchReader) text() (string, bool) {
	r.rest = trimSpaces(r.rest, r.pace)
	if len(r.rest) == 0 || r.rest[0] != '"' {
		return "", false
	}
	length, err := r.lengthOfString()
	if err != nil {
		return "", false
	}
	quoted := r.rest[:length]
	r.rest = r.rest[length:]
	return alone(unquote(quoted, r.pace), length, r.pace), true
}

func (r *batchReader) list() *apierror.Error {
	if !r.skip('[') {
		return badRequest("the field \"operations\" must be a list of objects")
	}
	for n := 0; !r.skip(']'); n++ {
		if n > 0 && !r.skip(',') {
			return mistake()
		}
		if n == MostOperations {
			return apierror.New(apierror.TooLarge, "a batch may have %d operations: nothing was changed; send several", MostOperations)
		}
		r.pace.Did(perItem)
		one, err := r.operation()
		if err != nil && err.Message == "" {
			return err
		}
		if err != nil {
			return apierror.From(apierror.OfOperation(n, err))
		}
		r.call.Batch = append(r.call.Batch, one)
	}
	return nil
}

// operation reads one operation and checks it as if it had come alone.
func (r *batchReader) operation() (one Operation, err *apierror.Error) {
	fields := map[string]string{}
	if err := r.object(func(name string) *apierror.Error {
		known, ok := operationField(name)
		if !ok {
			return badRequest("the field %s is not known: an operation has op, c, s and if_match", clip(name))
		}
		if _, twice := fields[known]; twice {
			return badRequest("the field %s is given twice, perhaps under two names: give it once", clip(name))
		}
		r.rest = trimSpaces(r.rest, r.pace)
		value, ok := r.text()
		if !ok && len(r.rest) > 0 && r.rest[0] != '"' {
			return badRequest("the field %s must be a string", clip(name))
		}
		fields[known] = value
		if !ok {
			return mistake()
		}
		return nil
	}); err != nil {
		return one, err
	}
	return r.complete(fields)
}

// operationField is the name that a field of an operation has here: a coordinate and a text
// may have the names that they have elsewhere.
func operationField(name string) (known string, ok bool) {
	if name == "op" || name == "if_match" {
		return name, true
	}
	switch which, _, ok := paramNamed(name, scrollNames[:]); {
	case !ok:
	case which == paramCoordinate:
		return "c", true
	case which == paramScroll, name == "scroll":
		return "s", true
	}
	return "", false
}

func (r *batchReader) complete(fields map[string]string) (one Operation, err *apierror.Error) {
	c := &Call{Op: Op(fields["op"]), Phext: r.call.Phext, Pace: r.pace, tenant: r.call.tenant}
	text, hasText := fields["s"]
	switch c.Op {
	case Insert, Update:
		if !hasText {
			return one, badRequest("the field \"s\" is missing: %s takes the text in it, and \"\" is an empty one", c.Op)
		}
	case Select, Delete:
		if hasText {
			return one, badRequest("the field \"s\" is there, and %s takes no text", c.Op)
		}
	case "":
		return one, badRequest("the field \"op\" is missing: select, insert, update or delete is wanted")
	default:
		return one, badRequest("the field \"op\" is %s: select, insert, update or delete is wanted", clip(string(c.Op)))
	}
	c.Op, _ = operationNamed(string(c.Op)) // which is no part of the body
	where, hasWhere := fields["c"]
	if !hasWhere {
		return one, badRequest("the field \"c\" is missing: the coordinate of the scroll is wanted")
	}
	if c.At, c.Name, err = parseCoordinate(where, c.tenant.ID); err == nil {
		err = c.checkNamed()
	}
	if err != nil {
		return one, ofField("c", err)
	}
	c.Scroll = asBytes(text)
	if c.Pace.HasDelimiter(text) {
		return one, ofField("s", apierror.New(apierror.HasDelimiters,
			"the text holds a phext delimiter (one of the bytes 01 17 18 19 1A 1C 1D 1E 1F), which no text of a batch may: remove it, or write each part to its own coordinate"))
	}
	one = Operation{Call: c, Coordinate: strings.Clone(where)}
	if tags, given := fields["if_match"]; given {
		one.IfMatch = []string{tags}
	}
	return one, nil
}

func ofField(name string, err *apierror.Error) *apierror.Error {
	err.Message = fmt.Sprintf("field %q: %s", name, err.Message)
	return err
}
