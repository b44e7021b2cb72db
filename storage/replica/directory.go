// Package replica keeps a copy of one data directory in a bucket: a log of what was
// committed, and checkpoints. At most one host at a time can append to the log. The
// log itself decides which, with writes that only create: its objects are numbered
// without gaps, and an owner that was deposed finds the next number taken.
//
// The package knows no local files and no SQ, and decides neither who should own a
// directory nor how long a lease lasts.
package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// Errors of a directory in a bucket.
var (
	ErrDeposed    = errors.New("another host has taken the directory over")
	ErrLeaseEnded = errors.New("the lease ended before the bucket confirmed the write, which may stand")
	ErrNoLease    = errors.New("this host has no lease any more")
	ErrReleased   = errors.New("this host has handed the directory over")
	ErrBroken     = errors.New("the log in the bucket is not as sqgate writes it")
)

// Directory is what a bucket has of one data directory. Reads need no lease.
// Whatever the bucket cannot do now is tried again until the context ends, or for Patience.
type Directory struct {
	Bucket bucket.Bucket
	Name   string // of the directory in the bucket, which can be a part of a key
	// Of is the one tenant whose directory it is, by its UniqueID; "" = several share it.
	// For another tenant than before, the directory begins empty.
	Of string
	// Host and Incarnation say who this is. An incarnation is of one process only.
	Host, Incarnation string
	// Holds says whether this host's lease holds, by a clock that goes on while a
	// process is stopped: a timer of a context may be late then. nil = always.
	Holds func() bool
	// Now is this host's clock, for the times in records; nil = time.Now.
	Now func() time.Time
	// Patience is for how long one request is tried again, but not those of a Log; 0 = until the
	// context ends.
	Patience time.Duration
	// Memory is that of all directories of the process; nil = there is this one only.
	Memory *Memory
}

func (d *Directory) key(name string) string { return "dirs/" + d.Name + "/" + name }

func (d *Directory) ownerKey() string { return d.key("owner") }

func (d *Directory) fileKey(h object.Hash) string { return d.key("files/" + h.String()) }

// Sequence numbers have 20 digits, so that keys are in their order.
func (d *Directory) logKey(seq uint64) string { return d.key(fmt.Sprintf("log/%020d", seq)) }

func (d *Directory) checkpointKey(seq uint64) string {
	return d.key(fmt.Sprintf("checkpoint/%020d", seq))
}

// seqOf is the number in a key.
func seqOf(key string) (uint64, error) {
	seq, err := strconv.ParseUint(key[strings.LastIndex(key, "/")+1:], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, ErrBroken)
	}
	return seq, nil
}

func (d *Directory) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// patient is the directory without its Patience.
func (d *Directory) patient() *Directory {
	p := *d
	p.Patience = 0
	return &p
}

func (d *Directory) holds() bool { return d.Holds == nil || d.Holds() }

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// retry calls try, which is for the object at key, until it returns no error that may
// go away, or ctx ends. The pauses grow, and are others for each process, so that hosts
// do not come back all at once. They are a function of what is known of a call, and not
// random, so that a simulation can be repeated.
func (d *Directory) retry(ctx context.Context, key string, try func() error) error {
	begun := time.Now()
	for n, pause := 0, firstPause; ; n, pause = n+1, min(2*pause, longestPause) {
		err := try()
		if err == nil || !bucket.ShouldRetry(err) {
			return err
		}
		if d.Patience > 0 && time.Since(begun)+pause > d.Patience {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause/2 + time.Duration(xxh3.HashString(fmt.Sprint(d.Incarnation, key, n))%uint64(pause/2))):
		}
	}
}

func (d *Directory) get(ctx context.Context, key string) (o bucket.Object, err error) {
	err = d.retry(ctx, key, func() error {
		o, err = d.Bucket.Get(ctx, key, "")
		return err
	})
	return o, err
}

func (d *Directory) put(ctx context.Context, key string, body []byte) error {
	return d.retry(ctx, key, func() error {
		_, err := d.Bucket.Put(ctx, key, body, bucket.Condition{})
		return err
	})
}

// list lists the objects whose keys begin with d.key(prefix). The last pair has an
// error if not all could be listed.
func (d *Directory) list(ctx context.Context, prefix, after string) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		for more := true; more; {
			var page []bucket.Entry
			err := d.retry(ctx, d.key(prefix), func() (err error) {
				page, more, err = d.Bucket.List(ctx, d.key(prefix), after, bucket.PageMax)
				return err
			})
			if err != nil {
				yield(bucket.Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Key
			}
		}
	}
}

// Owner returns who owns the directory, and the ETag that TakeOver needs. Both are
// zero if nobody ever has.
func (d *Directory) Owner(ctx context.Context) (o object.Owner, etag string, err error) {
	found, err := d.get(ctx, d.ownerKey())
	if errors.Is(err, bucket.ErrNotFound) {
		return object.Owner{}, "", nil
	}
	if err == nil {
		o, err = object.Decode[object.Owner](found.Body)
	}
	if err != nil {
		return object.Owner{}, "", fmt.Errorf("the owner of %s: %w", d.Name, err)
	}
	return o, found.ETag, nil
}

