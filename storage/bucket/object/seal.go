// Package object has the formats of what sqgate keeps in a bucket. An object is
//
//	"SQB", the version of the format       4 bytes
//	the kind of the object                 1 byte
//	the length of the payload              uvarint
//	the payload, compressed with zstd
//	xxh3-128 of all that                   16 bytes
//
// The payload of a log object is binary, with mutations as the journal has them. That
// of a file is its text. All others are JSON, with the fields of their types.
//
// The package reads and writes nothing. What it decodes, it would encode to the same
// payload again: it accepts nothing that it cannot keep.
package object

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"
)

// version is that of an object that needs no later one: it can be read by as many releases
// as possible. A sqgate that does not know an object's version refuses it.
const version = 1

// newest is the latest version of a kind of object that this sqgate knows.
func newest(k kind) byte {
	if k == kindOwner {
		return versionNext
	}
	return version
}

// versionNext is that of an owner with a Next.
const versionNext = 2

// versionOf is the earliest version that can say what v does.
func versionOf(v content) byte {
	if o, ok := v.(*Owner); ok && o.Next != "" {
		return versionNext
	}
	return version
}

const magic = "SQB"

// PayloadMax is the longest payload, in bytes.
const PayloadMax = 192 << 20

// Errors of what is read. They are wrapped.
var (
	ErrDamaged = errors.New("is damaged")
	ErrFormat  = errors.New("was not written by sqgate")
	ErrVersion = errors.New("was written by a newer sqgate, in a format that this one does not know: upgrade this one")
	ErrKind    = errors.New("is another kind of object than was asked for")
	ErrInvalid = errors.New("cannot be kept in a bucket")
)

// IsDamaged says whether an error of reading an object is one that the object keeps, whoever
// reads it. One of a newer version is another case: that may be whole, and say something.
func IsDamaged(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) || errors.Is(err, ErrKind)
}

type kind byte

// The kinds. Objects in buckets hold these numbers.
const (
	kindLog kind = 1 + iota
	kindCheckpoint
	kindOwner
	kindHost
	kindTenants
	kindFile
)

const sumSize = 16

// Both are used for whole payloads only, by many at a time.
var (
	compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	})
	decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderMaxMemory(PayloadMax), zstd.WithDecoderMaxWindow(8<<20))
	})
)

// seal makes an object of a payload.
func seal(k kind, payload []byte) ([]byte, error) { return sealAs(k, version, payload) }

func sealAs(k kind, version byte, payload []byte) ([]byte, error) {
	if len(payload) > PayloadMax {
		return nil, fmt.Errorf("a payload of %d bytes %w", len(payload), ErrInvalid)
	}
	z, err := compressor()
	if err != nil {
		return nil, err
	}
	b := append([]byte(magic), version, byte(k))
	b = binary.AppendUvarint(b, uint64(len(payload)))
	b = z.EncodeAll(payload, b)
	sum := xxh3.Hash128(b).Bytes()
	return append(b, sum[:]...), nil
}

// unseal returns the payload of an object. The checksum is compared before
// anything else is believed, except the version: a newer one may have another.
func unseal(k kind, b []byte) (payload []byte, err error) {
	if len(b) <= len(magic) || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("the object %w", ErrFormat)
	}
	if b[len(magic)] > newest(k) {
		return nil, fmt.Errorf("the object %w", ErrVersion)
	}
	if len(b) < len(magic)+2+sumSize || b[len(magic)] < version {
		return nil, fmt.Errorf("the object %w", ErrDamaged)
	}
	body := b[:len(b)-sumSize]
	if sum := xxh3.Hash128(body).Bytes(); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("the object %w", ErrDamaged)
	}
	if found := kind(body[len(magic)+1]); found != k {
		return nil, fmt.Errorf("the object %w", ErrKind)
	}
	return decompress(body[len(magic)+2:])
}

// HeadMax is how many bytes of an object PayloadSize looks at, at most.
const HeadMax = len(magic) + 2 + binary.MaxVarintLen64

// PayloadSize is how many bytes the payload of an object has, of which b has the beginning:
// what it takes in memory as soon as it is read. It is 0 if b is no object.
func PayloadSize(b []byte) int64 {
	if len(b) < len(magic)+2 {
		return 0
	}
	size, n := binary.Uvarint(b[len(magic)+2 : min(len(b), HeadMax)])
	if n <= 0 || size > PayloadMax {
		return 0
	}
	return int64(size)
}

