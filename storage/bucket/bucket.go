// Package bucket keeps objects in a place that outlives this machine's disk: an
// S3 bucket, or a directory, which may be a mounted disk. A third implementation
// keeps them in memory and is for tests: it fails as networks and servers do.
//
// Conditional writes are what everything else rests on: of several writers that
// create one object, exactly one succeeds. The package never retries, because only
// the caller knows what a lost answer means to it, and it knows nothing of phexts.
package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Bucket is a store of objects. Its methods may be called concurrently, also by
// other processes and on other machines. What was written is seen by every read
// that begins later. Each call is bounded in time, also without a deadline in ctx.
type Bucket interface {
	// Get returns an object. The error is ErrNotFound if there is none, and
	// ErrNotModified if its ETag is still the given one; "" = none is known.
	Get(ctx context.Context, key, unlessETag string) (Object, error)
	// Open reads an object piece by piece, for whoever need not have it in memory
	// whole. The error, also of a Read, is that of a Get.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// Put writes an object whole or not at all, and returns its ETag. The error is
	// ErrPreconditionFailed if the condition does not hold; nothing is written then.
	Put(ctx context.Context, key string, body []byte, c Condition) (etag string, err error)
	// List returns a page of the objects whose keys begin with prefix and are
	// greater than after, sorted by key as bytes, and whether there may be more. A
	// page has at most limit objects, and never more than PageMax.
	List(ctx context.Context, prefix, after string, limit int) (page []Entry, more bool, err error)
	// Delete removes an object. It is no error if there is none.
	Delete(ctx context.Context, key string) error
}

// Object is what a Get returns.
type Object struct {
	Body []byte
	ETag string // a new one for each new content; says nothing else
}

// Entry is an object in a list.
type Entry struct {
	Key      string
	Size     int64     // bytes
	Modified time.Time // by the clock of the store, which may be wrong
}

// Condition says when a Put may write. The zero Condition is always.
type Condition struct {
	absent bool
	etag   string
}

// IfAbsent is the condition that there is no object.
func IfAbsent() Condition { return Condition{absent: true} }

// IfMatch is the condition that there is an object with this ETag.
func IfMatch(etag string) Condition { return Condition{etag: etag} }

// Limits of all implementations.
const (
	ObjectMax = 256 << 20 // bytes of an object
	PageMax   = 1000      // objects in one page of a list, as in S3
	keyMax    = 800       // bytes of a key; S3 has 1024, with the prefix
	partMax   = 200       // bytes between two slashes; file systems have 255
)

// The errors say what has happened. Any other error means that nothing was
// written, and that it is no use to try again: a key that may not do this, a
// bucket that does not exist.
var (
	ErrNotFound           = errors.New("there is no such object")
	ErrNotModified        = errors.New("the object is the same as before")
	ErrPreconditionFailed = errors.New("the object is not in the state that was asked for")
	ErrTemporary          = errors.New("the bucket cannot do this now, and nothing was written")
	ErrUnknownOutcome     = errors.New("the bucket did not confirm the write, which may have happened or may still happen")
	ErrTooLarge           = errors.New("the object is too large")
	ErrKey                = errors.New("is not a key of an object")
)

// ShouldRetry says whether the same call may succeed later.
func ShouldRetry(err error) bool {
	return errors.Is(err, ErrTemporary) || errors.Is(err, ErrUnknownOutcome)
}

// All lists all objects, page by page. The last pair has an error if a page could
// not be had.
func All(ctx context.Context, b Bucket, prefix, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for more := true; more; {
			var page []Entry
			var err error
			if page, more, err = b.List(ctx, prefix, after, PageMax); err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				after = e.Key
			}
			more = more && len(page) > 0
		}
	}
}

// pieces is an object that is read piece by piece. explain makes an error of reading
// one that says what has happened.
type pieces struct {
	io.ReadCloser
	explain func(error) error
}

func (p pieces) Read(b []byte) (n int, err error) {
	if n, err = p.ReadCloser.Read(b); err != nil && err != io.EOF {
		err = p.explain(err)
	}
	return n, err
}

// checkKey keeps keys to what S3 and every file system can name alike. A part
// that begins with a dot belongs to the directory's own files.
func checkKey(key string) error {
	if key == "" || len(key) > keyMax {
		return fmt.Errorf("%q %w", key, ErrKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || len(part) > partMax || strings.ContainsFunc(part, notInKeys) {
			return fmt.Errorf("%q %w", key, ErrKey)
		}
	}
	return nil
}

func notInKeys(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

// checkPut refuses what no implementation writes.
func checkPut(key string, body []byte) error {
	if len(body) > ObjectMax {
		return fmt.Errorf("%s has %d bytes: %w", key, len(body), ErrTooLarge)
	}
	return checkKey(key)
}

// ErrIgnoresConditions is returned by Probe.
var ErrIgnoresConditions = errors.New("the bucket's server ignores conditions of writes (If-None-Match, If-Match), so two hosts could overwrite each other: use a server that honours them")

// Probe writes an object, and removes it again, to find out whether the bucket
// honours conditions and may be written to. The error is ErrIgnoresConditions if it
// does not honour them.
func Probe(ctx context.Context, b Bucket) (err error) {
	key := "probe/" + rand.Text()
	first, second := []byte("first"), []byte("second")
	etag, err := b.Put(ctx, key, first, IfAbsent())
	if err != nil {
		return fmt.Errorf("writing to the bucket: %w", err)
	}
	defer func() {
		if failed := b.Delete(ctx, key); err == nil && failed != nil {
			err = fmt.Errorf("removing from the bucket: %w", failed)
		}
	}()
	for _, c := range []Condition{IfAbsent(), IfMatch(strings.Repeat("0", len(etag)))} {
		switch _, err := b.Put(ctx, key, second, c); {
		case err == nil:
			return ErrIgnoresConditions
		case !errors.Is(err, ErrPreconditionFailed):
			return fmt.Errorf("writing to the bucket with a condition: %w", err)
		}
	}
	got, err := b.Get(ctx, key, "")
	if err != nil {
		return fmt.Errorf("reading from the bucket: %w", err)
	}
	if !bytes.Equal(got.Body, first) {
		return ErrIgnoresConditions
	}
	if _, err := b.Put(ctx, key, second, IfMatch(got.ETag)); err != nil {
		return fmt.Errorf("replacing an object of the bucket: %w", err)
	}
	return nil
}