// Record is an object of the log.
type Record struct {
	Seq   uint64
	Bytes int64 // of its payload
	object.Log
}

// How much of the log is fetched before it is asked for: so many objects at a time, and of
// each of them so many bytes.
const (
	readAhead = 16
	headAhead = 64 << 10
)

// Read returns the log's objects after one number and up to another. The last pair has
// an error if one cannot be had, is damaged, or cannot stand where it does. One of them is
// in memory at a time, until the next one is asked for.
func (d *Directory) Read(ctx context.Context, after, upTo uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var epoch uint64
		for r, err := range d.objects(ctx, func(yield func(uint64) bool) {
			for next := after + 1; next <= upTo && yield(next); next++ {
			}
		}) {
			if err == nil && (r.Epoch < epoch || epoch > 0 && r.Opens != (r.Epoch > epoch)) {
				err = fmt.Errorf("%w: number %d of %s is of epoch %d, after epoch %d", ErrBroken, r.Seq, d.Name, r.Epoch, epoch)
			}
			epoch = r.Epoch
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// objects returns objects of the log, as Read.
func (d *Directory) objects(ctx context.Context, numbers iter.Seq[uint64]) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		next, more := []uint64{}, true
		read := func() {
			more = d.readTogether(ctx, next, yield)
			next = next[:0]
		}
		for seq := range numbers {
			if next = append(next, seq); len(next) == readAhead {
				if read(); !more {
					return
				}
			}
		}
		read()
	}
}

// readTogether begins to fetch objects of the log together, and returns whether more are
// asked for.
func (d *Directory) readTogether(ctx context.Context, numbers []uint64, yield func(Record, error) bool) (more bool) {
	var begun [readAhead]begunObject
	var errs [readAhead]error
	var wg sync.WaitGroup
	for i, seq := range numbers {
		wg.Go(func() { begun[i], errs[i] = d.beginLog(ctx, seq) })
	}
	wg.Wait()
	more = true
	for i, seq := range numbers {
		if !more {
			begun[i].end()
			continue
		}
		r := Record{Seq: seq, Bytes: begun[i].bytes()}
		release, err := func() {}, errs[i]
		if err == nil {
			r.Log, release, err = decode(ctx, &begun[i], decodeCosts, object.Decode[object.Log])
		}
		if errors.Is(err, bucket.ErrNotFound) {
			err = fmt.Errorf("%w: number %d of %s is missing", ErrBroken, r.Seq, d.Name)
		}
		more = yield(r, err) && err == nil
		release()
	}
	return more
}

// begunObject is an object of which the beginning was fetched.
type begunObject struct {
	d    *Directory
	key  string
	what string // for errors
	head []byte
	rest io.ReadCloser // nil = head is all of it
}

// beginLog begins to fetch an object of the log.
func (d *Directory) beginLog(ctx context.Context, seq uint64) (begunObject, error) {
	return d.begin(ctx, d.logKey(seq), fmt.Sprintf("number %d of the log of %s", seq, d.Name))
}

func (d *Directory) begin(ctx context.Context, key, what string) (b begunObject, err error) {
	b = begunObject{d: d, key: key, what: what}
	err = d.retry(ctx, key, func() error {
		in, err := d.Bucket.Open(ctx, key)
		if err != nil {
			return err
		}
		b.head, err = io.ReadAll(io.LimitReader(in, headAhead))
		if err == nil && len(b.head) == headAhead {
			b.rest = in
			return nil
		}
		_ = in.Close() // it was only read
		return err
	})
	return b, b.explain(err)
}

func (b *begunObject) explain(err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", b.what, err)
	}
	return err
}

// bytes is how many the payload has.
func (b *begunObject) bytes() int64 { return object.PayloadSize(b.head) }

// end is for whoever does not want the rest.
func (b *begunObject) end() {
	if b.rest != nil {
		_ = b.rest.Close() // it was only read
	}
	b.rest, b.head = nil, nil
}

// decode returns the object, when there is memory for it, which is so many times its payload.
// release is for when its texts are not needed any more, and may always be called.
func decode[T any](ctx context.Context, b *begunObject, costs int64, from func([]byte) (T, error)) (v T, release func(), err error) {
	defer b.end()
	release, err = b.d.Memory.decode(ctx, costs*b.bytes())
	if err != nil {
		return v, func() {}, b.explain(err)
	}
	body := b.head
	if b.rest != nil {
		body, err = b.whole(ctx)
	}
	if err == nil {
		v, err = from(body)
	}
	return v, release, b.explain(err)
}

