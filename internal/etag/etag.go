// Package etag makes the entity tags of texts and compares them with what
// clients send (RFC 9110, 8.8.3 and 13.1).
package etag

import (
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// Of is the entity tag of a text, with its quotes: two texts have the same one
// only if they are the same.
func Of(text string) string { return Paced(text, nil) }

// Paced is Of(text).
func Paced(text string, pace phext.Pace) string {
	var b [len(`""`) + 32]byte
	return string(append(pace.AppendChecksum(append(b[:0], '"'), text), '"'))
}

// Encoded is the tag of the same text in a content coding.
func Encoded(tag, coding string) string { return strings.TrimSuffix(tag, `"`) + "-" + coding + `"` }

// Matches says whether a list of entity tags has tag in it, or is "*". The coding
// of the text does not count, nor whether a tag is weak: a proxy that compresses
// answers makes a tag weak (nginx), or appends the coding to it (Caddy, Apache).
// The text is the same, so such a tag matches in If-Match too: else a client behind
// such a proxy could never write.
func Matches(headers []string, tag string) bool {
	tag = uncoded(tag)
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == "*" || uncoded(one) == tag {
				return true
			}
		}
	}
	return false
}

// uncoded is a tag without what Encoded appends.
func uncoded(tag string) string {
	if text, _, coded := strings.Cut(tag, "-"); coded && strings.HasSuffix(tag, `"`) {
		return text + `"`
	}
	return tag
}
