package object

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"mirrorborn.us/sqgate/storage/journal"
)

// Log is an object of a directory's log: what was committed together, or the
// record that opens an epoch.
type Log struct {
	Epoch       uint64
	Opens       bool   // the record that opens the epoch; it has no groups
	Of          string // of such a record: the one tenant whose directory this is; "" = several share it
	Host        string // who wrote it
	Incarnation string // of that host
	Nonce       string // of this object, by which its writer knows it again
	Time        int64  // when it was written, in nanoseconds since 1970 by the host's clock
	Groups      []Group
}

// Group is what was done to one phext in one commit, in its order.
type Group struct {
	Time      int64 // when it was done, in nanoseconds since 1970
	Mutations []journal.Mutation
	After     FileState
}

// File is the name of the phext's file in the directory.
func (g Group) File() string { return g.Mutations[0].File }

// FileState is what a file holds, in short.
type FileState struct {
	Exists bool
	Size   int64    // bytes
	Sum    [16]byte // xxh3-128; zero if there is no file
}

func (l *Log) kind() kind { return kindLog }

func (l *Log) marshal() ([]byte, error) {
	b := make([]byte, 0, l.sizeAtMost())
	err := l.write(func(piece string) { b = append(b, piece...) })
	if err != nil {
		return nil, err
	}
	return b, nil
}

// marshalsTo says whether marshal would return a payload.
func (l *Log) marshalsTo(payload []byte) (bool, error) {
	rest, same := unsafe.String(unsafe.SliceData(payload), len(payload)), true
	err := l.write(func(piece string) {
		var found bool
		rest, found = strings.CutPrefix(rest, piece)
		same = same && found
	})
	return same && rest == "", err
}

// write calls put with all that marshal returns. Who is called keeps no piece of it.
func (l *Log) write(put func(piece string)) error {
	if l.Opens && len(l.Groups) > 0 {
		return fmt.Errorf("a record that opens an epoch and has mutations %w", ErrInvalid)
	}
	b := binary.AppendUvarint(nil, l.Epoch)
	b = appendBool(b, l.Opens)
	for _, s := range []string{l.Of, l.Host, l.Incarnation, l.Nonce} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendVarint(b, l.Time)
	b = binary.AppendUvarint(b, uint64(len(l.Groups)))
	flush := func() {
		put(unsafe.String(unsafe.SliceData(b), len(b)))
		b = b[:0]
	}
	for _, g := range l.Groups {
		if len(g.Mutations) == 0 {
			return fmt.Errorf("a group without mutations %w", ErrInvalid)
		}
		b = binary.AppendVarint(b, g.Time)
		b = binary.AppendVarint(appendBool(b, g.After.Exists), g.After.Size)
		b = append(b, g.After.Sum[:]...)
		b = binary.AppendUvarint(b, uint64(len(g.Mutations)))
		for _, m := range g.Mutations {
			if m.File != g.File() {
				return fmt.Errorf("a group of %q and %q %w", g.File(), m.File, ErrInvalid)
			}
			if err := m.Check(); err != nil {
				return fmt.Errorf("a mutation %w: %w", ErrInvalid, err)
			}
			b = m.AppendHead(b)
			flush()
			put(m.Text)
			b = m.AppendEnd(b)
		}
	}
	flush()
	return nil
}

// sizeAtMost is about how many bytes marshal returns, so that they are allocated once.
func (l *Log) sizeAtMost() int {
	const ofNumbers = 128
	n := ofNumbers + len(l.Of) + len(l.Host) + len(l.Incarnation) + len(l.Nonce)
	for _, g := range l.Groups {
		n += ofNumbers
		for _, m := range g.Mutations {
			n += ofNumbers + len(m.File) + len(m.Text) + len(m.Tenant) + len(m.Key) + len(m.Note) + len(m.Idempotency) + len(m.Digest) + len(m.Answer) + len(m.ETag)
		}
	}
	return n
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// unmarshal makes no copy of a text that is most of the payload. All else is copied, so that
// whoever keeps some of it does not keep the payload. Nobody changes that any more.
func (l *Log) unmarshal(payload []byte) error {
	in := decoder{rest: unsafe.String(unsafe.SliceData(payload), len(payload)), copied: len(payload) / 2}
	l.Epoch, l.Opens = in.uvarint(), in.bool()
	for _, s := range []*string{&l.Of, &l.Host, &l.Incarnation, &l.Nonce} {
		*s = strings.Clone(in.take(in.uvarint()))
	}
	l.Time = in.varint()
	// A number is not believed before there is something behind it.
	for n := in.uvarint(); n > 0 && !in.bad; n-- {
		g := Group{Time: in.varint()}
		g.After.Exists, g.After.Size = in.bool(), in.varint()
		copy(g.After.Sum[:], in.take(uint64(len(g.After.Sum))))
		for n := in.uvarint(); n > 0 && !in.bad; n-- {
			g.Mutations = append(g.Mutations, in.mutation())
		}
		l.Groups = append(l.Groups, g)
	}
	if in.bad || in.rest != "" {
		return fmt.Errorf("the object %w", ErrDamaged)
	}
	return nil
}

// decoder reads the parts of a payload. After an error it reads only zeros.
type decoder struct {
	rest   string
	bad    bool
	copied int // texts of up to so many bytes are
}

func (in *decoder) take(n uint64) (s string) {
	if in.bad || n > uint64(len(in.rest)) {
		in.bad, in.rest = true, ""
		return ""
	}
	s, in.rest = in.rest[:n], in.rest[n:]
	return s
}

func (in *decoder) bool() bool { return in.take(1) == "\x01" }

func (in *decoder) uvarint() uint64 {
	v, n := binary.Uvarint([]byte(in.rest[:min(len(in.rest), binary.MaxVarintLen64)]))
	in.bad = in.bad || n <= 0
	in.take(uint64(max(n, 0)))
	return v
}

func (in *decoder) varint() int64 {
	v, n := binary.Varint([]byte(in.rest[:min(len(in.rest), binary.MaxVarintLen64)]))
	in.bad = in.bad || n <= 0
	in.take(uint64(max(n, 0)))
	return v
}

func (in *decoder) mutation() journal.Mutation {
	m, rest, err := journal.ParseMutation(in.rest)
	if err != nil {
		in.bad = true
	}
	in.rest = rest
	for _, s := range []*string{&m.File, &m.Tenant, &m.Key, &m.Note, &m.Idempotency, &m.Digest, &m.Answer, &m.ETag} {
		*s = strings.Clone(*s)
	}
	if len(m.Text) <= in.copied {
		m.Text = strings.Clone(m.Text)
	}
	return m
}