// whole is the whole object. If too much time has gone by for what was begun, say, it is
// fetched again.
func (b *begunObject) whole(ctx context.Context) ([]byte, error) {
	body := bytes.NewBuffer(make([]byte, 0, len(b.head)+bytes.MinRead))
	_, _ = body.Write(b.head) // which takes everything
	if _, err := body.ReadFrom(b.rest); err == nil {
		return body.Bytes(), nil
	}
	o, err := b.d.get(ctx, b.key)
	return o.Body, err
}

// useLog has use look at an object of the log, and keep nothing of it that is large.
func (d *Directory) useLog(ctx context.Context, seq uint64, use func(object.Log) error) error {
	b, err := d.beginLog(ctx, seq)
	if err != nil {
		return err
	}
	l, release, err := decode(ctx, &b, decodeCosts, object.Decode[object.Log])
	defer release()
	if err != nil {
		return err
	}
	return use(l)
}

// readLog returns an object of the log without its groups.
func (d *Directory) readLog(ctx context.Context, seq uint64) (l object.Log, err error) {
	err = d.useLog(ctx, seq, func(all object.Log) error {
		l, l.Groups = all, nil
		return nil
	})
	return l, err
}

// End returns the number of the last object of the log, as lists have it. It takes
// one request, and one more for each 1000 objects since the newest checkpoint.
func (d *Directory) End(ctx context.Context) (uint64, error) {
	checkpoints, err := d.Checkpoints(ctx)
	if err != nil {
		return 0, err
	}
	var end uint64
	if n := len(checkpoints); n > 0 {
		end = checkpoints[n-1].Seq
	}
	return d.endAfter(ctx, end)
}

func (d *Directory) endAfter(ctx context.Context, end uint64) (uint64, error) {
	for e, err := range d.list(ctx, "log/", d.logKey(end)) {
		if err != nil {
			return 0, err
		}
		if end, err = seqOf(e.Key); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// CheckpointEntry is a checkpoint in a list.
type CheckpointEntry struct {
	Seq      uint64
	Modified time.Time // by the clock of the store
}

// Checkpoints lists the checkpoints, oldest first.
func (d *Directory) Checkpoints(ctx context.Context) (all []CheckpointEntry, err error) {
	for e, err := range d.list(ctx, "checkpoint/", "") {
		if err != nil {
			return nil, err
		}
		seq, err := seqOf(e.Key)
		if err != nil {
			return nil, err
		}
		all = append(all, CheckpointEntry{seq, e.Modified})
	}
	return all, nil
}

// useCheckpoint has use look at the checkpoint at a number, and keep nothing of it that is
// large.
func (d *Directory) useCheckpoint(ctx context.Context, seq uint64, use func(object.Checkpoint) error) error {
	b, err := d.begin(ctx, d.checkpointKey(seq), fmt.Sprintf("the checkpoint of %s at %d", d.Name, seq))
	if err != nil {
		return err
	}
	c, release, err := decode(ctx, &b, decodeCheckpointCosts, object.Decode[object.Checkpoint])
	defer release()
	if err == nil && c.Seq != seq {
		err = b.explain(ErrBroken)
	}
	if err != nil {
		return err
	}
	return use(c)
}

// ReadCheckpoint returns the checkpoint at a number without its answers.
func (d *Directory) ReadCheckpoint(ctx context.Context, seq uint64) (c object.Checkpoint, err error) {
	err = d.useCheckpoint(ctx, seq, func(all object.Checkpoint) error {
		c, c.Answers = all, nil
		return nil
	})
	return c, err
}

// copyFile writes the text of a phext that a checkpoint names to f, without having it in
// memory. f is empty.
func (d *Directory) copyFile(ctx context.Context, h object.Hash, f *os.File) (left object.FileState, err error) {
	err = d.retry(ctx, d.fileKey(h), func() (err error) {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			err = f.Truncate(0)
		}
		if err != nil {
			return err
		}
		in, err := d.Bucket.Open(ctx, d.fileKey(h))
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // it was only read
		sum := xxh3.New()
		if err = object.CopyFile(io.MultiWriter(f, sum), in, h); err != nil {
			return err
		}
		size, err := f.Seek(0, io.SeekCurrent)
		left = object.FileState{Exists: true, Size: size, Sum: sum.Sum128().Bytes()}
		return err
	})
	if err != nil {
		return object.FileState{}, fmt.Errorf("a file of %s: %w", d.Name, err)
	}
	return left, nil
}

// ReadFile returns the text of a phext that a checkpoint names.
func (d *Directory) ReadFile(ctx context.Context, f object.File) (string, error) {
	var text strings.Builder
	err := d.retry(ctx, d.fileKey(f.Hash), func() error {
		in, err := d.Bucket.Open(ctx, d.fileKey(f.Hash))
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // it was only read
		text.Reset()
		text.Grow(int(max(0, min(f.Size, object.PayloadMax))))
		return object.CopyFile(&text, in, f.Hash)
	})
	if err != nil {
		return "", fmt.Errorf("a file of %s: %w", d.Name, err)
	}
	return text.String(), nil
}
