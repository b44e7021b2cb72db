package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// Key is a key to S3.
type Key struct {
	ID     string `json:"access_key_id"`
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token,omitempty"`
}

// S3Config is how an S3 bucket is reached.
type S3Config struct {
	Bucket, Prefix string
	Endpoint       string // URL of the server; "" = AWS. Without encryption only if it begins with http://
	Region         string // "" = us-east-1
	Key            *Key
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
}

const awsEndpoint = "https://s3.amazonaws.com"

// The time that a request may take: this long, and a second more for each
// slowest bytes that it sends or gets.
const (
	requestTimeout = 30 * time.Second
	slowest        = 256 << 10
)

type s3 struct {
	client         minio.Core
	bucket, prefix string
}

// NewS3 returns a bucket of a server that speaks S3. It connects to nothing.
func NewS3(c S3Config) (Bucket, error) {
	if c.Endpoint == "" {
		c.Endpoint = awsEndpoint
	}
	if c.Region == "" {
		c.Region = "us-east-1" // without one, the library would ask the server
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("the bucket's endpoint is not http://HOST:PORT or https://HOST:PORT")
	}
	if err := s3utils.CheckValidBucketNameStrict(c.Bucket); err != nil {
		return nil, fmt.Errorf("the bucket's name %q: %w", c.Bucket, err)
	}
	if c.Prefix != "" {
		if err := checkKey(c.Prefix); err != nil {
			return nil, fmt.Errorf("the bucket's prefix: %w", err)
		}
		c.Prefix += "/"
	}
	if len(c.Prefix) > 1000-keyMax {
		return nil, errors.New("the bucket's prefix is too long")
	}
	creds := credentials.NewStaticV4(c.Key.ID, c.Key.Secret, c.Key.Token)
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: c.Region, BucketLookup: lookup(u), Transport: transport(c.Dial),
		// Once only: a second try after a lost answer would be told 412 by the
		// object of the first.
		MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("the bucket's client: %w", err)
	}
	return &s3{*core, c.Bucket, c.Prefix + layout + "/"}, nil
}

// lookup has the bucket in the path, except at AWS, which is giving that up.
func lookup(u *url.URL) minio.BucketLookupType {
	if strings.HasSuffix(u.Hostname(), ".amazonaws.com") {
		return minio.BucketLookupAuto
	}
	return minio.BucketLookupPath
}

// readCredentials reads them at once, so that a mistake is noticed at the start.
func readCredentials(file string) (Key, error) {
	if file != "" {
		if _, err := os.Stat(file); err != nil {
			return Key{}, fmt.Errorf("the bucket's credentials: %w", err)
		}
		// The library's error may quote the file.
		v, err := credentials.NewFileAWSCredentials(file, "default").GetWithContext(nil)
		if err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
			return Key{}, fmt.Errorf("the bucket's credentials: %s has no profile [default] with aws_access_key_id and aws_secret_access_key", file)
		}
		return Key{v.AccessKeyID, v.SecretAccessKey, v.SessionToken}, nil
	}
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if id == "" || secret == "" {
		return Key{}, errors.New("the bucket's credentials: give --bucket-credentials FILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return Key{id, secret, os.Getenv("AWS_SESSION_TOKEN")}, nil
}

func transport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 0 // a large object takes longer; each request has a timeout
	t.MaxIdleConnsPerHost = 32
	t.DisableCompression = true // else the body would not be the one whose checksum the server has
	if dial != nil {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			// The transport goes on dialling when the request has ended.
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, &net.OpError{Op: "dial", Net: network, Err: err} // for explain
			}
			return c, nil
		}
	}
	return t
}

var errTimeout = errors.New("the bucket's server took too long")

// limited bounds a request that sends n bytes. extend gives it the time for n more.
// The cause of the context is errTimeout then.
func limited(ctx context.Context, n int) (limited context.Context, extend func(n int64), cancel func()) {
	ctx, stop := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeFor(int64(n)), func() { stop(errTimeout) })
	return ctx, func(n int64) { timer.Reset(timeFor(n)) }, func() { timer.Stop(); stop(nil) }
}

func timeFor(n int64) time.Duration {
	return requestTimeout + time.Duration(n/slowest)*time.Second
}

