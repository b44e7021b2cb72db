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

// MatchesWeakly says whether a list of entity tags has tag in it, or is "*". It
// is the comparison of If-None-Match.
func MatchesWeakly(headers []string, tag string) bool { return matches(headers, tag, true) }

// MatchesStrongly is the comparison of If-Match: a weak tag never stands for
// the right to write.
func MatchesStrongly(headers []string, tag string) bool { return matches(headers, tag, false) }

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
