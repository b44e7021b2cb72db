package fakesq

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// request is a request before it is parsed.
type request struct {
	head string // the request line, the headers and the blank line
	body []byte
}

// tooLargeError is answered with 413. Its text is the body of the answer.
type tooLargeError string

func (e tooLargeError) Error() string { return string(e) }

// readSize is the size of SQ's reads in bytes. Clients can see it: whatever is
// read together with the end of the headers becomes the body, whatever the
// Content-Length is (recorded in "bodies", with chunked framing).
const readSize = 1024

func readRequest(r io.Reader) (request, error) {
	var got []byte
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		if n == 0 {
			return request{}, fmt.Errorf("connection closed: %w", err)
		}
		got = append(got, buf[:n]...)
		if end := bytes.Index(got, []byte("\r\n\r\n")); end >= 0 {
			return readBody(r, lossy(got[:end+4]), got[end+4:])
		}
		if len(got) > maxHeader {
			return request{}, tooLargeError("header too large")
		}
	}
}

// readBody reads what is missing of a body of which a part has been read.
func readBody(r io.Reader, head string, body []byte) (request, error) {
	length := contentLength(head)
	if length > maxBody {
		return request{}, tooLargeError(fmt.Sprintf("body too large: %d bytes (max %d)", length, maxBody))
	}
	if missing := int(length) - len(body); missing > 0 {
		rest := make([]byte, missing)
		n, err := io.ReadFull(r, rest)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return request{}, err
		}
		body = append(body, rest[:n]...) // SQ accepts a short body
	}
	return request{head, body}, nil
}

// contentLength is the value of the first Content-Length, or 0 if that is not a
// number.
func contentLength(head string) uint64 {
	for line := range lines(head) {
		if !strings.HasPrefix(strings.ToLower(line), "content-length:") {
			continue
		}
		n, err := unsigned(strings.TrimSpace(strings.Split(line, ":")[1]))
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}

// lines splits as Rust does: a line ends at LF or CRLF. A CR at the end of the
// text stays.
func lines(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(s) {
			if bare, ok := strings.CutSuffix(line, "\n"); ok {
				line = strings.TrimSuffix(bare, "\r")
			}
			if !yield(line) {
				return
			}
		}
	}
}

// header is the value of the first header whose line starts with name, up to a
// second colon. So Authorization-Extra is an Authorization too (recorded in
// "auth"). name is in lower case.
func (r request) header(name string) (value string, ok bool) {
	for line := range lines(r.head) {
		if !strings.HasPrefix(strings.ToLower(line), name) {
			continue
		}
		if parts := strings.Split(line, ":"); len(parts) > 1 {
			return strings.TrimSpace(parts[1]), true
		}
	}
	return "", false
}

// firstLine ends at LF or CRLF.
func (r request) firstLine() string {
	line, _, _ := strings.Cut(r.head, "\n")
	return strings.TrimSuffix(line, "\r")
}

// parameters are those of the URL's query, where the last of a repeated name
// wins, and the body as "content". ok is false for favicon.ico, which SQ does
// not answer. Only HTTP/1.1 is cut off the end of the request line (recorded in
// "http 1.0 and absolute form").
func (r request) parameters() (p map[string]string, ok bool) {
	p = map[string]string{}
	first, _, _ := strings.Cut(r.head, "\r\n")
	if path, query, found := strings.Cut(first, "?"); found {
		if strings.Contains(path, "favicon.ico") {
			return nil, false
		}
		for _, pair := range strings.Split(strings.TrimSuffix(query, " HTTP/1.1"), "&") {
			if name, value, found := strings.Cut(pair, "="); found {
				p[decode(name)] = decode(value)
			}
		}
	}
	if len(r.body) > 0 {
		p["content"] = lossy(r.body)
	}
	return p, true
}

// decode is SQ's percent-decoding. '+' is a space, and a '%' that starts no
// escape stays (recorded in "query spellings").
func decode(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && s[i+1] != '+' {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return lossy(out)
}

// lossy replaces what is not UTF-8 as Rust does. A character that was begun and
// not completed becomes one U+FFFD, however many bytes it has.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = brokenLength(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// brokenLength is how many bytes at the start of b are the beginning of a
// character that does not go on. A byte that begins none counts as one.
func brokenLength(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax-1 && couldBegin(b[:n+1]) {
		n++
	}
	return n
}

// couldBegin says whether more bytes could make b one character.
func couldBegin(b []byte) bool {
	for _, next := range []byte{0x80, 0xbf} {
		whole := append([]byte(nil), b...)
		for len(whole) < utf8.UTFMax {
			whole = append(whole, next)
			if r, n := utf8.DecodeRune(whole); r != utf8.RuneError && n == len(whole) {
				return true
			}
		}
	}
	return false
}
