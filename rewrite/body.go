package rewrite

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// scroll is the text of insert, update and where, or of a delta in the query. If
// the query or the path has a coordinate, the body is the text, whatever it looks
// like. Otherwise the body may be a form or a JSON object with phext, coordinate
// and text. A body counts more than the query's s, as in SQ (recorded in "bodies").
// body is nil if the request has none, not even an empty one.
func (h *Head) scroll(got *collector, body []byte) ([]byte, *apierror.Error) {
	if body == nil && (h.does == Insert || h.does == Update) && !got.given(paramScroll) {
		return nil, noText(h.Op)
	}
	if !h.TakesBody() || len(body) == 0 || h.Op == Delta || h.Op == Restore {
		return got.text(), nil
	}
	if h.does == Delete {
		if !got.hasCoordinate() {
			return nil, badRequest("delete takes the coordinate from the query or the path, and this request has only a body: nothing was changed")
		}
		return nil, nil
	}
	if h.Op == Where || h.Op == Query || h.Op == MCP || got.hasCoordinate() {
		return body, nil
	}
	added, err := got.addBody(body)
	if err != nil || added {
		return asBytes(alone(got.get(paramScroll), len(body), h.Pace)), err
	}
	return body, checkHidden(body, h.Pace)
}

// alone is a text that is a part of size bytes, or has room for them. It is copied if they are
// much more: a scroll stays in memory after its request, and counts as what it is.
func alone(text string, size int, pace phext.Pace) string {
	if size <= len(text)+len(text)/4 {
		return text
	}
	out := phext.Builder{Pace: pace}
	out.Grow(len(text))
	_, _ = out.WriteString(text) // which never fails
	return out.String()
}

// text is the scroll among the parameters.
func (p *params) text() []byte {
	return asBytes(p.get(paramScroll))
}

func asBytes(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) } // nobody changes it

func (p *params) hasCoordinate() bool { return p.given(paramCoordinate) || p.hasDimension() }

func (p *params) hasDimension() bool {
	for which := paramLibrary; which < paramCount; which++ {
		if p.given(which) {
			return true
		}
	}
	return false
}

// addBody adds the parameters of a body that is a JSON object or a form with a text
// in it, and returns false for any other body. It looks at the body alone, not at
// its content type, because curl -d calls everything a form. A body that names a
// coordinate, and from which coordinate and text cannot be taken, is refused: it is
// not meant as a text for the origin.
func (c *collector) addBody(body []byte) (added bool, err *apierror.Error) {
	if isMultipart(body) {
		return false, badRequest("multipart forms are not read: nothing was changed; send a plain form (curl --data-urlencode), or put the coordinate into the query")
	}
	b, ok := jsonBody(body, c.pace)
	if !ok {
		b, ok = formBody(body, c.pace)
	}
	scroll := ok && b.has(func(p param) bool { return p == paramScroll })
	switch {
	case !ok:
		return false, nil
	case b.problem != "" && b.hasCoordinate():
		return false, badRequest("the %s has a coordinate and %s: nothing was changed; mend it, or put the coordinate into the query", b.kind, b.problem)
	case b.problem != "":
		return false, nil
	case !scroll && b.hasCoordinate():
		return false, noScroll(b.kind)
	case !scroll, b.kind == kindJSON && !b.has(isCoordinate):
		return false, nil
	}
	c.remove(paramScroll) // the body counts more than the query's s
	c.nextSource()
	for _, f := range b.fields {
		if f.problem != "" {
			return false, badRequest("field %q of the %s %s", f.name, b.kind, f.problem)
		}
		if err := c.put(f.param, f.bit, f.name, f.value); err != nil {
			return false, err
		}
	}
	return true, nil
}

// isMultipart says whether the body is what curl -F and libraries send.
func isMultipart(body []byte) bool {
	body = bytes.TrimLeft(body[:min(len(body), 1024)], "\r\n")
	return bytes.HasPrefix(body, []byte("--")) && bytes.Contains(bytes.ToLower(body), []byte("\ncontent-disposition: form-data"))
}

// bodyFields are the fields with a known name in a body that is a form or a JSON
// object.
type bodyFields struct {
	kind    string // kindForm or kindJSON
	fields  []field
	problem string // why the fields cannot be taken from it; "" = they can
}

// The kinds of bodies with fields, as errors call them.
const (
	kindForm = "form"
	kindJSON = "JSON object"
)

type field struct {
	name, value, problem string
	param                param
	bit                  int // in collector.seen
}

func (b *bodyFields) has(wanted func(param) bool) bool {
	for _, f := range b.fields {
		if wanted(f.param) {
			return true
		}
	}
	return false
}

// isNotInCoordinate is for what somebody meant as the name of a coordinate. A long text may
// have "&a=" somewhere, and other signs behind it.
func isNotInCoordinate(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("./;:-_", r)
}

