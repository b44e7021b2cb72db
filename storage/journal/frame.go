package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/zeebo/xxh3"
)

// A frame is the length of a record (4 bytes), its xxh3 hash (8 bytes) and the
// record. Both numbers are little-endian.
const frameHead = 12

// ErrTooLong is returned for a record that is too long for a frame.
var ErrTooLong = errors.New("is too long for the journal")

// frame appends the frame of r to b.
func frame(b []byte, r record) ([]byte, error) {
	start := len(b)
	b = r.encode(append(b, make([]byte, frameHead)...))
	payload := b[start+frameHead:]
	if uint64(len(payload)) > math.MaxUint32 {
		return nil, fmt.Errorf("a mutation of %s %w", r.m.File, ErrTooLong)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[start+4:], xxh3.Hash(payload))
	return b, nil
}

// longFrame is the frame of the record of a mutation whose text is not copied.
type longFrame struct {
	head, end []byte // before and behind the text
	text      State
}

// isLong says whether a record gets a longFrame.
func (r record) isLong() bool { return r.kind == begun && r.m.state().Size() > Small }

// state is the text of the mutation.
func (m Mutation) state() State { return State{Text: m.Text, Source: m.Source, Exists: true} }

// frameAround makes the frame of r without a copy of its text.
func frameAround(r record) (f longFrame, err error) {
	f.text = r.m.state()
	f.head = r.m.encodeHead(r.encodeHead(make([]byte, frameHead)))
	f.head = binary.AppendUvarint(f.head, uint64(f.text.Size()))
	f.end = r.m.encodeEnd(nil)
	size := f.size() - frameHead
	if uint64(size) > math.MaxUint32 {
		return f, fmt.Errorf("a mutation of %s %w", r.m.File, ErrTooLong)
	}
	hash := xxh3.New()
	_, _ = hash.Write(f.head[frameHead:]) // a hash takes everything
	_, _ = f.text.WriteTo(hash)
	_, _ = hash.Write(f.end)
	binary.LittleEndian.PutUint32(f.head, uint32(size))
	binary.LittleEndian.PutUint64(f.head[4:], hash.Sum64())
	return f, nil
}

func (f longFrame) size() int64 { return int64(len(f.head)+len(f.end)) + f.text.Size() }

// write writes the frame.
func (f longFrame) write(w *fileWriter) error {
	if _, err := w.Write(f.head); err != nil {
		return err
	}
	if _, err := f.text.WriteTo(w); err != nil {
		return err
	}
	_, err := w.Write(f.end)
	return err
}

// walkRecords calls visit with each record in the first size bytes of r, and
// returns where the last whole record ends. Damage is not an error: the walk
// ends there. The text of a long mutation is left out.
func walkRecords(r io.ReaderAt, size int64, visit func(record) error) (good int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), int(min(size, 1<<16)))
	for {
		rec, n, err := nextRecord(in, size-good, mostKept)
		if errors.Is(err, errNotDecoded) {
			rec, n, err = nextRecord(io.NewSectionReader(r, good, size-good), size-good, math.MaxInt64)
			in.Reset(io.NewSectionReader(r, good+n, size-good-n))
		}
		if err != nil || n == 0 {
			return good, err
		}
		rec.offset = good
		if err := visit(rec); err != nil {
			return good, err
		}
		good += n
	}
}

// nextIntact returns where the first whole record of a kind begins behind from, or size if
// there is none: the length of a damaged record cannot be trusted. No record is inside
// another one, since its length has a NUL and no text of an answer has one.
func nextIntact(r io.ReaderAt, from, size int64, wanted kind) (int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, from, size-from), edge)
	for off := from; ; {
		if _, err := in.Discard(1); err != nil {
			return size, unlessShort(err)
		}
		off++
		head, err := in.Peek(frameHead + 1)
		if err != nil {
			return size, unlessShort(err)
		}
		length := int64(binary.LittleEndian.Uint32(head))
		if kind(head[frameHead]) != wanted || length == 0 || length > size-off-frameHead {
			continue
		}
		if rec, n, err := nextRecord(io.NewSectionReader(r, off, size-off), size-off, math.MaxInt64); err != nil || n > 0 && rec.kind == wanted {
			return off, err
		}
	}
}

// A record of more than mostKept bytes is walked past in pieces. Only a mutation can
// be so long, by its text: a checkpoint of that size has a file of its own. Of its two
// ends, so much is kept as the rest of a mutation needs, in bytes.
const (
	mostKept = 2 << 20
	edge     = 64 << 10
)

// errNotDecoded is a long record whose text is not all that is missing of it.
var errNotDecoded = errors.New("a record needs to be read as a whole")