func (s *s3) Get(ctx context.Context, key, unlessETag string) (Object, error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	ctx, extend, cancel := limited(ctx, 0)
	defer cancel()
	var o minio.GetObjectOptions
	if unlessETag != "" {
		if err := o.SetMatchETagExcept(unlessETag); err != nil {
			return Object{}, err
		}
	}
	body, info, _, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, o)
	if err != nil {
		return Object{}, s.explain(ctx, key, err, reading)
	}
	defer func() { _ = body.Close() }() // what was read of it is checked by its length
	if info.Size > ObjectMax {
		return Object{}, fmt.Errorf("%s has %d bytes: %w", key, info.Size, ErrTooLarge)
	}
	extend(info.Size)
	text, err := io.ReadAll(io.LimitReader(body, ObjectMax+1))
	if err != nil {
		return Object{}, s.explain(ctx, key, err, reading)
	}
	if int64(len(text)) != info.Size {
		return Object{}, fmt.Errorf("reading %s: %d bytes of %d came: %w", key, len(text), info.Size, ErrTemporary)
	}
	return Object{text, info.ETag}, nil
}

func (s *s3) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	ctx, extend, cancel := limited(ctx, 0)
	explain := func(err error) error { return s.explain(ctx, key, err, reading) }
	body, info, _, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		defer cancel()
		return nil, explain(err)
	}
	extend(info.Size)
	return pieces{opened{body, cancel}, explain}, nil
}

// opened is the body of an answer, whose request ends with it.
type opened struct {
	io.ReadCloser
	cancel func()
}

func (o opened) Close() error {
	defer o.cancel()
	return o.ReadCloser.Close()
}

func (s *s3) Put(ctx context.Context, key string, body []byte, c Condition) (string, error) {
	if err := checkPut(key, body); err != nil {
		return "", err
	}
	ctx, _, cancel := limited(ctx, len(body))
	defer cancel()
	// The library would sign the body in chunks, which fewer servers know. Instead it
	// signs the checksum of the whole, with which the server compares what it gets.
	o := minio.PutObjectOptions{DisableContentSha256: true}
	sum := sha256.Sum256(body)
	switch {
	case c.absent:
		o.SetMatchETagExcept("*")
	case c.etag != "":
		o.SetMatchETag(c.etag)
	}
	info, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(body), int64(len(body)), "", hex.EncodeToString(sum[:]), o)
	if err = s.explain(ctx, key, err, writing); errors.Is(err, ErrNotFound) {
		return "", fmt.Errorf("%s: %w", key, ErrPreconditionFailed) // AWS's answer to If-Match
	}
	return info.ETag, err
}

func (s *s3) List(ctx context.Context, prefix, after string, limit int) (page []Entry, more bool, err error) {
	ctx, _, cancel := limited(ctx, 0)
	defer cancel()
	limit = max(1, min(limit, PageMax))
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, MaxKeys: limit}
	if after != "" {
		o.StartAfter = s.prefix + after
	}
	for info := range s.client.ListObjectsIter(ctx, s.bucket, o) {
		if info.Err != nil {
			return nil, false, s.explain(ctx, prefix, info.Err, reading)
		}
		page = append(page, Entry{strings.TrimPrefix(info.Key, s.prefix), info.Size, info.LastModified})
		if len(page) == limit {
			return page, true, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, false, s.explain(ctx, prefix, err, reading)
	}
	return page, false, nil
}

func (s *s3) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	ctx, _, cancel := limited(ctx, 0)
	defer cancel()
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	if err = s.explain(ctx, key, err, writing); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

type access int

const (
	reading access = iota
	writing
)

// explain turns an error of the library into one that says what has happened.
func (s *s3) explain(ctx context.Context, key string, err error, a access) error {
	if err == nil {
		return nil
	}
	if context.Cause(ctx) == errTimeout {
		err = errTimeout
	}
	// A connection that was never made has carried nothing.
	var dialing *net.OpError
	if errors.As(err, &dialing) && dialing.Op == "dial" {
		return fmt.Errorf("%s: %w: %w", key, ErrTemporary, err)
	}
	unclear := ErrTemporary
	if a == writing {
		unclear = ErrUnknownOutcome
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) || answer.StatusCode == 0 {
		return fmt.Errorf("%s: %w: %w", key, unclear, err)
	}
	switch status := answer.StatusCode; {
	case status == http.StatusNotModified:
		return ErrNotModified
	case status == http.StatusNotFound && answer.Code == minio.NoSuchBucket:
		return fmt.Errorf("there is no bucket %q, or the endpoint is another server's: %w", s.bucket, err)
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", key, ErrPreconditionFailed)
	case status == http.StatusConflict, status == http.StatusTooManyRequests:
		// AWS answers 409 to one of two conditional writes at the same time.
		return fmt.Errorf("%s: %w: %w", key, ErrTemporary, err)
	case status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented, status == 499:
		return fmt.Errorf("%s: %w: %w", key, unclear, err)
	}
	return fmt.Errorf("the bucket refuses %s: %s (%d %s)", key, answer.Message, answer.StatusCode, answer.Code)
}
