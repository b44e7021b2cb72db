package journal

import (
	"encoding/binary"
	"time"

	"mirrorborn.us/sqgate/internal/disk"
	"mirrorborn.us/sqgate/phext"
)

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
