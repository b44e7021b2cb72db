package rewrite

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Outgoing is the request that SQ gets. It shares nothing with the client's:
// fixed path, each parameter once, and no header of the client's goes with it.
type Outgoing struct {
	Method      string
	Path, Query string // percent-encoded
	Body        []byte // of a POST, which has a Content-Length of exactly that
}

// Outgoing makes the request that SQ gets for c.
//
// insert, update and a delta with a manifest go out as POST. delete goes out as
// GET, since legacy SQ answers 404 to POST (recorded in "methods").
func (c *Call) Outgoing() Outgoing {
	o := Outgoing{Method: c.wireMethod(), Path: "/" + apiPrefix + string(c.Op), Query: c.wireQuery()}
	if o.Method == http.MethodPost {
		o.Body = c.wireBody()
	}
	return o
}

// LoadCall is the call that has SQ read the phext of c from its file again.
func (c *Call) LoadCall() *Call {
	return &Call{Op: Load, Phext: c.Phext, At: c.At, tenant: c.tenant}
}

func (c *Call) wireMethod() string {
	switch {
	case c.Op == Insert || c.Op == Update || c.Op == Where:
		return http.MethodPost
	case c.Op == Delta && c.Manifest != nil:
		return http.MethodPost
	}
	return http.MethodGet
}

func (c *Call) wireQuery() string {
	q := "p=" + Escape(c.wireName()) + "&c=" + c.wirePrefix() + c.At.String()
	if c.Op != Where {
		return q
	}
	algo := "xor"
	if c.Checksum {
		algo = "checksum"
	}
	return q + "&algo=" + algo + "&limit=" + strconv.FormatUint(c.Limit, 10)
}

func (c *Call) wireBody() []byte {
	if c.Op != Delta {
		return c.Scroll
	}
	var b []byte
	for _, line := range c.Manifest {
		if line.Name != "" {
			continue // a name that stands for nothing: SQ would take it for the origin
		}
		b = append(b, c.wirePrefix()...)
		b = line.At.Append(b)
		b = append(b, ": "...)
		b = append(b, line.Hash...)
		b = append(b, '\n')
	}
	return b
}

// wirePrefix is the tenant's id in front of a coordinate. Legacy skips a
// prefix that has no digits and takes digits for coordinates, so that after
// `customer-001.` two scrolls would be one address (recorded in "digit-bearing
// prefix collides"): digits go out as the letters A to J, which no id has.
func (c *Call) wirePrefix() string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + 'A'
		}
		return r
	}, c.tenant.ID) + "."
}

// wireName is the phext's name as SQ knows it. In a shared directory the
// tenant's id stands in front; ids have no '.', so that the first one ends it.
func (c *Call) wireName() string {
	if c.tenant.SharedDataDir {
		return c.tenant.ID + "." + c.Phext
	}
	return c.Phext
}

// FileName is the name of the phext's file in the tenant's data directory.
func (c *Call) FileName() string { return c.wireName() + ".phext" }

// FilePath is the phext's file in dir, a clean path.
func (c *Call) FilePath(dir string) string { return dir + "/" + c.FileName() }

// NamesSuffix ends the name of the phext that holds another's names: the scroll
// at a coordinate there is the name of that coordinate here (SPEC section 7).
const NamesSuffix = ".names"

// NamesFileName is the name of the file with the names of the phext's coordinates.
func (c *Call) NamesFileName() string { return c.wireName() + NamesSuffix + ".phext" }

// Escape percent-encodes everything that is not a letter, a digit or one of
// -._~, so that SQ decodes exactly what was encoded.
func Escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// Answer takes off SQ's answer what is the host's business: status and load
// name the phext, not the path of its file. Every other answer of SQ holds no
// coordinate and no path: it drops the prefix when it parses a coordinate
// (recorded in "coordinate spellings").
func (c *Call) Answer(body []byte) []byte {
	switch c.Op {
	case Load:
		return c.LoadAnswer()
	case Status:
		_, rest, _ := bytes.Cut(body, []byte("\n"))
		return append(c.hosting(), rest...)
	}
	return body
}

// LoadAnswer is what load says.
func (c *Call) LoadAnswer() []byte { return []byte("Loaded " + c.Phext) }

func (c *Call) hosting() []byte { return []byte("Hosting: " + c.Phext + "\n") }

// StatusAnswer is status for a phext that SQ has not been asked about. The
// connection's number counts connections to SQ, so it is 0 here.
func (c *Call) StatusAnswer(size, scrolls int) []byte {
	return append(c.hosting(), "Connection ID: 0\nPhext Size: "+strconv.Itoa(size)+"\nScrolls: "+strconv.Itoa(scrolls)...)
}
