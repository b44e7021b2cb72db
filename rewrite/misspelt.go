package rewrite

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/nearest"
	"mirrorborn.us/sqgate/phext"
)

// A write that names no coordinate is for the origin, as in SQ, and replaces or removes
// what is there. This file finds the writes that do name one, in a place or by a name
// where it is not looked for. They are refused only if the value can be nothing else, so
// that no text is.

// mostLookedAt is how many parameters of a query, or fields of JSON, are looked at for one whose
// name may be misspelt, or that may hold a coordinate: nobody means the next one.
const mostLookedAt = 100

// checkMisspelt refuses a query in which the name of the coordinate is misspelt.
func checkMisspelt(query string) *apierror.Error {
	left := mostLookedAt
	for pair := range strings.SplitSeq(query, "&") {
		if left--; left < 0 {
			return nil
		}
		name, value, _ := strings.Cut(pair, "=")
		if name = unescape(name, nil); len(name) > longestParam {
			continue
		}
		if meant := meantCoordinate(name, []byte(value)); meant != "" {
			return badRequest("there is no parameter %q, and the request has no coordinate: nothing was changed; call it %q", name, meant)
		}
	}
	return nil
}

// meantCoordinate is the name of the coordinate that name is misspelt of, or "". value
// is as it stands in a query or a form.
func meantCoordinate(name string, value []byte) string {
	if len(value) < len("1.1.1") || len(value) > 3*longestCoordinateName || !couldBeCoordinate(unescape(string(value), nil)) {
		return ""
	}
	for _, known := range names {
		if known.param == paramCoordinate && known.text != name && nearest.Misspells(name, known.text) {
			return known.text
		}
	}
	return ""
}

// meantInJSON is meantCoordinate for a field of a JSON object.
func meantInJSON(name string, raw []byte) string {
	var value string
	if len(name) > longestParam || len(raw) > longestCoordinateName || json.Unmarshal(raw, &value) != nil {
		return ""
	}
	return meantCoordinate(name, []byte(strings.ReplaceAll(value, "%", "%25")))
}

// couldBeCoordinate says whether a text has the form of a coordinate, and of little else.
func couldBeCoordinate(s string) bool {
	if len(components(s)) < 3 || strings.ContainsAny(s, " \t\r\n") {
		return false
	}
	_, _, err := parseCoordinate(s, "")
	return err == nil || err.Kind == apierror.Forbidden
}

// checkHidden refuses JSON that has a coordinate deeper down, or behind a comment. It is
// no text for the origin, but an order that is not understood.
func checkHidden(body []byte, pace phext.Pace) *apierror.Error {
	rest := afterComments(body)
	if len(rest) < len(body) {
		if b, ok := jsonBody(rest, pace); ok && b.problem == "" && b.hasCoordinate() {
			return badRequest("the JSON object has a coordinate, and a comment in front of it: nothing was changed; remove the comment, or put the coordinate into the query")
		}
	}
	if name := nestedCoordinate(rest); name != "" && isJSON(rest, pace) {
		return badRequest("the JSON has a coordinate, as %q of an object that is inside of a list or of another object, where it is not looked for: nothing was changed; send one object for each scroll, or put the coordinate into the query", name)
	}
	return nil
}

// commentsWithin is how much of a body is searched for the end of comments, in bytes.
const commentsWithin = 64 << 10

// afterComments is the body without a byte order mark, blanks and comments in front, or
// the body itself if they do not end soon.
func afterComments(body []byte) []byte {
	text := bytes.TrimPrefix(body, byteOrderMark)
	begin := text[:min(len(text), commentsWithin)]
	for rest := begin; ; {
		rest = bytes.TrimLeft(rest, spaces)
		end := "\n"
		switch {
		case len(rest) == 0:
			return body
		case bytes.HasPrefix(rest, []byte("/*")):
			end = "*/"
		case !bytes.HasPrefix(rest, []byte("//")) && !bytes.HasPrefix(rest, []byte("#")):
			return text[len(begin)-len(rest):]
		}
		_, rest, _ = bytes.Cut(rest, []byte(end))
	}
}

// nestedWithin is how much of JSON is searched for a coordinate, in bytes.
const nestedWithin = 64 << 10

var coordinateField = regexp.MustCompile(`"(c|a|coord|coordinate)"\s*:\s*"([^"]{1,512})"`)

// nestedCoordinate is the name of a field with a coordinate somewhere in JSON, or "". A
// value such as 1.2.3 of a field with a name of one letter may be anything.
func nestedCoordinate(body []byte) string {
	if !bytes.HasPrefix(body, []byte("{")) && !bytes.HasPrefix(body, []byte("[")) {
		return ""
	}
	for _, m := range coordinateField.FindAllSubmatch(body[:min(len(body), nestedWithin)], mostLookedAt) {
		name, value := string(m[1]), strings.ReplaceAll(string(m[2]), `\/`, "/")
		if couldBeCoordinate(value) && (len(name) > 1 || len(components(value)) >= len(phext.Coordinate{})) {
			return name
		}
	}
	return ""
}
