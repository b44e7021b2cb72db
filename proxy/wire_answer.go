package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// errGarbled is an answer that SQ does not give: what listens there is not SQ,
// or it is not well.
var errGarbled = errors.New("the answer is not one of SQ's")

// largestHead bounds the head of an answer, in bytes.
const largestHead = 64 << 10

// head is the parsed head of an answer.
type head struct {
	status int
	reason string
	header http.Header
	length int64 // of the body, in bytes
}

var headEnd = []byte("\r\n\r\n")

// readAnswer reads until the head is complete; what came behind it stays in x.rest.
func (x *exchange) readAnswer() (head, error) {
	buf := (*x.head)[:0]
	for {
		buf = roomForHead(buf)
		n, err := x.conn.Read(buf[len(buf):cap(buf)])
		from := max(0, len(buf)-len(headEnd)+1)
		buf = buf[:len(buf)+n]
		if at := bytes.Index(buf[from:], headEnd); at >= 0 {
			end := from + at
			*x.head, x.rest = buf, buf[end+len(headEnd):]
			return parseHead(string(buf[:end+2]))
		}
		switch {
		case len(buf) >= largestHead:
			return head{}, fmt.Errorf("%w: its head is longer than %d bytes", errGarbled, largestHead)
		case err == io.EOF:
			return head{}, fmt.Errorf("SQ closed the connection after %d bytes of an answer: %w", len(buf), io.ErrUnexpectedEOF)
		case err != nil:
			return head{}, err
		}
	}
}

func roomForHead(buf []byte) []byte {
	if len(buf) < cap(buf) {
		return buf
	}
	bigger := make([]byte, len(buf), min(4*cap(buf), largestHead))
	copy(bigger, buf)
	return bigger
}

// parseHead reads a status line and headers, each with its line end. There has
// to be one Content-Length and no other framing, so that there is only one way
// to understand where the answer ends.
func parseHead(text string) (head, error) {
	line, text, _ := strings.Cut(text, "\r\n")
	h, err := parseStatus(line)
	if err != nil {
		return head{}, err
	}
	h.length = -1
	h.header = make(http.Header, 2)
	for text != "" {
		line, text, _ = strings.Cut(text, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name) || !printable(value) {
			return head{}, fmt.Errorf("%w: %q is no header", errGarbled, clipped(line))
		}
		if err := h.add(http.CanonicalHeaderKey(name), value); err != nil {
			return head{}, err
		}
	}
	if h.length < 0 {
		return head{}, fmt.Errorf("%w: it has no Content-Length", errGarbled)
	}
	return h, nil
}

func parseStatus(line string) (head, error) {
	code, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	code, reason, _ := strings.Cut(code, " ")
	status, err := strconv.ParseUint(code, 10, 16)
	if !ok || err != nil || len(code) != 3 || status < 200 || !printable(reason) {
		return head{}, fmt.Errorf("%w: it begins with %q", errGarbled, clipped(line))
	}
	return head{status: int(status), reason: line[len("HTTP/1.1 "):]}, nil
}

func (h *head) add(name, value string) error {
	switch name {
	case "Transfer-Encoding", "Trailer", "Upgrade":
		return fmt.Errorf("%w: it has the header %s", errGarbled, name)
	case "Content-Length":
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil || h.length >= 0 {
			return fmt.Errorf("%w: its Content-Length is %q, or there are two", errGarbled, clipped(value))
		}
		h.length = int64(n)
	}
	h.header[name] = append(h.header[name], value)
	return nil
}

// isToken says whether s may be the name of a header.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// clipped keeps what a stranger answered short in logs.
func clipped(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func (h head) response(r *http.Request, x *exchange) *http.Response {
	return &http.Response{
		Status: h.reason, StatusCode: h.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h.header, ContentLength: h.length, Close: true,
		Body: &wireBody{exchange: x, left: h.length}, Request: r,
	}
}
