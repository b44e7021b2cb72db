package bucket

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// directory keeps each object in a file, named by its key. Several processes may
// use it at a time, on one machine or over a network file system with flock.
//
// An object is written to a file in tempDir first, and synced. Then it gets its
// name: by link, which fails if there is one, or by rename. Whoever replaces or
// removes an object has the lock of its key.
type directory struct {
	root *os.Root // no name below leads out of it, not even through a link
}

// The directory's own files begin with a dot, which no key does.
const (
	tempDir = ".temp"
	lockDir = ".lock"
)

const (
	lockFiles   = 64          // keys share them, by hash
	abandonedIn = time.Minute // after it, a temporary file without a lock is of a process that died
)

// OpenDirectory returns a bucket in a directory, which must exist: an empty mount
// point is not to be taken for an empty bucket by mistake. It removes what processes
// that died have left behind.
func OpenDirectory(dir string) (Bucket, error) {
	outer, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the bucket's directory: %w", err)
	}
	defer func() { _ = outer.Close() }() // it was only read
	d := &directory{}
	for _, name := range []string{layout, layout + "/" + tempDir, layout + "/" + lockDir} {
		if err := outer.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("the bucket's directory: %w", err)
		}
	}
	if err := syncDir(outer, "."); err != nil {
		return nil, fmt.Errorf("the bucket's directory: %w", err)
	}
	if d.root, err = outer.OpenRoot(layout); err != nil {
		return nil, fmt.Errorf("the bucket's directory: %w", err)
	}
	if err := d.sweep(time.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("the bucket's directory: %w", err), d.root.Close())
	}
	return d, nil
}

func (d *directory) Get(ctx context.Context, key, unlessETag string) (Object, error) {
	if err := cmp.Or(checkKey(key), ctx.Err()); err != nil {
		return Object{}, err
	}
	o, err := d.read(key)
	if err == nil && o.ETag == unlessETag {
		return Object{}, ErrNotModified
	}
	return o, err
}

