package host

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
)

// Progress is how far Init has come.
type Progress struct {
	Directories int   `json:"directories"` // there are
	Done        int   `json:"done"`        // of them
	Phexts      int   `json:"phexts"`      // that were put there, or were there
	Bytes       int64 `json:"bytes"`       // of their texts
}

// initsAtOnce is how many phexts are in memory at a time.
const initsAtOnce = 2

// Init puts the phexts of this host into a bucket that does not have them, while it serves
// without a bucket. What is written from then on stays here, ahead of the bucket, and the
// next process that is started with the bucket uploads it. Init may be interrupted and
// called again: what is done is done. report is called with each progress, by one
// goroutine at a time. The error is ErrNotInBucket if the bucket has other phexts under
// the name of a directory.
func (ds *Directories) Init(ctx context.Context, dirs *datadir.Dirs, report func(Progress)) (err error) {
	if err := ds.Lock(); err != nil {
		return err
	}
	defer func() { _ = ds.Close() }() // the process keeps nothing in it
	all := ds.all(dirs)
	var mu sync.Mutex
	progress := Progress{Directories: len(all)}
	step := func(change func(*Progress)) {
		mu.Lock()
		defer mu.Unlock()
		change(&progress)
		report(progress)
	}
	step(func(*Progress) {})
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(initsAtOnce)
	for _, d := range all {
		group.Go(func() error {
			if err := ds.initOne(ctx, dirs, d, step); err != nil {
				return fmt.Errorf("%s: %w", d.Path, err)
			}
			step(func(p *Progress) { p.Done++ })
			return nil
		})
	}
	return group.Wait()
}

func (ds *Directories) initOne(ctx context.Context, dirs *datadir.Dirs, d *datadir.Dir, step func(func(*Progress))) error {
	t, err := ds.newTakeOver(d)
	if err != nil || len(t.there) == 0 {
		return err
	}
	owner, etag, err := t.dir.Owner(ctx)
	if err != nil {
		return err
	}
	state, err := t.stateNow(ctx)
	if err != nil {
		return err
	}
	mark, _, err := t.readMark()
	if err != nil {
		return err
	}
	t.readAhead(mark, owner)
	put := func(f object.File) {
		step(func(p *Progress) { p.Phexts, p.Bytes = p.Phexts+1, p.Bytes+f.Size })
	}
	if t.ahead && exist(state) > 0 {
		step(func(p *Progress) { p.Phexts += exist(state) }) // done before
		return nil
	}
	if exist(state) > 0 {
		if err := t.checkSame(state, nil); err != nil {
			return err
		}
	}
	if err := ds.awaitEnd(ctx, owner); err != nil {
		return err
	}
	log, err := t.dir.TakeOver(ctx, owner, etag)
	if err != nil {
		return err
	}
	mark = mark.next(t, owner, log.Epoch(), time.Now())
	mark.Ahead, mark.Whole = true, true
	if err := t.writeMark(mark); err != nil { // from now on what is here counts
		return err
	}
	if exist(state) > 0 {
		step(func(p *Progress) { p.Phexts += exist(state) })
		return nil
	}
	return t.putAll(ctx, dirs, log, put)
}

// exist is how many files there are to be.
func exist(state *replica.State) (n int) {
	for _, f := range state.Files {
		if f.Exists() {
			n++
		}
	}
	return n
}

// putAll writes a checkpoint of the files here, as if the log said so. Each phext is whole
// as it was at some time; all are not of the same time.
func (t *takeOver) putAll(ctx context.Context, dirs *datadir.Dirs, log *replica.Log, put func(object.File)) error {
	files, err := log.PutFiles(ctx, t.there, func(name string) (string, bool, error) {
		unlock, err := dirs.LockExclusive(ctx, t.d.Path)
		if err != nil {
			return "", false, err
		}
		defer unlock()
		now, err := journal.ReadState(t.Links, filepath.Join(t.d.Path, name))
		if err == nil && len(now.Text) > datadir.LargestPhext {
			err = fmt.Errorf("%s has %d bytes, and a phext of more than %d does not fit into a bucket: divide it", name, len(now.Text), datadir.LargestPhext)
		}
		return now.Text, now.Exists, err
	}, put)
	if err != nil {
		return err
	}
	answers, err := t.answers()
	if err != nil {
		return err
	}
	c := object.Checkpoint{Seq: log.End(), Epoch: log.Epoch(), Of: t.dir.Of, Time: time.Now().UnixNano(), Files: files, Answers: answers, Calls: t.callsOf(t.tenants())}
	return log.WriteCheckpoint(ctx, c, func(f object.File) ([]byte, error) {
		return nil, fmt.Errorf("%s was in the bucket a moment ago, and is not any more", f.Name)
	})
}
