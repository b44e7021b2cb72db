package journal

import (
	"encoding/binary"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// kind is what a record says. Journals on disk hold these numbers.
type kind byte

const (
	header     kind = 1 + iota // the first record of a segment
	checkpoint                 // the state of a file before the mutation that follows
	edited                     // the state of a file after somebody else changed it
	begun                      // a mutation, which is pending from here on
	done                       // the file holds the mutation
	aborted                    // the mutation did not happen
	seen                       // the file holds what it should and has this identity
	answered                   // an answer to an Idempotency-Key; only in answersFile
	toRollBack                 // the mutation must not stand, but the file may hold it
	begunAll                   // mutations of one file that happen all or not at all; see record.each
	endedAll                   // what became of them
)

// The versions of a segment. In one of formatWhole there may be records of mutations that
// happen all or not at all, which a sqgate that does not know them would take for damage.
// So a segment has it only if it is needed, or the one before it had it.
const (
	formatPlain = 1
	formatWhole = 2
	version     = formatWhole // the newest that can be read
)

// record is one entry of a segment. Which fields it has depends on its kind.
type record struct {
	kind    kind
	time    int64  // nanoseconds since 1970
	seq     uint64 // number of the mutation or checkpoint in the segment
	m       Mutation
	content content
	id      fsutil.FileID // of the file after done, seen, edited or aborted
	idKnown bool          // whether id is known
	boot    string
	version byte
	all     []record // of begunAll: the mutations, as records of their own
	ended   kind     // of endedAll: done, aborted or toRollBack
	count   int      // of endedAll: how many mutations

	offset   int64 // in the segment; not encoded
	textSize int64 // of the mutation's text, in bytes, also if it is left out; not encoded
}

// keepNoText drops the text of a mutation. It copies the rest, which is a part of
// the same memory.
func (r *record) keepNoText() {
	for i := range r.all {
		r.all[i].keepNoText()
	}
	m := &r.m
	m.Text, m.Source = "", nil
	for _, s := range []*string{&m.File, &m.Tenant, &m.Key, &m.Note, &m.Idempotency, &m.Digest, &m.Answer, &m.ETag} {
		*s = strings.Clone(*s)
	}
}

// each calls visit with the record, or with one for each mutation that it is about, as if
// they had been recorded one by one. They end one nanosecond after each other.
func (r record) each(visit func(record) error) error {
	switch r.kind {
	case begunAll:
		for _, one := range r.all {
			one.offset = r.offset
			if err := visit(one); err != nil {
				return err
			}
		}
		return nil
	case endedAll:
		for i := range r.count {
			one := r
			one.kind, one.seq, one.time = r.ended, r.seq+uint64(i), r.time+int64(i)
			if err := visit(one); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(r)
}

// mutations are those of a record that begins some, or has the answer to one.
func (r record) mutations() []Mutation {
	if r.kind != begunAll {
		return []Mutation{r.m}
	}
	all := make([]Mutation, len(r.all))
	for i, one := range r.all {
		all[i] = one.m
	}
	return all
}

// last is the number of the last mutation that the record is about.
func (r record) last() uint64 { return r.seq + uint64(max(1, len(r.all), r.count)) - 1 }

// beginAll is the record of mutations that happen all or not at all. first is the number of
// the first of them.
func beginAll(all []Mutation, time int64, first uint64) record {
	r := record{kind: begunAll, time: time, seq: first, m: Mutation{File: all[0].File}}
	for i, m := range all {
		r.all = append(r.all, record{kind: begun, time: time, seq: first + uint64(i), m: m, textSize: int64(len(m.Text))})
		r.textSize += int64(len(m.Text))
	}
	return r
}

// content is the state in a checkpoint, or where it is.
type content struct {
	exists, external bool // external: in a file of its own
	size             int64
	sum              [16]byte // xxh3-128
	text             string   // unless external
}

func (r record) encodeHead(b []byte) []byte {
	b = append(b, byte(r.kind))
	b = binary.AppendVarint(b, r.time)
	b = binary.AppendUvarint(b, r.seq)
	return appendString(b, r.m.File)
}

func (r record) encode(b []byte) []byte {
	b = r.encodeHead(b)
	switch r.kind {
	case header:
		return appendString(append(b, r.version), r.boot)
	case begun, answered:
		return r.m.encode(b)
	case checkpoint, edited:
		b = r.content.encode(b)
	case begunAll:
		b = binary.AppendUvarint(b, uint64(len(r.all)))
		for _, one := range r.all {
			b = one.m.encode(b)
		}
		return b
	case endedAll:
		b = binary.AppendUvarint(append(b, byte(r.ended)), uint64(r.count))
	}
	return appendID(appendBool(b, r.idKnown), r.id)
}

func (m Mutation) encode(b []byte) []byte { return m.encodeEnd(appendString(m.encodeHead(b), m.Text)) }

// encodeHead and encodeEnd are what stands before and behind the text.
func (m Mutation) encodeHead(b []byte) []byte {
	b = append(b, byte(m.Op))
	for _, n := range m.At {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func (m Mutation) encodeEnd(b []byte) []byte {
	for _, s := range []string{m.Tenant, m.Key, m.Note, m.Idempotency, m.Digest, m.answerAndTag()} {
		b = appendString(b, s)
	}
	return b
}

// answerAndTag is the answer and, behind a NUL each, the entity tag and the size. So a
// sqgate that does not know these two reads the record all the same. UpTo stands where
// the entity tag would.
func (m Mutation) answerAndTag() string {
	tag := m.ETag
	if m.UpTo.Valid() {
		tag = m.UpTo.String()
	}
	if tag == "" && !strings.Contains(m.Answer, "\x00") {
		return m.Answer
	}
	return m.Answer + "\x00" + tag + "\x00" + strconv.FormatInt(m.Size, 10)
}

func (c content) encode(b []byte) []byte {
	b = appendBool(appendBool(b, c.exists), c.external)
	b = binary.AppendVarint(b, c.size)
	b = append(b, c.sum[:]...)
	return appendString(b, c.text)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendID(b []byte, id fsutil.FileID) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, id.Dev), id.Ino)
	for _, n := range []int64{id.Size, id.Mtime, id.Ctime} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

// decode returns the record in payload. It is false if that is no record.
func decode(payload string) (record, bool) { return decodeWithout("", 0, payload) }

// decodeWithout returns the record in head, gap bytes that are not known, and tail.
// All that is not known must be of a mutation's text, which is "" then.
func decodeWithout(head string, gap uint64, tail string) (record, bool) {
	in := &decoder{rest: head, gap: gap, tail: tail}
	if gap == 0 {
		in = &decoder{rest: tail}
	}
	r := record{kind: kind(in.byte()), time: in.varint(), seq: in.uvarint()}
	file := in.string()
	switch r.kind {
	case header:
		r.version, r.boot = in.byte(), in.string()
	case begun, answered:
		r.m, r.textSize = in.mutation()
	case checkpoint, edited:
		r.content = in.content()
		r.idKnown, r.id = in.bool(), in.id()
	case done, aborted, seen, toRollBack:
		r.idKnown, r.id = in.bool(), in.id()
	case begunAll:
		in.all(&r, file)
	case endedAll:
		r.ended, r.count = kind(in.byte()), int(in.uvarint())
		r.idKnown, r.id = in.bool(), in.id()
		in.bad = in.bad || r.ended != done && r.ended != aborted && r.ended != toRollBack || r.count < 1 || r.count > mostTogether
	default:
		return record{}, false
	}
	r.m.File = file
	return r, !in.bad && in.gap == 0 && (in.rest == "" || r.version > version)
}

// all reads the mutations of r. A number is not believed before there is something behind it.
func (in *decoder) all(r *record, file string) {
	n := in.uvarint()
	in.bad = in.bad || n < 1 || n > mostTogether
	for i := uint64(0); i < n && !in.bad; i++ {
		one := record{kind: begun, time: r.time, seq: r.seq + i}
		one.m, one.textSize = in.mutation()
		one.m.File = file
		r.all, r.textSize = append(r.all, one), r.textSize+one.textSize
	}
}

func (in *decoder) mutation() (m Mutation, textSize int64) {
	m.Op = Op(in.byte())
	in.bad = in.bad || !m.Op.valid()
	m.At = in.coordinate()
	m.Text, textSize = in.text()
	for _, s := range []*string{&m.Tenant, &m.Key, &m.Note, &m.Idempotency, &m.Digest, &m.Answer} {
		*s = in.string()
	}
	if end := strings.LastIndexByte(m.Answer, 0); end >= 0 {
		m.Size, _ = strconv.ParseInt(m.Answer[end+1:], 10, 64) // what is no number is nobody's size
		m.Answer = m.Answer[:end]
		tag := strings.LastIndexByte(m.Answer, 0)
		m.Answer, m.ETag = m.Answer[:max(tag, 0)], m.Answer[tag+1:]
		if upTo, err := phext.ParseCoordinate(m.ETag); err == nil { // an entity tag has quotes
			m.UpTo, m.ETag = upTo, ""
		}
	}
	return m, textSize
}

func (in *decoder) coordinate() (at phext.Coordinate) {
	for i := range at {
		n := in.uvarint()
		in.bad = in.bad || n > 1<<32-1
		at[i] = uint32(n)
	}
	return at
}

func (in *decoder) content() content {
	c := content{exists: in.bool(), external: in.bool(), size: in.varint()}
	copy(c.sum[:], in.take(uint64(len(c.sum))))
	c.text = in.string()
	return c
}

func (in *decoder) id() fsutil.FileID {
	return fsutil.FileID{Dev: in.uvarint(), Ino: in.uvarint(), Size: in.varint(), Mtime: in.varint(), Ctime: in.varint()}
}

// decoder reads what encode wrote. After an error it reads only zeros.
type decoder struct {
	rest string
	gap  uint64 // bytes between rest and tail
	tail string
	bad  bool
}

func (in *decoder) take(n uint64) string {
	if in.bad || n > uint64(len(in.rest)) {
		in.bad, in.rest = true, ""
		return ""
	}
	s := in.rest[:n]
	in.rest = in.rest[n:]
	return s
}

func (in *decoder) byte() byte {
	if s := in.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (in *decoder) bool() bool { return in.byte() != 0 }

func (in *decoder) string() string { return in.take(in.uvarint()) }

// text is a string that is "" if it has the gap in it, and its size in bytes.
func (in *decoder) text() (text string, size int64) {
	n, known := in.uvarint(), uint64(len(in.rest))
	if in.gap > 0 && n >= known+in.gap && n-known-in.gap <= uint64(len(in.tail)) {
		in.rest, in.gap = in.tail[n-known-in.gap:], 0
		return "", int64(n)
	}
	text = in.take(n)
	return text, int64(len(text))
}

func (in *decoder) uvarint() uint64 {
	head := in.rest[:min(len(in.rest), binary.MaxVarintLen64)]
	v, n := binary.Uvarint([]byte(head))
	return v * in.advance(n)
}

func (in *decoder) varint() int64 {
	head := in.rest[:min(len(in.rest), binary.MaxVarintLen64)]
	v, n := binary.Varint([]byte(head))
	return v * int64(in.advance(n))
}

// advance skips a number of n bytes and returns 1. If there is none, it returns
// 0.
func (in *decoder) advance(n int) uint64 {
	if n <= 0 {
		n = len(in.rest) + 1
	}
	in.take(uint64(n))
	if in.bad {
		return 0
	}
	return 1
}