func (d *directory) read(key string) (Object, error) {
	f, size, err := d.open(key)
	if err != nil {
		return Object{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	body := make([]byte, size)
	if _, err := io.ReadFull(f, body); err != nil {
		return Object{}, failed(err)
	}
	return Object{body, etagOf(body)}, nil
}

func (d *directory) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := cmp.Or(checkKey(key), ctx.Err()); err != nil {
		return nil, err
	}
	f, _, err := d.open(key)
	if err != nil {
		return nil, err
	}
	return pieces{f, failed}, nil
}

// open opens an object, which is never changed: another one takes its name.
func (d *directory) open(key string) (f *os.File, size int64, err error) {
	f, err = d.root.Open(key)
	if notThere(err) {
		return nil, 0, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, 0, failed(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = failed(err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: %w", key, ErrNotFound)
	case info.Size() > ObjectMax:
		err = fmt.Errorf("%s has %d bytes: %w", key, info.Size(), ErrTooLarge)
	default:
		return f, info.Size(), nil
	}
	_ = f.Close() // it was only read
	return nil, 0, err
}

func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// failed is an error before which nothing was written. More rights, or another
// mount, do not come by waiting.
func failed(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("the bucket's directory: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrTemporary, err)
}

// notThere says whether there is no file, or a part of its path is one.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func (d *directory) Put(ctx context.Context, key string, body []byte, c Condition) (string, error) {
	if err := cmp.Or(checkPut(key, body), ctx.Err()); err != nil {
		return "", err
	}
	if err := d.makeParents(path.Dir(key)); err != nil {
		return "", failed(err)
	}
	temp, err := d.writeTemp(body)
	if err != nil {
		return "", failed(err)
	}
	defer temp.discard()
	if c.absent {
		err = d.root.Link(temp.name, key)
		if errors.Is(err, fs.ErrExist) {
			// Whoever is refused may rely on what is there.
			return "", cmp.Or(d.confirm(path.Dir(key)), fmt.Errorf("%s: %w", key, ErrPreconditionFailed))
		}
	} else {
		var unlock func()
		if unlock, err = d.lock(ctx, key); err != nil {
			return "", err
		}
		defer unlock()
		if err := d.check(key, c); err != nil {
			return "", err
		}
		err = d.root.Rename(temp.name, key)
	}
	if err != nil {
		return "", failed(err)
	}
	return etagOf(body), d.confirm(path.Dir(key))
}

func (d *directory) check(key string, c Condition) error {
	if c.etag == "" {
		return nil
	}
	there, err := d.read(key)
	if errors.Is(err, ErrNotFound) || err == nil && there.ETag != c.etag {
		return fmt.Errorf("%s: %w", key, ErrPreconditionFailed)
	}
	return err
}

// confirm makes the names in a directory durable.
func (d *directory) confirm(dir string) error {
	if err := syncDir(d.root, dir); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeParents makes a directory and those above it, durably.
func (d *directory) makeParents(dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := d.root.Stat(dir); err == nil {
		return nil
	}
	if err := d.makeParents(path.Dir(dir)); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(d.root, path.Dir(dir))
}

// tempFile is a file that has no key yet. It is locked as long as somebody writes it.
type tempFile struct {
	*os.File
	root *os.Root
	name string
}

func (d *directory) writeTemp(body []byte) (*tempFile, error) {
	name := tempDir + "/" + rand.Text()
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	t := &tempFile{f, d.root, name}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = f.Write(body)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.discard()
		return nil, err
	}
	return t, nil
}

// discard removes the temporary name, if the file still has it.
func (t *tempFile) discard() {
	_ = t.root.Remove(t.name) // sweep removes what stays
	_ = t.Close()             // it is synced, or not wanted
}

// sweep removes temporary files of processes that died.
func (d *directory) sweep(now time.Time) error {
	entries, err := d.list(tempDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := d.root.Open(tempDir + "/" + e.Name())
		if err != nil {
			continue // removed in the meantime
		}
		info, err := f.Stat()
		if err == nil && now.Sub(info.ModTime()) > abandonedIn && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = d.root.Remove(tempDir + "/" + e.Name())
		}
		if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lock waits for the lock of a key. The kernel releases it if the process dies.
func (d *directory) lock(ctx context.Context, key string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	f, err := d.root.OpenFile(fmt.Sprintf("%s/%02d", lockDir, h.Sum32()%lockFiles), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failed(err)
	}
	// flock itself cannot be interrupted, so the lock is tried again and again.
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { _ = f.Close() }, nil // which unlocks
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil, errors.Join(failed(err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: %w", ErrTemporary, ctx.Err()), f.Close())
		case <-time.After(pause):
		}
	}
}

func (d *directory) Delete(ctx context.Context, key string) error {
	if err := cmp.Or(checkKey(key), ctx.Err()); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if info, err := d.root.Stat(key); notThere(err) || err == nil && info.IsDir() {
		return nil
	}
	if err := d.root.Remove(key); err != nil && !notThere(err) {
		return failed(err)
	}
	return d.confirm(path.Dir(key))
}

func (d *directory) List(ctx context.Context, prefix, after string, limit int) (page []Entry, more bool, err error) {
	w := walk{directory: d, ctx: ctx, prefix: prefix, after: after, limit: max(1, min(limit, PageMax))}
	err = w.dir("")
	if errors.Is(err, fs.SkipAll) {
		return w.page, true, nil
	}
	if err != nil {
		return nil, false, failed(err)
	}
	return w.page, false, nil
}

// walk collects a page of a list. Directories are looked into in the order of
// their keys, and only those that can have objects of the page.
type walk struct {
	*directory
	ctx           context.Context
	prefix, after string
	limit         int
	page          []Entry
}

// dir walks a directory; its name is "" or ends with a slash.
func (w *walk) dir(name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := w.list(cmp.Or(strings.TrimSuffix(name, "/"), "."))
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(keyOf(a), keyOf(b)) })
	for _, e := range entries {
		key := name + keyOf(e)
		switch {
		case e.Name()[0] == '.':
		case e.IsDir():
			possible := strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)
			if possible && (key > w.after || strings.HasPrefix(w.after, key)) {
				err = w.dir(key)
			}
		case e.Type().IsRegular() && strings.HasPrefix(key, w.prefix) && key > w.after:
			err = w.add(key, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds an object to the page; fs.SkipAll says that there was no room for it.
func (w *walk) add(key string, e fs.DirEntry) error {
	if len(w.page) == w.limit {
		return fs.SkipAll
	}
	info, err := e.Info()
	if notThere(err) {
		return nil // removed in the meantime
	}
	if err == nil {
		w.page = append(w.page, Entry{key, info.Size(), info.ModTime()})
	}
	return err
}

func keyOf(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

func (d *directory) list(dir string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}