// nextRecord reads a record and returns its size in bytes. The size is 0 if
// there is no whole record. One that is longer than most comes without its text.
func nextRecord(in io.Reader, left, most int64) (record, int64, error) {
	size, sum, err := nextHead(in, left)
	if err != nil || size == 0 {
		return record{}, 0, err
	}
	if size > most {
		return longRecord(in, size, sum)
	}
	payload, err := readPayload(in, size, sum)
	if err != nil || payload == "" {
		return record{}, 0, err
	}
	rec, ok := decode(payload)
	if !ok {
		return record{}, 0, nil
	}
	return rec, frameHead + size, nil
}

// longRecord checks a record piece by piece and keeps its ends. The error is
// errNotDecoded if they are too little.
func longRecord(in io.Reader, size int64, sum uint64) (record, int64, error) {
	hash := xxh3.New()
	var head, tail strings.Builder
	all := io.TeeReader(in, hash)
	for _, part := range []struct {
		to io.Writer
		n  int64
	}{{&head, edge}, {io.Discard, size - 2*edge}, {&tail, edge}} {
		if _, err := io.CopyN(part.to, all, part.n); err != nil {
			return record{}, 0, unlessShort(err)
		}
	}
	if hash.Sum64() != sum {
		return record{}, 0, nil
	}
	rec, ok := decodeWithout(head.String(), uint64(size-2*edge), tail.String())
	if !ok {
		return record{}, frameHead + size, errNotDecoded
	}
	return rec, frameHead + size, nil
}

// nextFrame reads a frame, and returns the record in it, not decoded, and the
// size of the frame in bytes. The size is 0 if there is no whole frame.
func nextFrame(in io.Reader, left int64) (payload string, n int64, err error) {
	size, sum, err := nextHead(in, left)
	if err != nil || size == 0 {
		return "", 0, err
	}
	payload, err = readPayload(in, size, sum)
	if err != nil || payload == "" {
		return "", 0, err
	}
	return payload, frameHead + size, nil
}

// nextHead reads the size of a record, in bytes, and its hash. The size is 0 if there
// is no whole record.
func nextHead(in io.Reader, left int64) (size int64, sum uint64, err error) {
	var head [frameHead]byte
	if left <= frameHead {
		return 0, 0, nil
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, 0, unlessShort(err)
	}
	size = int64(binary.LittleEndian.Uint32(head[:]))
	if size > left-frameHead {
		return 0, 0, nil
	}
	return size, binary.LittleEndian.Uint64(head[4:]), nil
}

// readPayload reads a record that is not decoded. It is "" if it is not whole.
func readPayload(in io.Reader, size int64, sum uint64) (string, error) {
	var b strings.Builder
	b.Grow(int(size))
	if _, err := io.CopyN(&b, in, size); err != nil {
		return "", unlessShort(err)
	}
	if xxh3.HashString(b.String()) != sum {
		return "", nil
	}
	return b.String(), nil
}

// unlessShort returns nil if a file only ended early.
func unlessShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("reading the journal: %w", err)
}

// readRecord reads the record that walkRecords found at off.
func readRecord(r io.ReaderAt, off, size int64) (record, error) {
	rec, n, err := nextRecord(io.NewSectionReader(r, off, size-off), size-off, math.MaxInt64)
	if err == nil && n == 0 {
		err = fmt.Errorf("the record at %d of the journal %w", off, ErrDamaged)
	}
	rec.offset = off
	return rec, err
}

// recordReader reads some records of a file, in their order. Those that follow each other
// take few reads of the disk.
type recordReader struct {
	file io.ReaderAt
	size int64         // in bytes
	in   *bufio.Reader // nil until the first
	at   int64         // of in
}

func newRecordReader(f *os.File) (*recordReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	return &recordReader{file: f, size: info.Size()}, nil
}

// read reads a record that begins at off. The text of a long mutation may be left out.
func (r *recordReader) read(off int64) (record, error) {
	switch gap := off - r.at; {
	case r.in == nil:
		r.in = bufio.NewReaderSize(r.from(off), edge)
	case gap < 0 || gap > int64(r.in.Buffered()):
		r.in.Reset(r.from(off))
	default:
		_, _ = r.in.Discard(int(gap)) // which is in memory
	}
	rec, n, err := nextRecord(r.in, r.size-off, mostKept)
	if r.at = off + n; errors.Is(err, errNotDecoded) {
		rec, n, err = nextRecord(r.from(off), r.size-off, math.MaxInt64)
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("the record at %d of the journal %w", off, ErrDamaged)
	}
	if err != nil {
		r.in = nil // nobody knows where it is
	}
	return rec, err
}

func (r *recordReader) from(off int64) io.Reader { return io.NewSectionReader(r.file, off, r.size-off) }
