package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/phext"
)

// kind is what a record says.
type kind uint8

const (
	kindHeader     kind = iota + 1 // first in a segment
	kindCheckpoint                 // a file as it was found
	kindBegin                      // a mutation that is about to be made
	kindDone                       // it was made
	kindAbort                      // it was not made
	kindAnswer                     // what a mutation with an Idempotency-Key was answered
)

// record is everything that any kind has; each uses a part of it.
type record struct {
	kind   kind
	seq    uint64    // of begin, done, abort
	time   time.Time // UTC
	boot   string    // header
	state  State     // checkpoint; its text, if it is kept inline
	beside string    // checkpoint: the file that holds the text instead
	length int64     // checkpoint: of the text, in bytes
	sum    string    // checkpoint: of the text, if it lies beside
	edited bool      // checkpoint: somebody else had changed the file
	id     disk.FileID
	m      Mutation
}

// frameSize is what stands before each record's payload: its length in four
// bytes and its xxh3-64 in eight, little-endian.
const frameSize = 12

// largestRecord is more than any record can be, in bytes: two texts of the
// largest phext would not fit into one.
const largestRecord = 1 << 30

var errDamaged = errors.New("a record of the journal is damaged")

// frame appends a record to b.
func frame(b []byte, r *record) []byte {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = r.encode(b)
	payload := b[start+frameSize:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[start+4:], xxh3.Hash(payload))
	return b
}

// unframe reads the record at the beginning of b and says how long it is.
func unframe(b []byte) (r *record, n int, err error) {
	if len(b) < frameSize {
		return nil, 0, errDamaged
	}
	size := binary.LittleEndian.Uint32(b)
	if size > largestRecord || int(size) > len(b)-frameSize {
		return nil, 0, errDamaged
	}
	payload := b[frameSize : frameSize+int(size)]
	if xxh3.Hash(payload) != binary.LittleEndian.Uint64(b[4:]) {
		return nil, 0, errDamaged
	}
	d := decoder{b: payload}
	r = d.record()
	if d.failed || len(d.b) > 0 {
		return nil, 0, errDamaged
	}
	return r, frameSize + int(size), nil
}

func (r *record) encode(b []byte) []byte {
	b = append(b, byte(r.kind))
	b = binary.AppendUvarint(b, r.seq)
	b = binary.AppendVarint(b, r.time.UnixNano())
	switch r.kind {
	case kindHeader:
		b = appendText(b, r.boot)
	case kindCheckpoint:
		b = r.encodeCheckpoint(b)
	case kindBegin, kindAnswer:
		b = r.encodeMutation(b)
	case kindDone:
		b = appendID(b, r.id)
	}
	return b
}

func (r *record) encodeCheckpoint(b []byte) []byte {
	b = appendText(b, r.m.File)
	b = appendBool(b, r.state.Exists)
	b = appendBool(b, r.edited)
	b = appendText(b, r.state.Text)
	b = appendText(b, r.beside)
	b = binary.AppendVarint(b, r.length)
	b = appendText(b, r.sum)
	return appendID(b, r.id)
}

func (r *record) encodeMutation(b []byte) []byte {
	m := &r.m
	b = append(b, byte(m.Op))
	for _, n := range m.At {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, s := range []string{m.File, m.Text, m.Tenant, m.Key, m.Note, m.Idempotency, m.Digest, m.Answer} {
		b = appendText(b, s)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendID(b []byte, id disk.FileID) []byte {
	b = binary.AppendUvarint(b, id.Dev)
	b = binary.AppendUvarint(b, id.Ino)
	b = binary.AppendVarint(b, id.Size)
	b = binary.AppendVarint(b, id.Mtime)
	return binary.AppendVarint(b, id.Ctime)
}

// decoder reads a payload; after a failure it reads zeros.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) record() *record {
	r := &record{kind: kind(d.byte()), seq: d.uvarint(), time: time.Unix(0, d.varint()).UTC()}
	switch r.kind {
	case kindHeader:
		r.boot = d.text()
	case kindCheckpoint:
		r.m.File = d.text()
		r.state.Exists, r.edited = d.byte() != 0, d.byte() != 0
		r.state.Text, r.beside, r.length, r.sum = d.text(), d.text(), d.varint(), d.text()
		r.id = d.id()
	case kindBegin, kindAnswer:
		d.mutation(&r.m)
	case kindDone:
		r.id = d.id()
	case kindAbort:
	default:
		d.failed = true
	}
	return r
}

func (d *decoder) mutation(m *Mutation) {
	m.Op = Op(d.byte())
	for i := range m.At {
		m.At[i] = uint32(d.uvarint())
	}
	for _, s := range []*string{&m.File, &m.Text, &m.Tenant, &m.Key, &m.Note, &m.Idempotency, &m.Digest, &m.Answer} {
		*s = d.text()
	}
	if m.Op < Insert || m.Op > Remove {
		d.failed = true
	}
}

func (d *decoder) id() disk.FileID {
	return disk.FileID{Dev: d.uvarint(), Ino: d.uvarint(), Size: d.varint(), Mtime: d.varint(), Ctime: d.varint()}
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.failed = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return advance(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return advance(d, v, n)
}

func advance[T uint64 | int64](d *decoder, v T, n int) T {
	if n <= 0 {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// at is the coordinate for people; mutations of whole files have none.
func (m *Mutation) coordinate() phext.Coordinate {
	if m.Op == Replace || m.Op == Remove {
		return phext.Coordinate{}
	}
	return m.At
}
