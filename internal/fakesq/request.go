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

// request is one request as SQ sees it: text up to the blank line, and bytes.
type request struct {
	head string
	body []byte
}

// tooMuchError is the text of a 413.
type tooMuchError string

func (e tooMuchError) Error() string { return string(e) }

// readStep is the size of SQ's reads in bytes. It shows: what comes in one
// read with the end of the header is taken for the body, whatever its length
// was said to be (recorded in "bodies", with chunked framing).
const readStep = 1024

func readRequest(r io.Reader) (request, error) {
	var got []byte
	step := make([]byte, readStep)
	for {
		n, err := r.Read(step)
		if n == 0 {
			return request{}, fmt.Errorf("connection closed: %w", err)
		}
		got = append(got, step[:n]...)
		if end := bytes.Index(got, []byte("\r\n\r\n")); end >= 0 {
			return readBody(r, lossy(got[:end+4]), got[end+4:])
		}
		if len(got) > largestHeader {
			return request{}, tooMuchError("header too large")
		}
	}
}

func readBody(r io.Reader, header string, body []byte) (request, error) {
	length := contentLength(header)
	if length > largestBody {
		return request{}, tooMuchError(fmt.Sprintf("body too large: %d bytes (max %d)", length, largestBody))
	}
	if missing := int(length) - len(body); missing > 0 {
		rest := make([]byte, missing)
		n, err := io.ReadFull(r, rest)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return request{}, err
		}
		body = append(body, rest[:n]...) // a short body is taken as it is
	}
	return request{header, body}, nil
}

// contentLength is that of the first header of the name, 0 if it is no number.
func contentLength(header string) uint64 {
	for line := range lines(header) {
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

// lines splits as Rust does: at LF, with a CR before it taken off. A CR at the
// very end stays.
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

// header is the value of the first header whose line begins with name, so that
// the header may be called something longer (recorded in "auth"). name is in
// lower case.
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

func (r request) firstLine() string {
	line, _, _ := strings.Cut(r.head, "\n")
	return strings.TrimSuffix(line, "\r")
}

// parameters is the query, the last of a repeated name winning, and the body
// under "content". ok is false for a favicon, which SQ does not answer.
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

// decode is SQ's percent-decoding: '+' is a space, a '%' that starts no escape
// stays (recorded in "query spellings").
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

// lossy replaces what is not UTF-8 as Rust does: one U+FFFD for each longest
// beginning of a character that is not gone on with.
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

// brokenLength is how many bytes at the start of b could have begun a character.
func brokenLength(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax-1 && couldBegin(b[:n+1]) {
		n++
	}
	return n
}

// couldBegin says whether some continuation makes b one character.
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