// decompress allocates no more than the length that is announced, and that no more
// than PayloadMax.
func decompress(b []byte) ([]byte, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > PayloadMax {
		return nil, fmt.Errorf("the object %w", ErrDamaged)
	}
	b = b[n:]
	var head zstd.Header
	if err := head.Decode(b); err != nil || head.HasFCS && head.FrameContentSize != size {
		return nil, fmt.Errorf("the object %w", ErrDamaged)
	}
	z, err := decompressor()
	if err != nil {
		return nil, err
	}
	payload, err := z.DecodeAll(b, nil)
	if err != nil || uint64(len(payload)) != size {
		return nil, fmt.Errorf("the object %w", errors.Join(ErrDamaged, err))
	}
	return payload, nil
}

// content is an object that is not a file. marshal refuses what unmarshal would not
// return the same.
type content interface {
	kind() kind
	marshal() ([]byte, error)
}

// contentOf is a pointer to a T, which can be read into.
type contentOf[T any] interface {
	*T
	content
	unmarshal(payload []byte) error
}

// Encode returns an object of v, or ErrInvalid.
func Encode(v content) ([]byte, error) {
	payload, err := v.marshal()
	if err != nil {
		return nil, err
	}
	return sealAs(v.kind(), versionOf(v), payload)
}

// Decode reads an object of a type.
func Decode[T any, P contentOf[T]](b []byte) (v T, err error) {
	p := P(&v)
	payload, err := unseal(p.kind(), b)
	if err == nil {
		err = p.unmarshal(payload)
	}
	if err != nil {
		var none T
		return none, err
	}
	if same, err := marshalsTo(p, payload); err != nil || !same || versionOf(p) != b[len(magic)] {
		var none T
		return none, fmt.Errorf("the object %w", errors.Join(ErrDamaged, err))
	}
	return v, nil
}

// marshalsTo says whether v would be marshaled to a payload, without making that again if it
// may be large.
func marshalsTo(v content, payload []byte) (bool, error) {
	if l, ok := v.(*Log); ok {
		return l.marshalsTo(payload)
	}
	again, err := v.marshal()
	return bytes.Equal(again, payload), err
}

// unsealTo writes the payload of an object that comes piece by piece to w, as far as it
// can be read. Only if there is no error may any of it be believed.
func unsealTo(k kind, r io.Reader, w io.Writer) error {
	in := &summed{in: bufio.NewReaderSize(r, 64<<10), sum: xxh3.New()}
	out := &noted{out: w}
	err := in.unseal(k, out)
	switch {
	case in.err != nil:
		return in.err
	case out.err != nil:
		return out.err
	}
	return err
}

func (s *summed) unseal(k kind, w io.Writer) error {
	damaged := fmt.Errorf("the object %w", ErrDamaged)
	head := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(s, head); err != nil {
		return damaged
	}
	switch {
	case string(head[:len(magic)]) != magic:
		return fmt.Errorf("the object %w", ErrFormat)
	case head[len(magic)] > newest(k):
		return fmt.Errorf("the object %w", ErrVersion)
	case head[len(magic)] < version:
		return damaged
	case kind(head[len(magic)+1]) != k:
		return fmt.Errorf("the object %w", ErrKind)
	}
	size, err := binary.ReadUvarint(s)
	if err != nil || size > PayloadMax {
		return damaged
	}
	z, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(PayloadMax), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	n, err := io.Copy(w, io.LimitReader(z, int64(size)+1))
	if err == nil {
		_, err = io.Copy(io.Discard, s)
	}
	if sum := s.sum.Sum128().Bytes(); err != nil || uint64(n) != size || !bytes.Equal(sum[:], s.tail()) {
		return fmt.Errorf("the object %w", errors.Join(ErrDamaged, err))
	}
	return nil
}

// summed reads everything but the checksum at the end, and sums it up.
type summed struct {
	in  *bufio.Reader
	sum *xxh3.Hasher
	err error // of reading
}

func (s *summed) Read(b []byte) (int, error) {
	ahead, err := s.in.Peek(min(len(b)+sumSize, s.in.Size()))
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		return 0, err
	}
	n := copy(b, ahead[:max(0, len(ahead)-sumSize)])
	if n == 0 {
		return 0, io.EOF
	}
	_, _ = s.sum.Write(b[:n]) // never fails
	return s.in.Discard(n)
}

func (s *summed) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(s, b[:])
	return b[0], err
}

// tail is what is left when Read has returned io.EOF.
func (s *summed) tail() []byte {
	b, _ := s.in.Peek(sumSize) // a shorter one is no checksum
	return b
}

// noted notes an error of writing.
type noted struct {
	out io.Writer
	err error
}

func (n *noted) Write(b []byte) (written int, err error) {
	written, n.err = n.out.Write(b)
	return written, n.err
}
