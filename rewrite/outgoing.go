package rewrite

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// Outgoing is the request that SQ gets. It has nothing of the client's request line
// and header: the path is fixed, and each parameter is there once.
type Outgoing struct {
	Method      string // GET or POST
	Path, Query string // percent-encoded
	Body        []byte // of a POST; its length is the Content-Length
}

// Outgoing is the request that SQ gets for c. If c has a Name, it must have been
// resolved.
//
// insert, update, where and a delta with a manifest are POSTs. delete is a GET,
// because SQ answers a POST with 404 (recorded in "methods").
func (c *Call) Outgoing() Outgoing {
	o := Outgoing{Method: c.wireMethod(), Path: "/" + apiPrefix + string(c.Op), Query: c.wireQuery()}
	if o.Method == http.MethodPost {
		o.Body = c.wireBody()
	}
	return o
}

// Then is the one call that makes of a scroll what c and then next make of it. Both are
// mutations of the same scroll, and c may be nil for none. It shares no memory with c.
func (c *Call) Then(next *Call) *Call {
	if c == nil || next.Op != Insert {
		return next
	}
	both := *c
	if c.Op == Delete {
		both.Op = Update
	}
	both.Scroll = slices.Concat(c.Scroll, next.Scroll)
	return &both
}

// LoadCall is the call that makes SQ read the phext of c from its file again.
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
			continue // a name without a coordinate: SQ would take it for the origin
		}
		b = append(b, c.wirePrefix()...)
		b = line.At.Append(b)
		b = append(b, ": "...)
		b = append(b, line.Hash...)
		b = append(b, '\n')
	}
	return b
}

// wirePrefix is the tenant's id in front of a coordinate. SQ skips letters there,
// but takes digits for a number of the coordinate, so that with "customer-001."
// two scrolls get the same address (recorded in "digit-bearing prefix collides").
// So digits become the letters A to J, which no id has.
func (c *Call) wirePrefix() string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + 'A'
		}
		return r
	}, c.tenant.ID) + "."
}

// wireName is SQ's name for the phext. In a shared data directory it begins with
// the tenant's id and a dot. Ids have no dot, so the first one ends the id.
func (c *Call) wireName() string {
	if c.tenant.SharedDataDir {
		return c.tenant.ID + "." + c.Phext
	}
	return c.Phext
}

// FileName is the name of the phext's file in the tenant's data directory.
func (c *Call) FileName() string { return c.wireName() + phext.Extension }

// PhextOf is the name by which the tenant knows the phext in a file of its data
// directory. ok is false if the file is not a phext of the tenant's.
func (c *Call) PhextOf(file string) (name string, ok bool) {
	name, ok = strings.CutSuffix(file, phext.Extension)
	if ok && c.tenant.SharedDataDir {
		name, ok = strings.CutPrefix(name, c.tenant.ID+".")
	}
	return name, ok
}

// FilePath is the path of the phext's file in dir, which must be clean.
func (c *Call) FilePath(dir string) string { return dir + "/" + c.FileName() }

// NamesSuffix is that of package phext.
const NamesSuffix = phext.NamesSuffix

// NamesFileName is the name of the file with the names of the phext's coordinates.
func (c *Call) NamesFileName() string { return c.wireName() + NamesSuffix + phext.Extension }

// Escape percent-encodes everything but letters, digits, '-', '.', '_' and '~'. SQ
// decodes that to exactly s.
func Escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// Answer is what the client gets for the body of SQ's answer. The answer to load has
// the path of the phext's file, which becomes the phext's name. No other answer that
// SQ is asked for has a path or a prefix: SQ drops the prefix when it parses a
// coordinate (recorded in "coordinate spellings").
func (c *Call) Answer(body []byte) []byte {
	if c.Op == Load {
		return c.LoadAnswer()
	}
	return body
}

// LoadAnswer is the answer to load.
func (c *Call) LoadAnswer() []byte { return []byte("Loaded " + c.Phext) }

// StatusAnswer is the answer to status. size is in bytes. SQ counts its connections
// from 1, so the connection ID is 0.
func (c *Call) StatusAnswer(size, scrolls int) []byte {
	return []byte("Hosting: " + c.Phext + "\nConnection ID: 0\nPhext Size: " + strconv.Itoa(size) + "\nScrolls: " + strconv.Itoa(scrolls))
}
