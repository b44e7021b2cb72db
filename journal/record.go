package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/disk"
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
