package fakesq

import (
	"io"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/phext"
)

// call is a parsed request.
type call struct {
	id     uint64 // the connection's number
	op     string
	path   string // of the phext's file
	at     phext.Coordinate
	scroll string
	limit  uint64 // for `where`, in bytes
	sum    bool   // for `where`: compute it from the checksum
	query  query  // for `query`
}

// routes are prefixes of the request line, tried in this order (recorded in
// "query spellings" and "query by body, method and route").
var routes = []struct {
	method, op string
}{
	{"GET", "load"}, {"GET", "select"}, {"GET", "insert"}, {"POST", "insert"}, {"GET", "update"}, {"POST", "update"},
	{"POST", "where"}, {"GET", "delete"}, {"GET", "status"}, {"GET", "checksum"}, {"GET", "toc"}, {"GET", "get"},
	{"GET", "delta"}, {"POST", "delta"}, {"GET", "version"}, {"GET", "json-export"}, {"GET", "query"}, {"POST", "query"},
}

// route finds the operation, and whether a body replaces the parameter s.
func (s *Server) route(head string) (op string, body, ok bool) {
	for _, r := range routes {
		if strings.HasPrefix(head, r.method+" /api/v2/"+r.op) && (r.op != "query" || s.config.Release == Release060) {
			return r.op, r.method == "POST", true
		}
	}
	return "", false, false
}

// answer makes SQ's checks in SQ's order.
func (s *Server) answer(conn io.Writer, id uint64, r request) {
	switch {
	case strings.HasPrefix(r.head, "OPTIONS "):
		_, _ = io.WriteString(conn, preflight) // SQ ignores the error too
	case !strings.HasPrefix(r.head, "GET ") && !strings.HasPrefix(r.head, "POST "):
		respond(conn, 400, "Bad Request")
	case s.config.HasKey && !s.authorized(r):
		respond(conn, 401, "Unauthorized")
	default:
		s.dispatch(conn, id, r)
	}
}

// authorized looks for the key in the Authorization header. If there is none,
// 0.6.0 looks in X-SQ-API-Key (recorded in "api key headers").
func (s *Server) authorized(r request) bool {
	value, ok := r.header("authorization")
	if !ok && s.config.Release == Release060 {
		value, ok = r.header("x-sq-api-key")
	}
	if strings.HasPrefix(strings.ToLower(value), "bearer ") {
		value = strings.TrimSpace(value[len("bearer "):])
	}
	return ok && value == s.config.Key
}

// dispatch answers an authorized request.
func (s *Server) dispatch(conn io.Writer, id uint64, r request) {
	p, ok := r.parameters()
	if !ok {
		return
	}
	if !s.allows(p["p"]) {
		respond(conn, 403, "Forbidden: invalid phext path")
		return
	}
	op, body, ok := s.route(r.head)
	if !ok {
		if s.config.Release == Release060 {
			s.logf("404: %s", r.firstLine())
		}
		respond(conn, 404, "Not Found")
		return
	}
	c := call{id: id, op: op, path: s.path(p["p"]), at: readCoordinate(p["c"]), scroll: p["s"], limit: limitOf(p["limit"]), sum: p["algo"] == "checksum"}
	if text, ok := p["content"]; ok && body {
		c.scroll = text
	}
	if op == "query" {
		var err error
		if c.query, err = parseQuery(p); err != nil {
			respond(conn, 400, "Bad Request: "+err.Error())
			return
		}
	}
	respond(conn, 200, s.store.process(c))
}

// allows checks the name of a phext (recorded in "phext names").
func (s *Server) allows(name string) bool {
	return s.config.DataDir == "" || !strings.Contains(name, "..") && !strings.ContainsAny(name, `/\`)
}

func (s *Server) path(name string) string {
	if s.config.DataDir == "" {
		return name + ".phext"
	}
	return s.config.DataDir + "/" + name + ".phext"
}

// limitOf is the limit for `where`.
func limitOf(text string) uint64 {
	n, err := unsigned(text)
	if err != nil {
		return 100
	}
	return n
}

// unsigned parses a number as Rust does. It allows a plus sign.
func unsigned(text string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(text, "+"), 10, 64)
}

// readCoordinate accepts any text, as SQ does. It skips bytes that are neither
// digits nor separators, and separators before the first digit. The last number
// is the scroll, and missing numbers are 1. Numbers wrap at 32 bits. This is
// recorded in "coordinate spellings", "digit-bearing prefix collides" and
// "short, dated and zero coordinates".
func readCoordinate(s string) phext.Coordinate {
	c := phext.Origin()
	index, value := 0, uint32(0)
	for i := range len(s) {
		switch b := s[i]; {
		case b == '.' || b == '/' || b == ';':
			if index >= 1 && index <= 8 {
				c[index-1] = value
				index++
			}
			value = 0
		case b >= '0' && b <= '9':
			value = value*10 + uint32(b-'0')
			index = max(index, 1)
		}
	}
	if index > 0 {
		c[8] = value
	}
	return c
}

// printable says whether SQ prints c rather than an empty text. It accepts 1000,
// although no scroll of a file can be there.
func printable(c phext.Coordinate) bool {
	for _, n := range c {
		if n < phext.Min || n > phext.Max+1 {
			return false
		}
	}
	return true
}

// show is c as SQ prints it.
func show(c phext.Coordinate) string {
	if !printable(c) {
		return ""
	}
	return c.String()
}
