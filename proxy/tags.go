package proxy

import (
	"net/http"
	"strings"
	"unsafe"

	"mirrorborn.us/sqgate/phext"
)

// tagOf is the entity tag of a text: two texts have the same one only if they
// are the same.
func tagOf(text string) string {
	var b [len(`""`) + 32]byte
	return string(append(phext.AppendChecksum(append(b[:0], '"'), text), '"'))
}

// askedAgain lets an answer be kept, if it is asked for again before it is used.
var askedAgain = []string{"private, no-cache"}

// writeTagged answers with text. A client that has it already, by its tag, is
// told so; there may be no tag.
func (g *Gateway) writeTagged(w http.ResponseWriter, r *http.Request, text, tag string) {
	if tag != "" {
		w.Header()["Etag"] = []string{tag}
		w.Header()["Cache-Control"] = askedAgain
		if matches(r.Header.Values("If-None-Match"), tag, true) {
			w.Header().Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	g.writeBytes(w, bytesOf(text))
}

// bytesOf is text without a copy of it; it must not be written to. net/http
// sends bytes as they are, and a string in pieces of 4 KB.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }

// matches says whether a list of entity tags has tag in it, or is "*". A weak
// tag never stands for the right to write (RFC 9110, 13.1.1).
func matches(headers []string, tag string, weak bool) bool {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			one = strings.TrimSpace(one)
			if weak {
				one = strings.TrimPrefix(one, "W/")
			}
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}
