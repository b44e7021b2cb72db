package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/tenants"
)

// writer is one attempt to have the bucket agree with a tenants file. The caller has
// locked the registry.
type writer struct {
	*Registry
	wrote  tenants.Portable // what this attempt has written
	unsure bool             // an answer was lost, and what came of it is not known yet
	fresh  bool             // all shards were read since the last write
}

// agree returns what the file is to be. edit is as for Agree.
func (w *writer) agree(ctx context.Context, file *tenants.Document, edit bool) (d *tenants.Document, diff tenants.Difference, err error) {
	for {
		agreed, err := w.agreed()
		if err != nil {
			return nil, diff, err
		}
		d, diff, err = w.merge(file, agreed)
		if err != nil {
			return nil, diff, err
		}
		if edit && len(diff.Refused) > 0 {
			return nil, diff, tenants.ErrMeanwhile
		}
		again, err := w.push(ctx, file, diff)
		if err != nil {
			return nil, diff, err
		}
		if !again {
			return d, diff, nil
		}
	}
}

// agreed is when the file and the bucket were last the same, except that what this
// attempt has written is no change of somebody else.
func (w *writer) agreed() (tenants.Sums, error) {
	if len(w.wrote) == 0 {
		return w.state.Tenants, nil
	}
	agreed, all := maps.Clone(w.state.Tenants), w.all()
	valid, err := w.wrote.OnlyWriters(func(id string) bool { return all[id] != nil })
	if err != nil {
		return nil, err
	}
	for id, raw := range w.wrote {
		if bytes.Equal(all[id], raw) {
			raw = valid[id]
		}
		agreed[id] = tenants.SumOf(raw)
	}
	return agreed, nil
}

// push writes what changed, nil being a tenant that was removed. again means that
// somebody else has written a shard, which has been read. The error is an objectError if
// something belongs into an object that nobody can write before it can be read.
func (w *writer) push(ctx context.Context, file *tenants.Document, diff tenants.Difference) (again bool, err error) {
	all := w.all()
	isNew := func(id string) bool { return all[id] == nil && diff.Changed[id] != nil }
	if !w.fresh && slices.ContainsFunc(slices.Collect(maps.Keys(diff.Changed)), isNew) {
		if again, err := w.refresh(ctx); again || err != nil {
			return again, err
		}
	}
	w.fresh = false
	changed, err := diff.Changed.KeepWriters(all, func(id string) bool { // who is unknown here alone
		return !file.Has(id) && (diff.Held[id] != nil || w.shards[object.TenantShard(id)].err != nil)
	})
	if err != nil {
		return false, err
	}
	// Whoever gets the id of a writer that is gone must not inherit that. refresh has read all
	// objects, since what others did a moment ago counts, too.
	readable := maps.Clone(all)
	for held := range diff.Held {
		for id := range changed {
			if all[id] == nil && bytes.Contains(all[held], []byte(strconv.Quote(id))) {
				return false, apierror.New(apierror.Conflict, "tenant %q in the bucket, which cannot be taken here, may have a writer %q of before: take another id, or add it on another host", held, id)
			}
		}
		delete(readable, held)
	}
	clean, err := readable.OnlyWriters(func(id string) bool { return changed[id] == nil || all[id] != nil })
	if err != nil {
		return false, err
	}
	stages := []tenants.Portable{clean, changed}
	for _, stage := range stages {
		for n, s := range w.shards {
			if _, differs := s.with(n, stage); differs && s.err != nil {
				return false, s.err
			}
		}
	}
	for _, stage := range stages {
		for n := range w.shards {
			next, differs := w.shards[n].with(n, stage)
			if !differs {
				continue
			}
			if again, err := w.put(ctx, n, next); again || err != nil {
				return again, err
			}
		}
	}
	return false, nil
}

// refresh reads all shards that have changed. again means that there are some. The error is
// an objectError if one cannot be read.
func (w *writer) refresh(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, freshWithin)
	defer cancel()
	before := w.shards
	if err = w.unread(); err == nil { // else at once; the next look finds out when it can be read
		err = cmp.Or(first(w.readAll(ctx, func(*shard) bool { return true })), w.unread())
	}
	var object *objectError
	if errors.As(err, &object) {
		return false, &objectError{object.key, fmt.Errorf("%w; no tenant can be added before it can be read, since it may name an earlier one with the same id as a writer", object.err)}
	}
	if err != nil {
		return false, err
	}
	for n, s := range w.shards {
		again = again || s.etag != before[n].etag
	}
	w.fresh = true
	return again, nil
}

