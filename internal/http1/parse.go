package http1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// plain is a request that can be understood in only one way.
type plain struct {
	method, path, query, target string
	head                        *fields
	body                        []byte // part of the buffer
}

// fields are the parsed header fields of a request. Clients send the same ones
// again and again, so a connection keeps the last ones. A handler must not change
// them.
type fields struct {
	raw    string // the lines as they came, each with its end
	header http.Header
	host   string
	length int // of the body, in bytes
}

// verdict is what the bytes that have arrived so far are.
type verdict int

const (
	incomplete verdict = iota // the beginning of what may be a plain request
	complete                  // exactly one plain request
	unusual                   // for net/http to read
)

var headEnd = []byte("\r\n\r\n")

// parse looks at what was read from a connection. last are the fields of the
// request before, or nil.
func parse(b []byte, last *fields) (p plain, v verdict) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		if i := bytes.IndexByte(b, '\n'); i == 0 || i > 0 && b[i-1] != '\r' {
			return p, unusual // it may be complete for a reader that accepts bare line feeds
		}
		return p, incomplete
	}
	line, rest, _ := bytes.Cut(b[:end+len(headEnd)], headEnd[:2])
	if !p.parseLine(string(line)) {
		return p, unusual
	}
	raw := rest[:len(rest)-2] // without the empty line
	if p.head = last; last == nil || string(raw) != last.raw {
		if p.head = parseFields(string(raw)); p.head == nil {
			return p, unusual
		}
	}
	p.body = b[end+len(headEnd):]
	switch {
	case len(p.body) > p.head.length, p.method == http.MethodGet && p.head.length > 0:
		return p, unusual
	case len(p.body) < p.head.length:
		return p, incomplete
	}
	return p, complete
}

func (p *plain) parseLine(line string) bool {
	method, rest, _ := strings.Cut(line, " ")
	target, ok := strings.CutSuffix(rest, " HTTP/1.1")
	if !ok || method != http.MethodGet && method != http.MethodPost {
		return false
	}
	p.method, p.target = method, target
	p.path, p.query, _ = strings.Cut(target, "?")
	return isPath(p.path) && isQuery(p.query) && !strings.HasSuffix(target, "?")
}

// isPath says whether a path needs no decoding and no cleaning.
func isPath(s string) bool {
	for i := range len(s) {
		if !pathBytes[s[i]] {
			return false
		}
	}
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//")
}

// isQuery says whether a query is visible ASCII without a fragment.
func isQuery(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

var (
	pathBytes  = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-._~;:@$&+=,")
	tokenBytes = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
	hostBytes  = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:[]")
)

func setOf(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}

func only(set *[256]bool, s string) bool {
	for i := range len(s) {
		if !set[s[i]] {
			return false
		}
	}
	return s != ""
}

// parseFields reads header lines, or returns nil if one of them is for net/http
// to judge.
func parseFields(raw string) *fields {
	f := &fields{raw: raw, header: make(http.Header, 8)}
	sized := false
	if strings.Count(raw, "\n") > smallFields {
		return nil // net/http's connections count what they hold
	}
	for rest := raw; rest != ""; {
		line, next, ok := strings.Cut(rest, "\r\n")
		name, value, colon := strings.Cut(line, ":")
		if !ok || !colon || !only(&tokenBytes, name) || !isText(value) {
			return nil
		}
		rest, value = next, strings.Trim(value, " ")
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if f.host != "" || !only(&hostBytes, value) {
				return nil
			}
			f.host = value // small devices send none, which SQ serves
			continue
		case "Content-Length":
			if sized || !f.sizedBy(value) {
				return nil
			}
			sized = true
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return nil
			}
		case "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Pragma", "Proxy-Connection", "Keep-Alive", "Http2-Settings":
			return nil
		}
		f.header[name] = append(f.header[name], value)
	}
	return f
}

func (f *fields) sizedBy(value string) bool {
	n, err := strconv.Atoi(value)
	f.length = n
	return err == nil && n >= 0 && n <= bufferSize && strconv.Itoa(n) == value
}

// isText says whether a field's value is visible ASCII and spaces.
func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
