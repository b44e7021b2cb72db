package rewrite

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

// Tenant is what rewriting needs to know of the caller.
type Tenant struct {
	ID              string
	SharedDataDir   bool // other tenants' phexts lie in the same directory
	AllowDelimiters bool // scrolls may hold delimiters
}

// Call is one request, understood. What SQ gets is built from it alone. Of the
// client's request, only headers such as If-Match are looked at after this.
type Call struct {
	Op       Op
	Phext    string           // as the client names it; "" is the unnamed phext
	At       phext.Coordinate // the scroll, for operations on one scroll; else the origin
	Name     string           // of the coordinate, if it has one: then At means nothing before Resolve
	Scroll   []byte           // the text of insert, update and where
	Manifest []ManifestLine   // of a delta that has a body
	Checksum bool             // where: by checksum instead of xor
	Limit    uint64           // where: the shortest scroll that counts, in bytes
	tenant   Tenant
}

// ManifestLine is one line of a delta's body: what the client has at a coordinate.
type ManifestLine struct {
	At   phext.Coordinate
	Name string // of the coordinate, if it was given by name: then At means nothing before it is looked up
	Hash string // as sent; legacy compares it as text
}

// Head is a request of which the body has not been read: the operation is
// known and allowed, so that a body is read only if it can mean something.
type Head struct {
	Op     Op
	method string
	route  route
	query  string
	tenant Tenant
}

// ParseHead reads method, path (decoded, without a path key) and raw query.
// Errors are of type *apierror.Error: 404, 405, 403 for another tenant's path.
func ParseHead(method, path, rawQuery string, who Tenant) (*Head, error) {
	r, err := parseRoute(path, who.ID)
	if err != nil {
		return nil, err
	}
	if !r.op.allows(method) {
		return nil, methodNotAllowed(r.op, method)
	}
	return &Head{Op: r.op, method: method, route: r, query: rawQuery, tenant: who}, nil
}

// TakesBody says whether the body of this request means anything. One that
// means nothing is ignored, as legacy SQ ignores the body of a GET.
func (h *Head) TakesBody() bool { return h.Op.takesBody(h.method) }