// with is what a shard is after changes, of which it takes those of its own tenants.
func (s *shard) with(n int, changes tenants.Portable) (next tenants.Portable, differs bool) {
	next = tenants.Portable{}
	maps.Copy(next, s.ByID)
	for id, raw := range changes {
		if object.TenantShard(id) != n || bytes.Equal(next[id], raw) {
			continue
		}
		differs = true
		if next[id] = raw; raw == nil {
			delete(next, id)
		}
	}
	return next, differs
}

// mostWriters is how many an object remembers. More will not write it between a lost
// answer and the next look.
const mostWriters = 32

// put replaces a shard, and tries until ctx ends. again means that it is not what it is
// to be, since others have written it; it has been read.
func (w *writer) put(ctx context.Context, n int, all tenants.Portable) (again bool, err error) {
	s := &w.shards[n]
	before := s.ByID
	next := object.Tenants{Service: w.state.Service, Revision: s.Revision + 1, Writers: map[string]uint64{}, ByID: all}
	maps.Copy(next.Writers, s.Writers)
	next.Writers[w.name] = next.Revision
	if len(next.Writers) > mostWriters {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(next.Writers)), func(a, b string) int { return cmp.Compare(next.Writers[a], next.Writers[b]) })
		delete(next.Writers, oldest)
	}
	body, err := object.Encode(&next)
	if err != nil {
		return false, err
	}
	condition := bucket.IfMatch(s.etag)
	if s.etag == "" {
		condition = bucket.IfAbsent()
	}
	err = retry(ctx, func() error {
		etag, err := w.Bucket.Put(ctx, shardKey(n), body, condition)
		if err == nil {
			*s = shard{Tenants: next, etag: etag}
		}
		w.unsure = w.unsure || errors.Is(err, bucket.ErrUnknownOutcome)
		return err
	})
	if errors.Is(err, bucket.ErrPreconditionFailed) { // it may have been written all the same
		w.unsure = true
		if err = retry(ctx, func() error { return w.read(ctx, n) }); err == nil {
			err = s.err
		}
	}
	if err != nil {
		return false, err
	}
	w.unsure = false
	if s.Writers[w.name] == next.Revision {
		w.noteWritten(before, all)
	}
	return s.Revision != next.Revision || s.Writers[w.name] != next.Revision, nil
}

// noteWritten notes what is different in a shard that was written.
func (w *writer) noteWritten(before, after tenants.Portable) {
	if w.wrote == nil {
		w.wrote = tenants.Portable{}
	}
	for id := range after {
		if !bytes.Equal(before[id], after[id]) {
			w.wrote[id] = after[id]
		}
	}
	for id := range before {
		if after[id] == nil {
			w.wrote[id] = nil
		}
	}
}

// retry calls a function until it succeeds, fails for good, or ctx ends.
func retry(ctx context.Context, call func() error) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := call()
		if err == nil || !bucket.ShouldRetry(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// callError is an error of Agree with what the operator is told of it.
type callError struct {
	error
	answer *apierror.Error
}

func (e *callError) Unwrap() error { return e.error }

// APIError is what the operator is told.
func (e *callError) APIError() *apierror.Error { return e.answer }

// explain says whether something has been changed.
func (w *writer) explain(err error) error {
	var object *objectError
	switch {
	case errors.As(err, &object) && !w.unsure && len(w.wrote) == 0:
		return &callError{err, apierror.RetryIn(lookAgain, apierror.Unavailable, "nothing was changed, because %v", object)}
	case object != nil:
		return &callError{err, apierror.New(apierror.NotKnown, "it is not known whether the bucket has the change, or a part of it: look at the tenant. %v", object)}
	case w.unsure || len(w.wrote) > 0 && !errors.Is(err, tenants.ErrMeanwhile):
		return &callError{fmt.Errorf("the bucket did not confirm the change: %w", err), apierror.New(apierror.NotKnown,
			"it is not known whether the bucket has the change, or a part of it: look at the tenant, and repeat the call if it has not")}
	case bucket.ShouldRetry(err) || apierror.IsTimeout(err):
		return &callError{fmt.Errorf("the bucket cannot be reached: %w", err), apierror.RetryIn(lookAgain, apierror.Unavailable,
			"nothing was changed, because the bucket cannot be reached")}
	}
	return err
}
