package bucket

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// Counted counts what is asked of a bucket, which is what it costs.
type Counted struct {
	Bucket
	get, put, list, remove, failed, sent, received atomic.Int64
}

// Costs are the requests to a bucket since this process began.
type Costs struct {
	Gets          int64 `json:"get"`
	Puts          int64 `json:"put"`
	Lists         int64 `json:"list"`
	Deletes       int64 `json:"delete"`
	Failed        int64 `json:"failed"` // of all these: without an answer, or refused
	SentBytes     int64 `json:"sent_bytes"`
	ReceivedBytes int64 `json:"received_bytes"`
}

// Costs returns what was counted so far.
func (c *Counted) Costs() Costs {
	return Costs{c.get.Load(), c.put.Load(), c.list.Load(), c.remove.Load(), c.failed.Load(), c.sent.Load(), c.received.Load()}
}

func (c *Counted) count(of *atomic.Int64, err error) {
	of.Add(1)
	for _, answer := range []error{nil, ErrNotFound, ErrNotModified, ErrPreconditionFailed} {
		if errors.Is(err, answer) {
			return
		}
	}
	c.failed.Add(1)
}

// Get is a method of Bucket.
func (c *Counted) Get(ctx context.Context, key, unlessETag string) (Object, error) {
	o, err := c.Bucket.Get(ctx, key, unlessETag)
	c.count(&c.get, err)
	c.received.Add(int64(len(o.Body)))
	return o, err
}

// Open is a method of Bucket, and counts as a Get.
func (c *Counted) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	in, err := c.Bucket.Open(ctx, key)
	c.count(&c.get, err)
	if err != nil {
		return nil, err
	}
	return received{in, &c.received}, nil
}

// received counts the bytes that are read.
type received struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (r received) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	r.bytes.Add(int64(n))
	return n, err
}

// Put is a method of Bucket.
func (c *Counted) Put(ctx context.Context, key string, body []byte, condition Condition) (etag string, err error) {
	etag, err = c.Bucket.Put(ctx, key, body, condition)
	c.count(&c.put, err)
	c.sent.Add(int64(len(body)))
	return etag, err
}

// List is a method of Bucket.
func (c *Counted) List(ctx context.Context, prefix, after string, limit int) (page []Entry, more bool, err error) {
	page, more, err = c.Bucket.List(ctx, prefix, after, limit)
	c.count(&c.list, err)
	return page, more, err
}

// Delete is a method of Bucket.
func (c *Counted) Delete(ctx context.Context, key string) error {
	err := c.Bucket.Delete(ctx, key)
	c.count(&c.remove, err)
	return err
}
