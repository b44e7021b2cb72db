// Package reader answers calls that change nothing, from phexts parsed in
// memory. Such a read makes no file, starts no child and waits for no write:
// while a file is written, readers see it as it was before. It waits only if the
// directory has to be recovered first, and for its turn: the text of an answer is
// made in the turn of ctx, which is not given back, so that the answer can be sent
// in the same one.
//
// If no memory is set aside for reads, SQ answers them, by way of Forward.
package reader

import (
	"context"
	"io"
	"runtime"
	"strings"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/sqclient"
)

// Config is what a Reader is made of.
type Config struct {
	Dirs *datadir.Dirs
	SQ   *sqclient.Client
}

// Reader answers reads. Its methods may be called by many at a time.
type Reader struct{ Config }

// New makes a Reader.
func New(c Config) *Reader { return &Reader{c} }

// Answer is the answer to a read. Release gives its memory back when it was sent.
type Answer struct {
	Text    string
	ETag    string // "" = the answer has none
	Gzip    bool   // Text is compressed
	Release func()
	// Stream writes a large answer, which is not in memory as a text, and ignores errors
	// of the writer. nil = the answer is Text.
	Stream func(w io.Writer)
	Size   int // of what Stream writes, in bytes
}

// Read answers a call. gzip says that the client takes the answer compressed.
func (r *Reader) Read(ctx context.Context, d *datadir.Dir, call *rewrite.Call, gzip bool) (a Answer, err error) {
	if call.Listing != nil {
		return r.listing(ctx, d, call, gzip)
	}
	v, err := d.RecoveredView(ctx, call)
	if err != nil {
		return Answer{}, err
	}
	done, err := d.Use(v)
	if err != nil {
		return Answer{}, err
	}
	defer func() {
		release := a.Release
		if a.Stream == nil {
			done()
			return
		}
		a.Release = func() { release(); done() } // it is made of the view until then
	}()
	kind, kept := renderedKinds[call.Op]
	if !kept { // else others may have to be waited for, which make the same answer
		if err := fairqueue.FromContext(ctx).Take(ctx); err != nil {
			return Answer{}, err
		}
	}
	if err := v.Resolve(call); err != nil {
		return Answer{}, err
	}
	if streams(v, call) {
		return r.whole(ctx, v, call)
	}
	if kept {
		return r.rendered(ctx, d, v, call, kind, gzip)
	}
	switch call.Op {
	case rewrite.Query:
		return r.query(ctx, d, v, call, gzip)
	case rewrite.Delta:
		return r.delta(ctx, d, v, call)
	}
	release, err := admit(ctx, d, answerSize(v, call), v)
	if err != nil {
		return Answer{}, err
	}
	a = Answer{Text: render(v, call), Release: release}
	if call.Op == rewrite.Select && len(a.Text) > sentAtOnce { // of which answerSize is 0
		thing, size, ok := any(v.Phext), v.Phext.Size(), false
		if len(a.Text) <= copied {
			a.Text = strings.Clone(a.Text)
			thing, size = new(byte), int64(len(a.Text))
		}
		if v.Phext.Counted() && len(a.Text) > copied {
			a.Release = func() { runtime.KeepAlive(v.Phext) } // as long as it is there, it counts
		} else if a.Release, ok = Send(ctx, d, call.Recipient, thing, size); !ok {
			return Answer{}, datadir.ErrBusy
		}
	}
	if call.Op != rewrite.Load {
		a.ETag = etag.Paced(a.Text, call.Pace)
	}
	return a, nil
}

// sentAtOnce is the length of a text, in bytes, that net/http copies before it is
// sent. A longer one is a part of its phext until the client has taken it, and may
// keep all of an old phext in memory. One up to copied is copied instead.
const (
	sentAtOnce = 2 << 10
	copied     = 64 << 10
)

// renderedKinds are the answers that are kept beside their phext. Not the
// others: status names the phext as the client does, delta is one client's own,
// and a scroll is in memory already.
var renderedKinds = map[rewrite.Op]cache.Kind{
	rewrite.Toc:        cache.Toc,
	rewrite.JSONExport: cache.JSONExport,
	rewrite.Get:        cache.Get,
	rewrite.ChecksumOf: cache.Checksum,
}

// rendered answers with what is kept of a phext, or is kept from now on.
//
// What is kept is part of --read-memory, together with its phext. While it is
// made or sent it is part of Dirs.Answers, since its phext may leave the cache
// meanwhile: once, however many clients it is sent to.
func (r *Reader) rendered(ctx context.Context, d *datadir.Dir, v datadir.View, call *rewrite.Call, kind cache.Kind, gzip bool) (Answer, error) {
	a, err := r.Dirs.Cache.Answer(call.FilePath(d.Path), v.Phext, v.Names, kind, func() (*cache.Rendered, error) {
		turn := fairqueue.FromContext(ctx)
		if err := turn.Take(ctx); err != nil {
			return nil, err
		}
		defer turn.Give()
		release, err := admit(ctx, d, answerSize(v, call), v)
		if err != nil {
			return nil, err
		}
		defer release()
		text := render(v, call)
		return &cache.Rendered{Text: text, Tag: etag.Paced(text, call.Pace)}, nil
	})
	if err != nil {
		return Answer{}, err
	}
	if gzip = gzip && len(a.Text) >= worthCompressing; gzip {
		plain := a
		a, err = r.Dirs.Cache.Answer(call.FilePath(d.Path), v.Phext, v.Names, kind.Compressed(), func() (*cache.Rendered, error) {
			return r.compress(ctx, d, plain)
		})
		if err != nil {
			return Answer{}, err
		}
	}
	release, ok := Send(ctx, d, call.Recipient, a, int64(len(a.Text)))
	if !ok {
		return Answer{}, datadir.ErrBusy
	}
	return Answer{Text: a.Text, ETag: a.Tag, Gzip: gzip, Release: release}, nil
}

// admit is d.AdmitBeside, which may wait, without the turn.
func admit(ctx context.Context, d *datadir.Dir, bytes int64, v datadir.View) (release func(), err error) {
	if bytes > memlimit.Little {
		defer fairqueue.FromContext(ctx).Suspend()()
	}
	return d.AdmitBeside(bytes, v)
}

// Send is d.Send, in the same way.
func Send(ctx context.Context, d *datadir.Dir, to rewrite.Recipient, thing any, bytes int64) (release func(), ok bool) {
	if bytes > memlimit.Little {
		defer fairqueue.FromContext(ctx).Suspend()()
	}
	return d.Send(to, thing, bytes)
}

// once is the answer that is made for one client alone.
func (r *Reader) once(ctx context.Context, d *datadir.Dir, to rewrite.Recipient, text string, gzip bool) (Answer, error) {
	a := &cache.Rendered{Text: text, Tag: etag.Paced(text, fairqueue.FromContext(ctx).Pace())}
	if gzip = gzip && len(text) >= worthCompressing && len(text) <= mostCompressed; gzip {
		var err error
		if a, err = r.compressFor(ctx, d, to.Group, a); err != nil {
			return Answer{}, err
		}
	}
	release, ok := Send(ctx, d, to, a, int64(len(a.Text)))
	if !ok {
		return Answer{}, datadir.ErrBusy
	}
	return Answer{Text: a.Text, ETag: a.Tag, Gzip: gzip, Release: release}, nil
}