func isCoordinate(p param) bool { return p == paramCoordinate || p >= paramLibrary }

// hasCoordinate says whether a field is a coordinate. A text may be "a=1 and more" or
// {"a": 1.5}, so a name must have a separator, unless the field of a JSON object is
// called just that. Of numbers there must be three. A field of a JSON object that is
// called "coordinate" or "coord" is one, whatever it is. Of dimensions, a form must
// have two.
func (b *bodyFields) hasCoordinate() bool {
	dimensions := 0
	for _, f := range b.fields {
		if f.param >= paramLibrary && isNumber(f.value) {
			dimensions++
		}
		if f.param != paramCoordinate {
			continue
		}
		_, name, err := parseCoordinate(f.value, "")
		switch {
		case b.kind == kindJSON && len(f.name) > 1:
			return true
		case err != nil:
			if err.Kind == apierror.Forbidden { // a tenant's id in front of it
				return true
			}
		case !hasLetter(f.value):
			if len(components(f.value)) >= 3 {
				return true
			}
		case name != "" && (b.kind == kindJSON && f.problem == "" || strings.ContainsAny(f.value, "/;") && !strings.ContainsFunc(f.value, isNotInCoordinate)):
			return true
		}
	}
	return dimensions >= 2 || dimensions == 1 && b.kind == kindJSON
}

// maxFields is more than there are names of parameters. Of a form, only fields with a
// known name count.
const maxFields = 64

// scrollNames are names of the scroll in a JSON object, besides those in names. Only
// the first one is allowed in a form too.
var scrollNames = [...]string{"text", "value", "body", "scroll"}

// paramNamed is the parameter that name means in a body, and the bit of name in
// collector.seen. scrollNames are the additional names of the scroll.
func paramNamed(name string, scrollNames []string) (which param, bit int, known bool) {
	if i, known := nameIndex(name); known && !inURLsAlone(names[i].param) {
		return names[i].param, i, true
	}
	if i := slices.Index(scrollNames, name); i >= 0 {
		return paramScroll, len(names) + i, true
	}
	return 0, 0, false
}

// longestParam is longer than the name of any parameter, in bytes.
const longestParam = 32

// perField is what a part of a form counts as, in bytes of work.
const perField = 128

// view is the text of a body, which nobody changes.
func view(body []byte) string { return unsafe.String(unsafe.SliceData(body), len(body)) }

func isText(body []byte, pace phext.Pace) bool { return pace.IsText(view(body)) }

// longestFirst is where the first name of a form ends at the latest, in bytes.
const longestFirst = 512

// formBody reads a form. A text may look like one, so what is wrong with it matters
// only if it has a coordinate. It may have millions of '&', so a part that is no field
// costs next to nothing, and the first one that is wrong is the problem.
// looksLikeForm says whether body may be a form, which is what it is without the blanks
// in front.
func looksLikeForm(body []byte, pace phext.Pace) (form []byte, ok bool) {
	form = trimSpaces(bytes.TrimPrefix(body, byteOrderMark), pace)
	return form, bytes.IndexByte(form[:min(len(form), longestFirst)], '=') > 0
}

func formBody(body []byte, pace phext.Pace) (*bodyFields, bool) {
	b := &bodyFields{kind: kindForm}
	body, ok := looksLikeForm(body, pace)
	if !ok {
		return nil, false
	}
	pairs := 0
	for rest, more := body, true; more; pairs++ {
		var pair []byte
		pair, rest, more = bytes.Cut(rest, []byte("&"))
		pace.Did(perField + len(pair)/16) // most of it is only searched through
		key, value, ok := bytes.Cut(pair, []byte("="))
		if !ok {
			b.problem = cmp.Or(b.problem, "a part without '=', which looks like a '&' that was not encoded (curl --data-urlencode encodes it)")
			continue
		}
		key = key[:min(len(key), longestParam)]
		which, bit, known := paramNamed(string(key), scrollNames[:1])
		if !known && pairs < maxFields {
			if meant := meantCoordinate(unescape(string(key), nil), value); meant != "" {
				which, bit, known = paramNamed(meant, nil)
				b.problem = cmp.Or(b.problem, fmt.Sprintf("the field %s, which must be spelled %q", clip(string(key)), meant))
			}
		}
		if !known && bytes.ContainsAny(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ %+") {
			meant := strings.ToLower(strings.TrimSpace(unescape(string(key), nil)))
			if which, bit, known = paramNamed(meant, scrollNames[:1]); known {
				b.problem = cmp.Or(b.problem, fmt.Sprintf("the field %s, which must be spelled %q", clip(string(key)), meant))
			}
		}
		switch {
		case !known && b.problem == "":
			b.problem = fmt.Sprintf("the field %s, which is unknown, or a text with a '&' that was not encoded (curl --data-urlencode encodes it)", clip(string(key)))
		case !known:
		case len(b.fields) == maxFields:
			b.problem = fmt.Sprintf("more than %d fields", maxFields)
			return b, true
		default:
			f := field{name: string(key), param: which, bit: bit}
			if len(value) > longestOther && !mayBeText(which) {
				f.problem = "is too long"
			} else {
				f.value = unescape(view(value), pace)
			}
			b.fields = append(b.fields, f)
		}
	}
	return b, true
}

