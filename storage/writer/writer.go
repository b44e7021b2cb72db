package writer

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// Request is one mutation, as data.
type Request struct {
	ID             string // of the request, for the log
	Tenant         *tenants.Tenant
	Writer         *tenants.Tenant // whose key it has, if that is another tenant; else nil
	Key            *tenants.Key    // that it has; nil = the tenant's own, or a token
	KeyName        string          // of the key, for the history: its id, or else its fingerprint
	Call           *rewrite.Call
	IfMatch        []string // values of If-Match; none = whatever is there
	IdempotencyKey string   // "" = none
}

// Result is what became of a mutation that was acknowledged.
type Result struct {
	Body      []byte  // what the client is told, as SQ says it
	Changed   bool    // false: there was nothing to do, and the rest is not set
	ETag      string  // of the scroll as it is now; "" = there is none
	QuotaUsed float64 // part of the quota, 0 to 1; 0 if there is no quota

	release func() // of the memory of Body; nil = it is not counted
}

// Release gives the memory of the body back, once it is sent.
func (r Result) Release() {
	if r.release != nil {
		r.release()
	}
}

// Config is what a Writer is made of.
type Config struct {
	Dirs   *datadir.Dirs
	SQ     *sqclient.Client
	Ledger *quota.Ledger
	Logger *slog.Logger
}

// Writer commits mutations. Its methods may be called by many at a time.
type Writer struct {
	Config
	files   fileSystem
	timeout time.Duration // for SQ's answers

	mu     sync.Mutex
	queues map[*datadir.Dir]*batchQueue

	notRecorded atomic.Pointer[error] // why the latest write could not be recorded in a journal; nil = it could
}

// NotRecorded tells why the latest write could not be recorded in a journal, as when its
// disk has become read-only; nil = it could.
func (w *Writer) NotRecorded() error {
	if err := w.notRecorded.Load(); err != nil {
		return *err
	}
	return nil
}

// fileSystem is what a commit does to files itself. Tests let each of it fail.
type fileSystem struct {
	rename func(from, to string) error
	remove func(path string) error
	// same says whether the file at path is v, and which file it is; the zero
	// FileID is that of no file.
	same       func(path string, v *cache.Version, pace phext.Pace) (fsutil.FileID, bool, error)
	identify   func(path string) (fsutil.FileID, error)
	replace    func(path string, content io.WriterTo) error // of which one is an error if the file is as it was
	storeNames func(path string, now, next *cache.Version, at phext.Coordinate) error
	space      func(dir string) (diskSpace, error)
}

// New makes a Writer; it starts nothing.
func New(c Config) *Writer {
	return &Writer{
		Config: c, timeout: sqclient.Timeout, queues: map[*datadir.Dir]*batchQueue{},
		files: fileSystem{rename: unix.Rename, replace: replace, remove: os.Remove, same: sameFile(c.Dirs.Links), identify: c.Dirs.Links.Identify, storeNames: storeNames(c.Dirs.Links), space: diskSpaceOf},
	}
}

// Commit makes a mutation. ctx ends the wait for the directory. Once the
// directory is locked, the commit is seen to its end: only then may the next one
// begin.
func (w *Writer) Commit(ctx context.Context, r Request) (Result, error) {
	m := newMutation(r)
	out := w.commit(ctx, m)
	if out.tryAlone {
		m.alone = true
		out = w.commit(ctx, m)
	}
	if out.err != nil {
		m.result.Release()
		m.result.release = nil
	}
	return m.result, out.err
}

// outcome is how a commit ended for each mutation in it.
type outcome struct {
	err      error
	tryAlone bool // nothing has happened: one of several may have kept the others from it
}

// commit is the way of a write, step by step. It leads a batch, or another's
// commit takes m along and tells it the outcome.
func (w *Writer) commit(ctx context.Context, m *mutation) (out outcome) {
	dir := w.Dirs.Of(m.Tenant.DataDir)
	unlock, joined, err := w.lockOrJoin(ctx, dir, m)
	switch {
	case joined:
		return <-m.outcome
	case err != nil:
		return outcome{err: err}
	}
	tx := w.newTransaction(ctx, dir, m, unlock)
	out.err = errNotKnown // what the others are told if this panics
	defer func() {
		tx.endAfterPanic()
		out.err = tx.named(out.err)
		out = tx.awaitUpload(out) // also of an earlier write, on which a refusal may rest
		tx.announce(out)
		tx.tellOthers(out)
	}()

	// Until the quota is reserved, nothing is touched.
	// A step may find that the mutation is answered without a write.
	for _, step := range []func() (answered bool, err error){
		tx.checkRights,
		tx.openJournal,
		tx.answerRepeat,
		tx.readPhext,
		tx.resolveName,
		tx.apply,
	} {
		answered, err := step()
		switch {
		case err != nil:
			tx.unlock()
			return outcome{err: err}
		case answered:
			defer tx.syncing.Wait()
			return tx.endAnswered()
		}
	}
	tx.leadBatch()

	// Until SQ has seen a call, an error leaves the phext as it was. abort takes
	// back what the steps before have done.
	for _, step := range []func() error{
		tx.reserveQuota,
		tx.makeDir,
		tx.recordEdits,
		tx.reserveDiskSpace,
		tx.freezeReaders,
		tx.writeNewName,
		tx.beginJournal,
	} {
		if err := step(); err != nil {
			return tx.abort(err)
		}
	}

	tx.startSync(tx.pending.Sync)
	defer tx.syncing.Wait()
	if err = tx.sendToSQ(); err == nil {
		err = tx.verify()
	}
	tx.releaseChild(err)
	if err != nil {
		if stands, out := tx.resolveFailure(err); !stands {
			return out
		}
	}

	// The file holds the write, so from here on it stands. It is acknowledged when
	// the journal is as durable as its policy wants and, with a bucket, when it is there.
	tx.journalDone()
	tx.addToUpload()
	tx.removeOldFile()
	tx.removeLostName()
	tx.dir.MarkWritten(tx.at)
	tx.publish()
	tx.unlock()
	return tx.awaitSync()
}