// Call completes the request with its body. nil is a request that has no body,
// not even an empty one. Errors are of type *apierror.Error.
func (h *Head) Call(body []byte) (*Call, error) {
	c, err := h.call(body)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (h *Head) call(body []byte) (*Call, *apierror.Error) {
	var got collector
	if err := got.query(h.query); err != nil {
		return nil, err
	}
	if h.route.coordinate != "" {
		got.nextSource()
		if err := got.add("c", h.route.coordinate); err != nil {
			return nil, err
		}
	}
	scroll, err := h.scroll(&got, body)
	if err != nil {
		return nil, err
	}
	c := &Call{Op: h.Op, Scroll: scroll, tenant: h.tenant}
	if err := c.setPhext(&got.params); err != nil {
		return nil, err
	}
	if err := c.setCoordinate(&got.params); err != nil {
		return nil, err
	}
	if err := c.setWhere(&got.params); err != nil {
		return nil, err
	}
	return c, c.setBody(h, body)
}

func (c *Call) setBody(h *Head, body []byte) *apierror.Error {
	switch c.Op {
	case Insert, Update:
		return c.checkScroll()
	case Where:
		return c.checkText()
	case Delta:
		if len(body) == 0 {
			body = c.Scroll // legacy takes a manifest from the query too
		}
		return c.setManifest(body)
	}
	return nil
}

// longestName is the longest phext name in bytes, prefix included: with
// ".phext" and room for a suffix it stays below the file system's 255, past
// which SQ 0.5.3 breaks for good.
const longestName = 240

func (c *Call) setPhext(p *params) *apierror.Error {
	c.Phext = p.get(paramPhext)
	switch {
	case strings.Contains(c.wireName(), "..") && !strings.Contains(c.Phext, ".."):
		return forbidden("phext name %s: in a shared data directory a name must not begin with '.'", clip(c.Phext))
	case strings.Contains(c.Phext, "..") || strings.ContainsAny(c.Phext, `/\`):
		return forbidden("phext name %s: a name must not hold '..', '/' or '\\'", clip(c.Phext))
	case len(c.wireName()) > longestName:
		return badPhext("the phext name is %d bytes long: %d is the most", len(c.Phext), longestName-len(c.wireName())+len(c.Phext))
	case strings.ContainsFunc(c.Phext, isControl):
		return badPhext("phext name %s has a control character: leave it out", clip(c.Phext))
	case c.Op.Mutates() && strings.HasSuffix(c.Phext, NamesSuffix):
		return forbidden("phext %s holds the names of coordinates, which are kept by the service: it can be read, and is changed by writing to named coordinates", clip(c.Phext))
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

func (c *Call) setCoordinate(p *params) *apierror.Error {
	c.At = phext.Origin()
	if !operations[c.Op].coordinate {
		return nil
	}
	byNumber, given, err := p.dimensionCoordinate()
	if err != nil {
		return err
	}
	if !p.given(paramCoordinate) {
		if given {
			c.At = byNumber
		}
		return nil
	}
	text := p.get(paramCoordinate)
	if c.At, c.Name, err = parseCoordinate(text, c.tenant.ID); err != nil {
		return err
	}
	if given && (c.Name != "" || c.At != byNumber) {
		return badRequest("the coordinate %s and the nine dimension parameters differ: give one of them", clip(text))
	}
	return c.checkNamed()
}

// checkNamed refuses a phext whose name leaves no room for that of its names.
func (c *Call) checkNamed() *apierror.Error {
	if c.Name != "" && len(c.wireName())+len(NamesSuffix) > longestName {
		return badPhext("the phext name is %d bytes long, and the names of its coordinates need a phext of their own: %d bytes less are wanted",
			len(c.Phext), len(c.wireName())+len(NamesSuffix)-longestName)
	}
	return nil
}

// Names says whether names of coordinates matter to a call that reads: whether
// it gives one, or its answer may show some.
func (c *Call) Names() bool {
	return c.Name != "" || c.Op == Toc || c.Op == JSONExport || c.Op == Delta
}

// Resolve gives a call by name the coordinate that the name stands for.
func (c *Call) Resolve(at phext.Coordinate) { c.At = at }

// checkScroll refuses what SQ would store as something else: bytes that are
// not UTF-8 become U+FFFD, a delimiter moves every later scroll (LEGACY.md).
func (c *Call) checkScroll() *apierror.Error {
	if err := c.checkText(); err != nil {
		return err
	}
	if !c.tenant.AllowDelimiters && phext.HasDelimiter(c.Scroll) {
		return &apierror.Error{Kind: apierror.HasDelimiters,
			Message: "the scroll holds a phext delimiter (one of the bytes 01 17 18 19 1A 1C 1D 1E 1F), which would move the scrolls after it: remove it, or write each part to its own coordinate"}
	}
	return nil
}

func (c *Call) checkText() *apierror.Error {
	if !utf8.Valid(c.Scroll) {
		return notUTF8("the text")
	}
	return nil
}

// defaultLimit is legacy's shortest scroll that counts for `where`, in bytes.
const defaultLimit = 100

// setWhere reads algo and limit. Legacy falls back silently on a value that it
// does not know; here a client is told.
func (c *Call) setWhere(p *params) *apierror.Error {
	if c.Op != Where {
		return nil
	}
	switch p.get(paramAlgo) {
	case "", "xor":
	case "checksum":
		c.Checksum = true
	default:
		return badRequest("parameter \"algo\" is %s: xor or checksum is wanted", clip(p.get(paramAlgo)))
	}
	return c.setLimit(p)
}

func (c *Call) setLimit(p *params) *apierror.Error {
	c.Limit = defaultLimit
	if !p.given(paramLimit) {
		return nil
	}
	text := p.get(paramLimit)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return badRequest("parameter \"limit\" is %s: a number of bytes, 0 or more, is wanted", clip(text))
	}
	c.Limit = n
	return nil
}
