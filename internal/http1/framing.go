package http1

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// framing follows the bytes that net/http reads of a connection, as far as is needed
// to know where each request begins and ends. net/http says nothing of a request's
// header before it has read it all, and drops what it disregards: the chunks that an
// HTTP/1.0 request announces, or a length beside chunks.
type framing struct {
	head head   // that is being read
	last head   // that was read last: the one of the request that is served
	line []byte // the first bytes of the header line that is being read
	size int    // of that line so far, in bytes
	body int64  // bytes of the body that are still to come; endless after chunks
}

// head is what matters of a request's header.
type head struct {
	size    int   // in bytes
	lines   int   // with the request line
	length  int64 // Content-Length
	sized   bool  // there is one
	chunked bool  // there is a Transfer-Encoding; any but chunked is unclear
	unclear bool  // it could be read in another way
	host    bool  // there is a Host
}

// endless is the body of a request after which its connection is not used again.
const endless = math.MaxInt64

// lineBeginning is how much is looked at of a header line. A line that says how
// long the body is and does not fit is unclear.
const lineBeginning = 64

// advance reads on to the end of the header or of the body, and says how far that
// is.
func (f *framing) advance(b []byte) (n int) {
	if f.body > 0 {
		n = int(min(f.body, int64(len(b))))
		if f.body != endless {
			f.body -= int64(n)
		}
		return n
	}
	for n < len(b) {
		part, _, ended := bytes.Cut(b[n:], []byte("\n"))
		f.size += len(part)
		f.line = append(f.line, part[:min(len(part), lineBeginning-len(f.line))]...)
		n += len(part)
		if !ended {
			break
		}
		if n++; f.endLine() {
			f.head.size += n
			f.endHead()
			return n
		}
	}
	f.head.size += n
	return n
}

// ends says whether the next byte ends the header, if it is a line feed.
func (f *framing) ends() bool { return f.head.lines > 0 && string(f.line) == "\r" && f.size == 1 }

// endLine reads a line, and says whether it is the empty one behind the header.
func (f *framing) endLine() bool {
	line, whole := strings.TrimSuffix(string(f.line), "\r"), f.size <= lineBeginning
	f.line, f.size = f.line[:0], 0
	switch {
	case line == "":
		return f.head.lines > 0 // those in front of a request line are skipped
	case f.head.lines > 0: // not the request line
		f.head.read(line, whole)
	}
	f.head.lines++
	return false
}

// read looks at a field. A line that continues the one before may continue one
// that matters.
func (h *head) read(line string, whole bool) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	switch {
	case line[0] == ' ', line[0] == '\t':
		h.unclear = true
	case strings.EqualFold(name, "Host"):
		h.host = true
	case strings.EqualFold(name, "Transfer-Encoding"):
		h.unclear = h.unclear || h.chunked || h.sized || !whole || !strings.EqualFold(value, "chunked")
		h.chunked = true
	case strings.EqualFold(name, "Content-Length"):
		n, err := strconv.ParseUint(value, 10, 63)
		h.unclear = h.unclear || h.chunked || h.sized && int64(n) != h.length || err != nil || !whole
		h.length, h.sized = int64(n), true
	}
}

// awaits says whether more of a request is to come than so many bytes that have.
func (f *framing) awaits(come int) bool {
	if f.head.size > 0 {
		return come == 0
	}
	return int64(come) < f.body
}

// current is the header that is being read, as far as it has come, or the one that
// was read last.
func (f *framing) current() head {
	if f.head.size > 0 {
		return f.head
	}
	return f.last
}

func (f *framing) endHead() {
	f.last, f.head = f.head, head{}
	f.body = f.last.length
	if f.last.chunked || f.last.unclear {
		f.body = endless
	}
}
