package rewrite

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Build makes the request that SQ at addr gets for c, authenticated with the
// child's own key. The result shares nothing with the client's request: fixed
// path, each parameter once, no header but the ones set here.
//
// insert, update and a delta with a manifest go out as POST with a
// Content-Length. delete goes out as GET, since legacy SQ answers 404 to POST
// (recorded in "methods").
func (c *Call) Build(addr, key string) *http.Request {
	body := c.wireBody()
	r := &http.Request{
		Method:     c.wireMethod(),
		URL:        &url.URL{Scheme: "http", Host: addr, Path: "/" + apiPrefix + string(c.Op), RawQuery: c.wireQuery()},
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Host:       "sq",
		Header: http.Header{
			"Authorization": {"Bearer " + key},
			"User-Agent":    {"sqgate"},
		},
		Body: http.NoBody,
	}
	if r.Method != http.MethodPost {
		return r
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	// An empty body must stay http.NoBody: net/http sends any other body of
	// length 0 in chunks, and SQ would store their framing.
	if len(body) > 0 {
		r.ContentLength = int64(len(body))
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return r
}

// BuildLoad makes the request that has SQ read the phext of c from disk again.
func (c *Call) BuildLoad(addr, key string) *http.Request {
	load := Call{Op: Load, Phext: c.Phext, At: c.At, tenant: c.tenant}
	return load.Build(addr, key)
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

// namesSuffix ends the name of the phext that holds another's names: the scroll
// at a coordinate there is the name of that coordinate here (SPEC section 7).
const namesSuffix = ".names"

// NamesFileName is the name of the file with the names of the phext's coordinates.
func (c *Call) NamesFileName() string { return c.wireName() + namesSuffix + ".phext" }

// Escape percent-encodes everything that is not a letter, a digit or one of
// -._~, so that SQ decodes exactly what was encoded.
func Escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func itoa(n int) string { return strconv.Itoa(n) }