// byteOrderMark stands in front of what some editors and shells write.
var byteOrderMark = []byte("\ufeff")

// maxMissing is the most delimiters, in bytes, that the answer to a manifest may
// need for scrolls that only the client has. SQ answers with a marker at each of
// their coordinates, so a manifest of megabytes could ask for gigabytes.
const maxMissing = 64 << 20

// setManifest reads the manifest of a delta: lines of "coordinate: checksum". A
// line without ": " does not count, and of two lines for one coordinate the last
// one does, as in SQ. A wrong coordinate is refused: SQ takes it for the origin
// (recorded in "manifest delta").
func (c *Call) setManifest(body []byte) *apierror.Error {
	if !isText(body, c.Pace) {
		return notUTF8("the manifest")
	}
	c.Manifest = make([]ManifestLine, 0, min(1+bytes.Count(body, []byte("\n")), maxLines))
	number := 0
	for line := range strings.Lines(view(body)) {
		number++
		c.Pace.Did(len(line) + perItem)
		if err := c.addLine(strings.TrimRight(line, "\r\n")); err != nil {
			err.Message = "line " + strconv.Itoa(number) + " of the manifest: " + err.Message
			return err
		}
	}
	if len(c.Manifest) == 0 {
		c.Manifest = nil // it is none
	}
	return c.checkMissing()
}

// perItem is what reading a coordinate counts as, in bytes of work.
const perItem = 1 << 10

// perCompare is what comparing two coordinates counts as.
const perCompare = 64

// What a manifest may take. A line of a few bytes is in a list, in its sorted copy
// and in a map before it is answered.
const (
	maxLines   = 300_000
	lineMemory = 320 // bytes, measured
)

// smallBody is a body, in bytes, of which there are no more than requests.
const smallBody = 64 << 10

// How often a body with parameters in it is in memory while it is read, beside the
// body itself: of a JSON object, the decoder has a buffer that doubles, a field and
// its text, and of both kinds the text is copied.
const (
	copiesOfJSON = 5
	copiesOfForm = 3
)

// ParsedMemory is how much memory, in bytes, parsing a body takes beside the body
// itself, at most. A small one is not counted.
func (h *Head) ParsedMemory(body []byte, query string) int64 {
	switch h.Op {
	case Insert, Update, Write:
		got := collector{op: h.Op}
		switch {
		case len(body) < smallBody, h.route.coordinate != "", got.query(h.query) != nil, got.hasCoordinate():
			return 0 // it is the text, or refused
		case looksLikeJSON(afterComments(body), h.Pace):
			return copiesOfJSON * int64(len(body))
		case nestedCoordinate(afterComments(body)) != "": // it is looked through
			return copiesOfJSON * int64(len(body))
		}
		if _, ok := looksLikeForm(body, h.Pace); ok {
			return copiesOfForm * int64(len(body))
		}
	case Delta:
		lines := 1 + bytes.Count(body, []byte("\n")) + strings.Count(query, "%0")
		return int64(min(lines, maxLines)) * lineMemory
	case Query:
		return setMemory(body, query)
	case MCP:
		return messageMemory(body)
	case Batch:
		return batchMemory(body)
	}
	return 0
}

func (c *Call) addLine(line string) *apierror.Error {
	text, rest, ok := strings.Cut(line, ": ")
	if !ok {
		return nil
	}
	if len(c.Manifest) == maxLines {
		return apierror.New(apierror.TooLarge, "a manifest may have %d lines: send it in parts", maxLines)
	}
	at, name, err := parseCoordinate(text, c.tenant.ID)
	if err != nil {
		return err
	}
	hash, _, _ := strings.Cut(rest, ": ")
	c.Manifest = append(c.Manifest, ManifestLine{At: at, Name: name, Hash: hash})
	return nil
}

// checkMissing refuses a manifest that could exceed maxMissing.
func (c *Call) checkMissing() *apierror.Error {
	sorted := slices.Clone(c.Manifest)
	slices.SortFunc(sorted, func(a, b ManifestLine) int {
		c.Pace.Did(perCompare)
		return a.At.Compare(b.At)
	})
	size, from := 0, phext.Origin()
	for _, line := range sorted {
		c.Pace.Did(perCompare)
		size += phext.Delimiters(from, line.At)
		from = line.At
	}
	if size > maxMissing {
		return apierror.New(apierror.TooLarge, "the manifest's coordinates lie so far apart that the answer could not be sent: send it in parts")
	}
	return nil
}
