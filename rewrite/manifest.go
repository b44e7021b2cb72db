package rewrite

import (
	"slices"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// largestMissing bounds the delimiters that the markers of missing scrolls may
// need, in bytes: legacy renders each at its coordinate, so that a manifest of
// a few megabytes could ask for an answer of gigabytes.
const largestMissing = 64 << 20

// setManifest reads the body of delta, lines of "coordinate: hash". Lines
// without ": " say nothing, as in legacy SQ; the last of two for one
// coordinate wins. A coordinate that is none is refused: legacy takes it for
// the origin (recorded in "manifest delta").
func (c *Call) setManifest(body []byte) *apierror.Error {
	if !utf8.Valid(body) {
		return notUTF8("the manifest")
	}
	number := 0
	for line := range strings.Lines(string(body)) {
		number++
		if err := c.addLine(strings.TrimRight(line, "\r\n")); err != nil {
			err.Message = "line " + itoa(number) + " of the manifest: " + err.Message
			return err
		}
	}
	return c.boundMissing()
}

// mostLines bounds the memory of a manifest: a line of 22 bytes takes several times that.
const mostLines = 1_000_000

func (c *Call) addLine(line string) *apierror.Error {
	text, rest, ok := strings.Cut(line, ": ")
	if !ok {
		return nil
	}
	if len(c.Manifest) == mostLines {
		return apierror.New(apierror.TooLarge, "a manifest may have %d lines: send it in parts", mostLines)
	}
	at, name, err := parseCoordinate(text, c.tenant.ID)
	if err != nil {
		return err
	}
	hash, _, _ := strings.Cut(rest, ": ")
	c.Manifest = append(c.Manifest, ManifestLine{At: at, Name: name, Hash: hash})
	return nil
}

func (c *Call) boundMissing() *apierror.Error {
	sorted := slices.Clone(c.Manifest)
	slices.SortFunc(sorted, func(a, b ManifestLine) int { return a.At.Compare(b.At) })
	size, from := 0, phext.Origin()
	for _, line := range sorted {
		size += phext.Delimiters(from, line.At)
		from = line.At
	}
	if size > largestMissing {
		return apierror.New(apierror.TooLarge, "the manifest's coordinates lie so far apart that the answer could not be sent: send it in parts")
	}
	return nil
}
