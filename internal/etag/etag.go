// Package etag makes the entity tags of texts and compares them with what
// clients send (RFC 9110, 8.8.3 and 13.1).
package etag

import (
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// Of is the entity tag of a text, with its quotes: two texts have the same one
// only if they are the same.
func Of(text string) string {
	var b [len(`""`) + 32]byte
	return string(append(phext.AppendChecksum(append(b[:0], '"'), text), '"'))
}

// Matches says whether a list of entity tags has tag in it, or is "*". A proxy
// that compresses answers makes a tag weak (nginx), or appends the encoding to
// it (Caddy, Apache); the text is the same, so such a tag matches too, also in
// If-Match: else a client behind such a proxy could never write.
func Matches(headers []string, tag string) bool {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if text, _, encoded := strings.Cut(one, "-"); encoded && strings.HasSuffix(one, `"`) {
				one = text + `"`
			}
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}
