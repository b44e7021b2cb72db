package rewrite

import (
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Tenant is what this package needs to know about the caller.
type Tenant struct {
	ID              string
	SharedDataDir   bool // the data directory also holds phexts of other tenants
	AllowDelimiters bool // scrolls may hold delimiters
}

// Call is what a request means. What SQ gets is built from it alone. Of the
// client's request, only headers such as If-Match are looked at after this.
type Call struct {
	Op       Op
	Phext    string           // as the client names it; "" is the unnamed phext
	At       phext.Coordinate // of the scroll; the origin if Op does not address one scroll
	Name     string           // of the coordinate, or ""; if there is one, At is not valid before Resolve
	Scroll   []byte           // the text of insert, update and where; the message of mcp
	Manifest []ManifestLine   // of a delta; nil = it has none
	Checksum bool             // where: by checksum instead of xor
	Limit    uint64           // where: the shortest scroll that counts, in bytes
	Query    *QuerySpec       // of query; else nil
	Listing  *Listing         // of list and search; else nil
	Changes  *ChangesSpec     // of changes; else nil
	History  *HistorySpec     // of history and restore; else nil
	Batch    []Operation      // of batch; else nil
	Long     *LongTexts       // of mcp: what was taken out of Scroll; else nil
	// Published is for the answer if the request is one of the published API; else nil.
	Published *Published
	Pace      phext.Pace // is told how far long work on the call has come; see Head
	Recipient Recipient  // as whom the answer counts while it is sent
	tenant    Tenant
	scope     *Scope // of the caller, from Authorize on; nil = Everything
}

// ChangesSpec says which changes are wanted.
type ChangesSpec struct {
	Everywhere bool   // of all phexts
	Since      string // the cursor behind which they are; "" = none was given
}

// ManifestLine is one line of a manifest: the checksum of the client's scroll at a
// coordinate.
type ManifestLine struct {
	At   phext.Coordinate
	Name string // of the coordinate, or ""; if there is one, At is not valid before the name is looked up
	Hash string // as sent: SQ compares it as text
}

// Recipient is to whom an answer is sent.
type Recipient struct {
	// Group is those with whom the caller shares what one directory may take; "" = it is the
	// tenant itself, alone in its directory. See datadir.Dir.Enter.
	Group string
	// Caller is the same in all directories.
	Caller string
}

// Head is a request whose body has not been read yet. Its operation and method
// are allowed, and TakesBody says whether the body is worth reading.
type Head struct {
	Op Op
	// Pace is told how far long work has come, of Call and of what the call then needs.
	// nil = nobody wants to know.
	Pace phext.Pace
	// Recipient is as whom the answer counts while it is sent.
	Recipient Recipient
	does      Op // what a Call of it does
	method    string
	route     route
	query     string
	tenant    Tenant
	noBody    bool
}

// ParseHead reads the method and the path, which is decoded and has no path key.
// It keeps the raw query for Call. An error is an *apierror.Error: NotFound,
// WrongMethod, or Forbidden for the path of another tenant.
func ParseHead(method, path, rawQuery string, who Tenant) (*Head, error) {
	r, err := parseRoute(path, who.ID)
	if err != nil {
		return nil, err
	}
	r.op = r.opFor(method)
	if !r.op.allows(method) {
		return nil, methodNotAllowed(r.op, method)
	}
	return &Head{Op: r.op, does: r.op.does(), method: method, route: r, query: rawQuery, tenant: who}, nil
}

// CallOf is a call about a phext, and a coordinate of it, as if the tenant had sent them. A
// nil one was not given. An error is an *apierror.Error, as those of Head.Call.
func CallOf(op Op, who Tenant, phext, coordinate *string) (*Call, error) {
	var query []string
	if phext != nil {
		query = append(query, "p="+Escape(*phext))
	}
	if coordinate != nil {
		query = append(query, "c="+Escape(*coordinate))
	}
	h := Head{Op: op, does: op.does(), query: strings.Join(query, "&"), tenant: who, noBody: true}
	return h.Call(nil)
}

// TakesBody says whether the body counts. One that does not is ignored, as SQ
// ignores the body of a GET (recorded in "bodies").
func (h *Head) TakesBody() bool { return !h.noBody && h.Op.takesBody(h.method) }

// IgnoreBody makes TakesBody false.
func (h *Head) IgnoreBody() { h.noBody = true }

// Call reads the query and the body. body is nil if the request has none, not even
// an empty one. An error is an *apierror.Error: BadRequest, BadCoordinate,
// BadPhext, NotUTF8, HasDelimiters, Forbidden, LengthRequired or TooLarge.
func (h *Head) Call(body []byte) (*Call, error) {
	c, err := h.call(body)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (h *Head) call(body []byte) (*Call, *apierror.Error) {
	if h.Op == Batch {
		return h.batch(body)
	}
	got := collector{op: h.Op, pace: h.Pace}
	if err := got.query(h.query); err != nil {
		return nil, err
	}
	if h.route.coordinate != "" && h.Op != List {
		got.nextSource()
		if err := got.add("c", h.route.coordinate); err != nil {
			return nil, err
		}
	}
	var history *HistorySpec
	var err *apierror.Error
	if h.Op == Restore {
		if history, err = h.restore(&got, body); err != nil {
			return nil, err
		}
	}
	scroll, err := h.scroll(&got, body)
	if err != nil {
		return nil, err
	}
	if h.does.Mutates() && !got.hasCoordinate() {
		if err := checkMisspelt(h.query); err != nil {
			return nil, err
		}
	}
	c := &Call{Op: h.does, Scroll: scroll, History: history, Pace: h.Pace, Recipient: h.Recipient, tenant: h.tenant}
	if err := c.setPhext(&got.params); err != nil {
		return nil, err
	}
	if err := c.setCoordinate(&got.params); err != nil {
		if h.route.published() && err.Kind == apierror.Forbidden && !hasLetter(got.get(paramCoordinate)) {
			err.Kind = apierror.BadCoordinate // ten numbers, of which the published API knows no prefix
		}
		return nil, err
	}
	if err := c.setWhere(&got.params); err != nil {
		return nil, err
	}
	if err := c.setQuery(&got.params); err != nil {
		return nil, err
	}
	if c.Op == Changes {
		c.Changes = &ChangesSpec{Everywhere: !got.given(paramPhext) || c.Phext == everyPhext, Since: got.get(paramSince)}
	}
	if err := c.setHistory(&got.params); err != nil {
		return nil, err
	}
	if err := c.setPublished(h, &got.params); err != nil {
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
	case MCP:
		return c.checkMessage()
	case Delta:
		if len(body) == 0 {
			body = c.Scroll // SQ takes a manifest from the query too
		}
		return c.setManifest(body)
	}
	return nil
}

// longestName is the length of the longest phext name in bytes, including the
// tenant's prefix. File systems allow 255 bytes for the name of a file, and SQ
// 0.5.3 no longer works once it is asked for a longer one. While SQ writes a
// phext, its old file is called ".NAME.phext.before", which takes 14 bytes more
// than NAME: 254 in all. The phext with the names of its coordinates is called
// "NAME.names" and has the same limit, so its file can be renamed in that way too
// (checkNamed).
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
	case strings.HasPrefix(c.wireName(), fsutil.Temporary):
		return badPhext("phext name %s: files that begin with %q are the service's: choose another name", clip(c.Phext), fsutil.Temporary)
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
	return c.readCoordinate(p)
}

func (c *Call) readCoordinate(p *params) *apierror.Error {
	at, name, given, err := p.dimensionCoordinate()
	if err != nil {
		return err
	}
	if given {
		c.At, c.Name = at, name
	}
	if p.given(paramCoordinate) {
		text := p.get(paramCoordinate)
		if c.At, c.Name, err = parseCoordinate(text, c.tenant.ID); err != nil {
			return err
		}
		if given && (c.Name != name || c.At != at) {
			return badRequest("the coordinate %s and the nine dimension parameters differ: give one of them", clip(text))
		}
	}
	return c.checkNamed()
}

// checkNamed refuses a named coordinate if the phext's name with NamesSuffix is
// longer than longestName.
func (c *Call) checkNamed() *apierror.Error {
	if c.Name != "" && len(c.wireName())+len(NamesSuffix) > longestName {
		return badPhext("the phext name is %d bytes long, and the names of its coordinates need a phext of their own: %d bytes less are wanted",
			len(c.Phext), len(c.wireName())+len(NamesSuffix)-longestName)
	}
	return nil
}

// NeedsNames says whether a read needs the names of coordinates: because the call
// has one, or because the answer can show some, or because the caller has a prefix.
func (c *Call) NeedsNames() bool {
	if !c.ShowsAll() {
		return true
	}
	switch c.Op {
	case Toc, JSONExport, Delta, Query, List, Search:
		return true
	}
	return c.Name != ""
}

// Resolve sets the coordinate that Name stands for.
func (c *Call) Resolve(at phext.Coordinate) { c.At = at }

// checkScroll refuses a text that SQ would not store as it is. SQ stores U+FFFD
// for bytes that are not UTF-8, and a delimiter moves all later scrolls
// (LEGACY.md).
func (c *Call) checkScroll() *apierror.Error {
	if err := c.checkText(); err != nil {
		return err
	}
	if !c.tenant.AllowDelimiters && c.Pace.HasDelimiter(view(c.Scroll)) {
		return apierror.New(apierror.HasDelimiters,
			"the scroll holds a phext delimiter (one of the bytes 01 17 18 19 1A 1C 1D 1E 1F), which would move the scrolls after it: remove it, or write each part to its own coordinate")
	}
	return nil
}

func (c *Call) checkText() *apierror.Error {
	if !isText(c.Scroll, c.Pace) {
		return notUTF8("the text")
	}
	return nil
}

// defaultLimit is the shortest scroll that counts for where, in bytes, if the
// client gives no limit. SQ has the same.
const defaultLimit = 100

// setWhere reads algo and limit. It refuses a wrong value, for which SQ silently
// uses the default.
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
