package journal

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// Source is a large text that is not in memory as one string. It writes the same each time.
type Source interface {
	Size() int64 // in bytes
	io.WriterTo
}

// Small is the size in bytes up to which a text is kept as one string.
const Small = 1 << 20

// rendered is what a phext is rendered to.
type rendered struct{ *phext.Phext }

func (r rendered) Size() int64 { return int64(r.RenderedSize()) }

// Size is the size of the text, in bytes.
func (s State) Size() int64 {
	if s.Source == nil {
		return int64(len(s.Text))
	}
	return s.Source.Size()
}

// WriteTo writes the text. Short pieces of it are gathered.
func (s State) WriteTo(w io.Writer) (int64, error) {
	if s.Source == nil {
		n, err := io.WriteString(w, s.Text)
		return int64(n), err
	}
	out := bufio.NewWriterSize(w, 256<<10)
	n, err := s.Source.WriteTo(out)
	if err != nil {
		return n, err
	}
	return n, out.Flush()
}

// Whole is the state with its text as one string, which takes memory if it is not one yet.
func (s State) Whole() State {
	if s.Source == nil {
		return s
	}
	var b strings.Builder
	b.Grow(int(s.Size()))
	_, _ = s.Source.WriteTo(&b) // a Builder takes everything
	return State{Text: b.String(), Exists: s.Exists}
}

// Sum is the XXH3-128 checksum of the text.
func (s State) Sum() [16]byte {
	if s.Source == nil {
		return xxh3.HashString128(s.Text).Bytes()
	}
	hash := xxh3.New()
	_, _ = s.WriteTo(hash) // a hash takes everything
	return hash.Sum128().Bytes()
}

// Phext is the parsed text, if the state was made of one; else nil.
func (s State) Phext() *phext.Phext {
	if r, ok := s.Source.(rendered); ok {
		return r.Phext
	}
	return nil
}

// stateOf is the state of a file that a phext is rendered to.
func stateOf(p *phext.Phext) State {
	if p.RenderedSize() > Small {
		return State{Source: rendered{p}, Exists: true}
	}
	return State{Text: p.Render(), Exists: true}
}

// fileSource is the text of a file.
type fileSource struct {
	links fsutil.Links
	path  string
	size  int64
}

func (s fileSource) Size() int64 { return s.size }

func (s fileSource) WriteTo(w io.Writer) (int64, error) {
	f, _, err := s.links.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(w, f)
}

// OpenState is ReadState that leaves the text of a large file there: nobody may change the
// file as long as the state is used.
func OpenState(links fsutil.Links, path string) (State, error) {
	f, id, err := links.Open(path)
	if os.IsNotExist(err) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	if id.Size <= Small {
		return ReadState(links, path)
	}
	size, err := io.Copy(io.Discard, f) // all of it can be read
	return State{Source: fileSource{links, path, size}, Exists: true}, err
}

// Equals says whether two states are the same. Large ones are compared by their checksums.
func (s State) Equals(other State) bool {
	if s.Source == nil && other.Source == nil {
		return s == other
	}
	return s.Exists == other.Exists && s.Size() == other.Size() && s.sumOf(s.Size()) == other.sumOf(s.Size())
}

// begins says whether s is a part of other that ends early.
func (s State) begins(other State) bool {
	n := s.Size()
	return n < other.Size() && s.sumOf(n) == other.sumOf(n)
}

// sumOf is the checksum of the first n bytes. It is one that no other text has if they
// cannot be read.
func (s State) sumOf(n int64) [16]byte {
	if s.Source == nil {
		return xxh3.HashString128(s.Text[:n]).Bytes()
	}
	w := &beginning{hash: xxh3.New(), left: n}
	if _, err := s.WriteTo(w); err != nil || w.left > 0 {
		_, _ = rand.Read(w.unread[:]) // which never fails
		return w.unread
	}
	return w.hash.Sum128().Bytes()
}

// beginning hashes the first bytes that are written to it.
type beginning struct {
	hash   *xxh3.Hasher
	left   int64
	unread [16]byte
}

func (w *beginning) Write(b []byte) (int, error) {
	n := min(int64(len(b)), w.left)
	_, _ = w.hash.Write(b[:n]) // a hash takes everything
	w.left -= n
	return len(b), nil
}

// hasEmptyBlock says whether a block of the text has only NULs, as one that was never written.
func (s State) hasEmptyBlock() bool {
	var w blockFinder
	_, _ = s.WriteTo(&w) // what cannot be read is found out where it is used
	return w.found || w.isEmpty()
}

// blockSize is the smallest that a file system has, in bytes.
const blockSize = 512

// blockFinder looks at one block after the other, of which the last one may be short.
type blockFinder struct {
	size    int  // of the present block until now
	hasText bool // which is not only NULs
	found   bool
}

func (w *blockFinder) Write(b []byte) (n int, err error) {
	for n = len(b); len(b) > 0; {
		part := b[:min(len(b), blockSize-w.size)]
		b = b[len(part):]
		w.size, w.hasText = w.size+len(part), w.hasText || len(bytes.TrimLeft(part, "\x00")) > 0
		if w.size == blockSize {
			*w = blockFinder{found: w.found || w.isEmpty()}
		}
	}
	return n, nil
}

// isEmpty says whether the block until now is one that was never written. One NUL may be a text's.
func (w *blockFinder) isEmpty() bool { return w.size > 1 && !w.hasText }

// isUTF8 says whether the text is UTF-8.
func (s State) isUTF8() bool {
	file, ok := s.Source.(fileSource)
	if !ok {
		return utf8.ValidString(s.Whole().Text)
	}
	f, _, err := file.links.Open(file.path)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := fsutil.IsText(f)
	return text && err == nil
}

// copied has io.Copy use the WriteTo of a state.
type copied struct{ State }

func (copied) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// fileWriter writes to a file from an offset on, as the journal does.
type fileWriter struct {
	j   *Journal
	f   *os.File
	off int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	if err := w.j.write(w.f, b, w.off); err != nil {
		return 0, err
	}
	w.off += int64(len(b))
	return len(b), nil
}

// WriteString makes no copy.
func (w *fileWriter) WriteString(s string) (int, error) {
	return w.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}
