package reader

import (
	"compress/gzip"
	"context"
	"io"
	"strings"
	"sync"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
)

// Sizes of texts, in bytes: of the smallest that is worth compressing, of the
// largest that is compressed for one client alone, and of what is compressed in
// one turn, since that is so much slower than other work.
const (
	worthCompressing = 16 << 10
	mostCompressed   = 8 << 20
	compressedAtOnce = fairqueue.Piece / 8
)

// Compresses says whether answers to an operation may be compressed.
func Compresses(op rewrite.Op) bool {
	_, kept := renderedKinds[op]
	return kept || op == rewrite.Query || op == rewrite.List || op == rewrite.Search
}

// compressorMemory is what a compressor takes, in bytes: 1,200,432 were measured with Go 1.26.
const compressorMemory = 1200 << 10

// compressors are used again, because of their memory.
var compressors = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a valid one
	}
	return w
}}

// compressFor is compress for one client alone, who waits for others of its group, without the turn.
func (r *Reader) compressFor(ctx context.Context, d *datadir.Dir, group string, a *cache.Rendered) (*cache.Rendered, error) {
	resume := fairqueue.FromContext(ctx).Suspend()
	leave, err := d.EnterCompression(ctx, group)
	resume()
	if err != nil {
		return nil, err
	}
	defer leave()
	return r.compress(ctx, d, a)
}

// compress makes the compressed form of an answer, turn by turn.
func (r *Reader) compress(ctx context.Context, d *datadir.Dir, a *cache.Rendered) (*cache.Rendered, error) {
	turn := fairqueue.FromContext(ctx)
	release, err := admit(ctx, d, compressorMemory+int64(len(a.Text)), datadir.View{})
	if err != nil {
		return nil, err
	}
	defer release()
	defer turn.Give()
	var out strings.Builder
	w := compressors.Get().(*gzip.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	for rest := a.Text; rest != ""; {
		n := min(len(rest), compressedAtOnce)
		turn.Give()
		if err := turn.Take(ctx); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	err = w.Close()
	return &cache.Rendered{Text: out.String(), Tag: etag.Encoded(a.Tag, "gzip")}, err
}
