package reader

import (
	"context"
	"encoding/hex"
	"io"
	"runtime"
	"unsafe"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// streams says whether the answer to a call is sent while it is made, since the text of
// its phext and the answer would not fit into memory together.
func streams(v datadir.View, call *rewrite.Call) bool {
	switch call.Op {
	case rewrite.Toc, rewrite.JSONExport, rewrite.Get:
		return v.Phext.Counted()
	}
	return false
}

// whole answers a call for which streams is true.
func (r *Reader) whole(ctx context.Context, v datadir.View, call *rewrite.Call) (Answer, error) {
	p := v.Phext.Phext
	write := func(out phext.TextWriter) { _, _ = v.Phext.WriteTo(out) } // see Answer.Stream
	switch call.Op {
	case rewrite.Toc:
		write = func(out phext.TextWriter) { p.WriteTextmap(out, v.Names.Phext) }
	case rewrite.JSONExport:
		write = func(out phext.TextWriter) { p.WriteJSON(out, v.Names.Phext) }
	}
	return r.stream(ctx, v, func() {}, write)
}

// stream answers with what write writes, which is made twice: for its size and its tag
// first, and to be sent. It counts as long as the view does, which it keeps in memory.
func (r *Reader) stream(ctx context.Context, v datadir.View, release func(), write func(phext.TextWriter)) (Answer, error) {
	turn := fairqueue.FromContext(ctx)
	if err := turn.Take(ctx); err != nil {
		release()
		return Answer{}, err
	}
	sum := &summer{hash: xxh3.New()}
	sum.pause = func() error { return anotherTurn(ctx, turn) }
	write(sum)
	if sum.err != nil {
		release()
		return Answer{}, sum.err
	}
	tag := sum.hash.Sum128().Bytes()
	return Answer{ETag: `"` + hex.EncodeToString(tag[:]) + `"`, Size: sum.size,
		Release: func() { release(); runtime.KeepAlive(v.Phext); runtime.KeepAlive(v.Names) },
		Stream: func(w io.Writer) {
			out := &pieces{w: w, turn: func() error { return turn.Take(ctx) }}
			write(out)
			out.flush()
		},
	}, nil
}

// summer is the size and the checksum of what is written to it.
type summer struct {
	work
	hash *xxh3.Hasher
	size int
}

// perWrite is what a text that is written counts beside its length, as work.
const perWrite = 16

func (s *summer) WriteString(text string) (int, error) { return s.Write(bytesOf(text)) }

func (s *summer) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0 && s.err == nil; {
		n := min(len(rest), piece)
		_, _ = s.hash.Write(rest[:n]) // a hash takes everything
		rest, s.size = rest[n:], s.size+n
		s.did(n + perWrite)
	}
	return len(b), s.err
}

// pieces gathers short texts, and passes long ones on without a copy. The first error
// ends it.
type pieces struct {
	w    io.Writer
	turn func() error // takes one for what is made next: whoever sends gives it back
	buf  []byte
	err  error
}

// piece is how much is gathered, in bytes.
const piece = 64 << 10

func (p *pieces) WriteString(text string) (int, error) { return p.Write(bytesOf(text)) }

func (p *pieces) Write(b []byte) (int, error) {
	if len(p.buf)+len(b) > piece {
		p.flush()
	}
	switch {
	case p.err != nil:
		return 0, p.err
	case len(b) > piece:
		p.send(b)
	default:
		p.buf = append(p.buf, b...)
	}
	return len(b), p.err
}

func (p *pieces) flush() {
	p.send(p.buf)
	p.buf = p.buf[:0]
}

func (p *pieces) send(b []byte) {
	if p.err == nil && len(b) > 0 {
		if _, p.err = p.w.Write(b); p.err == nil {
			p.err = p.turn()
		}
	}
}

// bytesOf is text as bytes, which nobody may change.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }
