package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// A file that no checkpoint names is removed a day after it was written. Whoever
// names one that is older than half of that writes it again first, so that nothing
// is removed between the look at it and the checkpoint. All ages are by the clock of
// the store, which is the same for all hosts.
const (
	unnamedFor = 24 * time.Hour
	freshFor   = unnamedFor / 2
)

// storeTime is what the clock of the store says: when a small object was written.
func (d *Directory) storeTime(ctx context.Context) (time.Time, error) {
	if err := d.put(ctx, d.key("clock"), nil); err != nil {
		return time.Time{}, err
	}
	for e, err := range d.list(ctx, "clock", "") {
		return e.Modified, err
	}
	return time.Time{}, fmt.Errorf("%w: what was just written to %s is not listed", ErrBroken, d.Name)
}

// WriteCheckpoint writes a checkpoint, and before it the files that it names and that
// are not in the bucket, or not for much longer. text returns the text of one, and may
// be called concurrently. What c says must be what the log says at c.Seq.
func (l *Log) WriteCheckpoint(ctx context.Context, c object.Checkpoint, text func(object.File) ([]byte, error)) error {
	if err := l.housekeeping.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.housekeeping.Release(1)
	var cost int64
	for _, a := range c.Answers {
		cost += answerCost(a)
	}
	answers := func(yield func(object.Answer, error) bool) {
		for _, a := range c.Answers {
			if !yield(a, nil) {
				return
			}
		}
	}
	return l.writeCheckpointLocked(ctx, c, answers, cost, text)
}

// writeCheckpointLocked writes a checkpoint with these answers, which take so many bytes in
// memory.
func (l *Log) writeCheckpointLocked(ctx context.Context, c object.Checkpoint, answers iter.Seq2[object.Answer, error], cost int64, text func(object.File) ([]byte, error)) error {
	if c.Seq < l.purged {
		return nil // what it says is not to be kept any more
	}
	if c.Seq == 0 || c.Seq > l.End() {
		return fmt.Errorf("a checkpoint of %s at %d, and the log ends at %d: %w", l.d.Name, c.Seq, l.End(), ErrBroken)
	}
	body, err := l.d.encodeCheckpoint(ctx, c, answers, cost)
	if err != nil {
		return err
	}
	if err := l.writeFiles(ctx, c.Files, text); err != nil {
		return fmt.Errorf("writing the files of a checkpoint of %s: %w", l.d.Name, err)
	}
	if !l.d.holds() {
		return ErrNoLease
	}
	err = l.d.retry(ctx, l.d.checkpointKey(c.Seq), func() error {
		_, err := l.d.Bucket.Put(ctx, l.d.checkpointKey(c.Seq), body, bucket.IfAbsent())
		return err
	})
	if errors.Is(err, bucket.ErrPreconditionFailed) {
		return nil // it says the same, whoever wrote it
	}
	return err
}

func (d *Directory) encodeCheckpoint(ctx context.Context, c object.Checkpoint, answers iter.Seq2[object.Answer, error], cost int64) ([]byte, error) {
	release, err := d.Memory.encode(ctx, cost)
	if err != nil {
		return nil, err
	}
	defer release()
	c.Answers = nil
	for a, err := range answers {
		if err != nil {
			return nil, err
		}
		c.Answers = append(c.Answers, a)
	}
	return object.Encode(&c)
}

func (l *Log) writeFiles(ctx context.Context, files []object.File, text func(object.File) ([]byte, error)) error {
	now, err := l.d.storeTime(ctx)
	if err != nil {
		return err
	}
	fresh := map[string]bool{}
	for e, err := range l.d.list(ctx, "files/", "") {
		if err != nil {
			return err
		}
		fresh[e.Key] = now.Sub(e.Modified) < freshFor
	}
	var writing errgroup.Group
	writing.SetLimit(filesAtOnce)
	memory := semaphore.NewWeighted(textsAtOnce)
	for _, f := range files {
		if ctx.Err() != nil || fresh[l.d.fileKey(f.Hash)] {
			continue
		}
		fresh[l.d.fileKey(f.Hash)] = true
		size := min(f.Size, textsAtOnce)
		if memory.Acquire(ctx, size) != nil {
			break
		}
		writing.Go(func() error {
			defer memory.Release(size)
			return l.writeFile(ctx, f, text)
		})
	}
	return errors.Join(writing.Wait(), ctx.Err())
}

// How many phexts are uploaded at a time, and bytes of their texts. A larger one is
// uploaded alone.
const (
	filesAtOnce = 8
	textsAtOnce = 64 << 20
)

func (l *Log) writeFile(ctx context.Context, f object.File, text func(object.File) ([]byte, error)) error {
	t, err := text(f)
	if err != nil {
		return err
	}
	body, hash, err := object.EncodeFile(t)
	if err == nil && hash != f.Hash {
		err = fmt.Errorf("%s is not what the checkpoint says", f.Name)
	}
	if err != nil {
		return err
	}
	return l.d.put(ctx, l.d.fileKey(hash), body)
}

