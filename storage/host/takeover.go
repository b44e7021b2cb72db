package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
)

// Directories takes data directories over.
type Directories struct {
	*Host
	Tenants func() *tenants.Snapshot
	Journal *journal.Set
	Links   fsutil.Links
	// MarkDir remembers which directories here were in the bucket before.
	MarkDir string
	// History is how long the bucket keeps what a directory was.
	History time.Duration
	// Lag is how far the bucket may be behind what was acknowledged; 0 = not at all.
	Lag time.Duration

	housekeeping housekeeping
	lock         *os.File
}

// ErrNotInBucket is a directory with phexts that was never in this bucket. It is not
// served, so that an empty or a wrong bucket never replaces what is on the disk.
var ErrNotInBucket = errors.New("there are phexts here that the bucket does not know: put them there with `sqgate bucket init`, or name the bucket that they are in")

// TakeOver makes this host the owner of a directory in the bucket, and its files what
// the log there says; only what differs is fetched. A file that is ahead of the log was
// acknowledged to nobody, and goes to the quarantine. The caller has the directory
// locked and recovered, and no child runs. The error is datadir.ErrMoved as long as this
// host has no lease, or another one may have the directory.
func (ds *Directories) TakeOver(ctx context.Context, d *datadir.Dir) (*datadir.Replica, error) {
	lease := ds.current()
	if lease == nil {
		return nil, datadir.ErrMoved
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lease.ctx, cancel)()
	r, err := ds.takeOver(ctx, d, lease)
	if err != nil && !lease.holds() {
		err = errors.Join(replica.ErrNoLease, err)
	}
	if errors.Is(err, replica.ErrDeposed) || errors.Is(err, replica.ErrNoLease) || errors.Is(err, errOwned) {
		ds.Logger.Warn("a directory is not taken over", slog.String(logkey.DataDir, d.Path), slog.Any(logkey.Error, err))
		return nil, datadir.ErrMoved
	}
	return r, err
}

func (ds *Directories) takeOver(ctx context.Context, d *datadir.Dir, lease *lease) (*datadir.Replica, error) {
	name, err := ds.nameOf(d)
	if err != nil {
		return nil, err
	}
	dir := &replica.Directory{Bucket: ds.Bucket, Name: name, Host: ds.Name, Incarnation: ds.Incarnation, Holds: lease.holds}
	owner, etag, err := dir.Owner(ctx)
	if err != nil {
		return nil, err
	}
	t := takeOver{Directories: ds, d: d, dir: dir}
	if t.there, err = phextsIn(d.Path); err != nil {
		return nil, err
	}
	if err := t.checkKnown(ctx, owner); err != nil {
		return nil, err
	}
	if err := ds.awaitEnd(ctx, owner); err != nil {
		return nil, err
	}
	if err := t.readAhead(owner); err != nil {
		return nil, err
	}
	log, err := dir.TakeOver(ctx, owner, etag)
	if err != nil {
		return nil, err
	}
	known, checkpoint, err := t.makeFiles(ctx, log.End())
	if err != nil {
		return nil, err
	}
	uploader := replica.NewUploader(lease.ctx, log)
	one := &kept{log: log, uploader: uploader, lease: lease, path: d.Path, since: ds.clock()}
	one.compacted.Store(checkpoint)
	ds.housekeeping.keep(name, one)
	r := datadir.NewReplica(d, uploader, lease.holds, known)
	if err := t.uploadAhead(r, known); err != nil {
		return nil, err
	}
	if err := t.mark(ds.Lag > 0); err != nil {
		return nil, err
	}
	ds.Logger.Info("a directory was taken over", slog.String(logkey.DataDir, d.Path), slog.Uint64("epoch", log.Epoch()),
		slog.Uint64("position", log.End()), slog.Int("files", len(known)), slog.Int("fetched", t.fetched), slog.Int("ahead", len(t.kept)))
	return r, nil
}

// nameOf is what a directory is called in the bucket: as its tenant or, if tenants share
// it, as its last part, behind "shared.", which no tenant's id begins with.
func (ds *Directories) nameOf(d *datadir.Dir) (name string, err error) {
	names := func(t *tenants.Tenant) string {
		if t.SharedDataDir {
			return "shared." + filepath.Base(t.DataDir)
		}
		return t.ID
	}
	all := ds.Tenants().All()
	for _, t := range all {
		if d.Is(t.DataDir) {
			name = names(t)
		}
	}
	if name == "" {
		return "", datadir.ErrUnnamed
	}
	for _, t := range all {
		if names(t) == name && !d.Is(t.DataDir) {
			return "", fmt.Errorf("%s and %s would have the same name in the bucket: give one another last part", d.Path, t.DataDir)
		}
	}
	return name, nil
}

