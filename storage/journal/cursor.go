package journal

import "encoding/binary"

// cursor reads what encode wrote. Once bad it reads nothing but zeros.
type cursor struct {
	rest string
	bad  bool
}

func (in *cursor) take(n uint64) string {
	if in.bad || n > uint64(len(in.rest)) {
		in.bad, in.rest = true, ""
		return ""
	}
	s := in.rest[:n]
	in.rest = in.rest[n:]
	return s
}

func (in *cursor) byte() byte {
	if s := in.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (in *cursor) bool() bool { return in.byte() != 0 }

func (in *cursor) string() string { return in.take(in.uvarint()) }

func (in *cursor) uvarint() uint64 {
	head := in.rest[:min(len(in.rest), binary.MaxVarintLen64)]
	v, n := binary.Uvarint([]byte(head))
	return v * in.advance(n)
}

func (in *cursor) varint() int64 {
	head := in.rest[:min(len(in.rest), binary.MaxVarintLen64)]
	v, n := binary.Varint([]byte(head))
	return v * int64(in.advance(n))
}

// advance is 1 if a number of n bytes could be read, 0 if not.
func (in *cursor) advance(n int) uint64 {
	if n <= 0 {
		n = len(in.rest) + 1
	}
	in.take(uint64(n))
	if in.bad {
		return 0
	}
	return 1
}