// Prune removes what is not needed to go back by history: checkpoints, and what the
// log has up to the oldest one that is kept, but never a record that opens an epoch.
// It also removes files that no checkpoint names, a day after they were written. It
// returns how many objects it has removed, also with an error.
func (l *Log) Prune(ctx context.Context, history time.Duration) (removed int, err error) {
	if err := l.housekeeping.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer l.housekeeping.Release(1)
	now, err := l.d.storeTime(ctx)
	if err != nil {
		return 0, err
	}
	all, err := l.d.Checkpoints(ctx)
	if err != nil {
		return 0, err
	}
	remove := func(key string) error {
		err := l.remove(ctx, key)
		if err == nil {
			removed++
		}
		return err
	}
	base := -1 // the oldest checkpoint that is kept
	for i, c := range all {
		if now.Sub(c.Modified) >= history {
			base = i
		}
	}
	if base >= 0 {
		if err := l.pruneLog(ctx, all[base].Seq, remove); err != nil {
			return removed, err
		}
		for _, c := range all[:base] {
			if err := remove(l.d.checkpointKey(c.Seq)); err != nil {
				return removed, err
			}
		}
		all = all[base:]
	}
	return removed, l.pruneFiles(ctx, all, now, remove)
}

// Purge removes everything that the bucket has of the directory, but for what keeps a
// deposed owner from appending: the records that open an epoch, the owner, and a
// checkpoint of nothing where the log ends. It can be repeated.
func (l *Log) Purge(ctx context.Context) error {
	seq, err := l.Append(ctx, nil) // a number that has no checkpoint yet
	if err != nil {
		return err
	}
	if err := l.housekeeping.Acquire(ctx, 1); err != nil {
		return err
	}
	defer l.housekeeping.Release(1)
	l.purged = seq
	if err := l.notePurged(ctx); err != nil { // before anything is removed
		return err
	}
	body, err := object.Encode(&object.Checkpoint{Seq: seq, Epoch: l.epoch, Of: l.d.Of, Time: l.d.now().UnixNano()})
	if err != nil {
		return err
	}
	if err := l.d.put(ctx, l.d.checkpointKey(seq), body); err != nil {
		return err
	}
	if err := l.pruneLog(ctx, seq, func(key string) error { return l.remove(ctx, key) }); err != nil {
		return err
	}
	for _, prefix := range []string{"checkpoint/", "files/"} {
		for e, err := range l.d.list(ctx, prefix, "") {
			if err == nil && e.Key != l.d.checkpointKey(seq) {
				err = l.remove(ctx, e.Key)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// purgedKey is that of an object that stays, and says in which epoch a tenant was purged. It
// has the form of an owner.
func (d *Directory) purgedKey(of string) string {
	sum := sha256.Sum256([]byte(of))
	return d.key("purged/" + hex.EncodeToString(sum[:]))
}

// notePurged is for other hosts, which may have copies.
func (l *Log) notePurged(ctx context.Context) error {
	if l.d.Of == "" {
		return nil
	}
	body, err := object.Encode(&object.Owner{Epoch: l.epoch})
	if err != nil {
		return err
	}
	return l.d.put(ctx, l.d.purgedKey(l.d.Of), body)
}

// IsPurged says whether a tenant, by its UniqueID, was purged in an epoch of the directory or
// later: one without an incarnation may have come back since.
func (d *Directory) IsPurged(ctx context.Context, of string, epoch uint64) (bool, error) {
	o, err := d.get(ctx, d.purgedKey(of))
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	at, err := object.Decode[object.Owner](o.Body)
	return err == nil && epoch <= at.Epoch, err
}

// remove removes an object. Who was deposed in the meantime must not remove what another
// needs.
func (l *Log) remove(ctx context.Context, key string) error {
	if !l.d.holds() {
		return ErrNoLease
	}
	return l.d.retry(ctx, key, func() error { return l.d.Bucket.Delete(ctx, key) })
}

func (l *Log) pruneLog(ctx context.Context, upTo uint64, remove func(key string) error) error {
	for e, err := range l.d.list(ctx, "log/", l.d.logKey(l.prunedUpTo)) {
		if err != nil {
			return err
		}
		seq, err := seqOf(e.Key)
		if err != nil {
			return err
		}
		if seq > upTo {
			break
		}
		record, err := l.d.readLog(ctx, seq)
		if err == nil && !record.Opens {
			err = remove(e.Key)
		}
		if err != nil {
			return err
		}
		l.prunedUpTo = seq
	}
	return nil
}

func (l *Log) pruneFiles(ctx context.Context, kept []CheckpointEntry, now time.Time, remove func(key string) error) error {
	var old []string
	for e, err := range l.d.list(ctx, "files/", "") {
		if err != nil {
			return err
		}
		if now.Sub(e.Modified) >= unnamedFor {
			old = append(old, e.Key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	named := map[string]bool{}
	for _, entry := range kept {
		c, err := l.d.ReadCheckpoint(ctx, entry.Seq)
		if err != nil {
			return err
		}
		for _, f := range c.Files {
			named[l.d.fileKey(f.Hash)] = true
		}
	}
	for _, key := range old {
		if named[key] {
			continue
		}
		if err := remove(key); err != nil {
			return err
		}
	}
	return nil
}