// phextsIn are the names of the files there that may be phexts.
func phextsIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), phext.Extension) && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// takeOver is one take-over under way.
type takeOver struct {
	*Directories
	d       *datadir.Dir
	dir     *replica.Directory
	there   []string // phexts on the disk
	fetched int      // files that were not what the log says
	behind  bool     // the log may lack what was acknowledged here
	ahead   bool     // and it is still this host's to add that
	kept    []journal.Mutation
}

// checkKnown refuses phexts of which this bucket knows nothing.
func (t *takeOver) checkKnown(ctx context.Context, o object.Owner) error {
	if len(t.there) == 0 {
		return nil
	}
	if marked, _, err := t.readMark(t.dir.Name); err != nil || marked && o.Epoch > 0 {
		return err
	}
	state, err := t.stateNow(ctx)
	if err != nil {
		return err
	}
	return t.checkSame(state) // the state directory was lost, say
}

// stateNow is what the log says now.
func (t *takeOver) stateNow(ctx context.Context) (*replica.State, error) {
	end, err := t.dir.End(ctx)
	if err != nil {
		return nil, err
	}
	return t.dir.StateAt(ctx, end)
}

// checkSame refuses phexts that are not just what the bucket has.
func (t *takeOver) checkSame(state *replica.State) error {
	for _, name := range t.there {
		now, err := journal.ReadState(t.Links, filepath.Join(t.d.Path, name))
		if err != nil {
			return err
		}
		if f := state.Files[name]; f == nil || !f.Is(now) {
			return ErrNotInBucket
		}
	}
	return nil
}

// makeFiles makes the files what the log says at a number, and the answers to repeated
// requests. It returns what the files are, and the number of the checkpoint before.
func (t *takeOver) makeFiles(ctx context.Context, seq uint64) (known map[string]datadir.KnownFile, checkpoint uint64, err error) {
	state, err := t.dir.StateAt(ctx, seq)
	if err != nil {
		return nil, 0, err
	}
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range t.there {
		if state.Files[name] == nil {
			state.Files[name] = &replica.File{} // which must not be there
		}
	}
	known = make(map[string]datadir.KnownFile, len(state.Files))
	for name, f := range state.Files {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if known[name], err = t.makeFile(ctx, j, state, name, f); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	answers := make([]journal.Answer, len(state.Answers))
	for i, a := range state.Answers {
		answers[i] = journal.Answer{Time: time.Unix(0, a.Time), Tenant: a.Tenant, Idempotency: a.Idempotency, Digest: a.Digest, Text: a.Answer}
	}
	if t.ahead {
		return known, state.Checkpoint, nil // the journal has more of them
	}
	return known, state.Checkpoint, j.SetAnswers(answers)
}

func (t *takeOver) makeFile(ctx context.Context, j *journal.Journal, state *replica.State, name string, f *replica.File) (known datadir.KnownFile, err error) {
	path := filepath.Join(t.d.Path, name)
	now, err := journal.ReadState(t.Links, path)
	if err != nil {
		return known, err
	}
	want := now
	if !f.Is(now) && t.ahead && (now.Exists || len(t.there) > 0) {
		t.keep(name, now)
	} else if !f.Is(now) {
		if want, err = state.Content(ctx, name); err != nil {
			return known, err
		}
		if now.Exists && !f.Was(now) {
			aside, err := j.SetAside(name, now)
			if err != nil {
				return known, err
			}
			t.Logger.Warn("a phext here was not what the bucket says, and was set aside",
				slog.String(logkey.DataDir, t.d.Path), slog.String("file", name), slog.String("quarantine", aside), slog.Bool("acknowledged", t.behind))
		}
		t.fetched++
		if _, err := j.Adopt(name, now, want, "as in the bucket"); err != nil {
			return known, err
		}
	}
	known.State = replica.FileState(want)
	known.ID, err = t.Links.Identify(path)
	return known, err
}
