package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
	"mirrorborn.us/sqgate/tenants"
)

// The files of a directory may be ahead of its log: with a Lag, and after Init, writes are
// acknowledged that the log does not have yet. A process that ends then leaves them to the
// next one here, which uploads them. Its right to do so is that nobody else has had the
// directory since.

// readAhead finds out whether the files here, where they differ from the log, are what was
// acknowledged last.
func (t *takeOver) readAhead(m mark, o object.Owner) {
	t.behind = m.Ahead
	t.ahead = t.behind && m.Whole && t.wasOurs(m, o)
}

// wasOurs says whether this host is the last that has had the directory, on this disk. If it has
// given it away, nobody else has had it as long as there is no later epoch.
func (t *takeOver) wasOurs(m mark, o object.Owner) bool {
	if m.Epoch > 0 && o.Host == "" && o.Epoch == m.Epoch {
		return true
	}
	return o.Host == t.Name && (o.Incarnation == t.Incarnation || slices.Contains(t.Predecessors, o.Incarnation))
}

// forgetAhead notes that the files here are not to be uploaded, before this host is the owner:
// then nothing tells any more that others have had the directory since, also if this attempt
// fails. Nor may they be served without the bucket then, which would make them ahead. The mark
// may be of another path, from which the files were moved, or to which they may be moved back.
func (t *takeOver) forgetAhead(ctx context.Context, m *mark, o object.Owner) error {
	if t.behind && !t.ahead || m.Epoch > 0 && m.Whole && !t.wasOurs(*m, o) {
		m.Ahead, m.Whole = false, false
		return t.writeMark(*m)
	}
	if !t.stray.Ahead && !t.stray.Whole || t.wasOurs(t.stray, o) {
		return nil
	}
	if t.stray.Of != "" && t.stray.isOld(o) { // what an earlier tenant had is to be set aside, and not removed
		if purged, err := t.dir.IsPurged(ctx, t.stray.Of, t.stray.Epoch); purged || err != nil {
			return err
		}
	}
	t.stray.Ahead, t.stray.Whole = false, false
	return t.writeMark(t.stray)
}

// keepAhead finds what is ahead of the log, and is to be uploaded: all that differs from it.
// known is what there is then. If nothing is here, that is only what was removed: the disk
// may have been lost, which is not to empty the log.
func (t *takeOver) keepAhead(ctx context.Context, state *replica.State) (known map[string]datadir.KnownFile, ahead []string, err error) {
	if !t.ahead {
		return nil, nil, nil
	}
	kept := func(string) bool { return true }
	if len(t.there) == 0 {
		if kept, err = t.removed(ctx); err != nil {
			return nil, nil, err
		}
	}
	known = map[string]datadir.KnownFile{}
	for name := range t.names(state) {
		if !kept(name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		path := filepath.Join(t.d.Path, name)
		now, id, err := t.sumsOf(path)
		if err != nil {
			return nil, nil, err
		}
		known[name] = datadir.KnownFile{ID: id, State: now.FileState}
		if !state.Files[name].Is(now) {
			ahead = append(ahead, name)
		}
	}
	return known, ahead, nil
}

// removed says which files of a directory without any are known to have been removed: all
// of tenants that are archived, and those of which the journal has that as a mutation. That
// a file was found to be missing says nothing.
func (t *takeOver) removed(ctx context.Context) (func(file string) bool, error) {
	if all := t.tenants(); len(all) > 0 && !slices.ContainsFunc(all, func(t *tenants.Tenant) bool { return !t.Archived }) {
		return func(string) bool { return true }, nil
	}
	j, err := t.Journal.Of(t.d.Path)
	if err != nil {
		return nil, err
	}
	last := map[string]string{} // what was done to a file
	_, err = j.History(journal.Query{Context: ctx, Wanted: func(e journal.Event) bool {
		last[e.File] = e.Op
		return false
	}})
	return func(file string) bool { return last[file] == journal.Remove.String() }, err
}

// names are the files of the log, and those here, which have an entry in the state then.
func (t *takeOver) names(state *replica.State) map[string]*replica.File {
	for _, name := range t.there {
		if state.Files[name] == nil {
			state.Files[name] = &replica.File{} // which must not be there
		}
	}
	return state.Files
}

// uploadAhead uploads what is ahead. It has few of the texts in memory at a time. Without a
// Lag it returns when all is in the log.
func (t *takeOver) uploadAhead(ctx context.Context, r *datadir.Replica, ahead []string) error {
	for i, name := range ahead {
		if err := ctx.Err(); err != nil {
			return err
		}
		now, err := journal.ReadState(t.Links, filepath.Join(t.d.Path, name))
		if err != nil {
			return err
		}
		if err := r.Fits(now.Size()); err != nil {
			return err
		}
		m := journal.Mutation{File: name, Op: journal.Replace, Text: now.Text, Note: "ahead of the bucket"}
		if !now.Exists {
			m.Op = journal.Remove
		}
		known := r.Known[name]
		known.State = replica.FileState(now)
		r.Add([]journal.Mutation{m}, known, 0)
		if r.Added() < uploadTogether && i < len(ahead)-1 {
			continue
		}
		if err := r.Uploaded().Wait(); err != nil {
			return err
		}
	}
	return nil
}

// uploadTogether is how many bytes of texts that are ahead go on their way together.
const uploadTogether = 8 << 20

// Without is this host while it serves without the bucket that it was in.
type Without struct {
	tenants func() *tenants.Snapshot
	markDir string
	mu      sync.Mutex
	unnoted map[string]bool // names of the directories whose marks do not say so, or say why not
}

// ServeWithout notes that this host serves without the bucket that it was in: what is
// acknowledged from now on is ahead of it. Where that cannot be noted, the directory is
// refused until it can.
func ServeWithout(markDir string, now func() *tenants.Snapshot, log *slog.Logger) (*Without, error) {
	entries, err := os.ReadDir(markDir)
	if fsutil.IgnoreMissing(err) != nil {
		return nil, err
	}
	w := &Without{tenants: now, markDir: markDir, unnoted: map[string]bool{}}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := w.note(e.Name()); err != nil {
			log.Error("a directory that was in a bucket is not served", slog.String("directory", e.Name()), slog.Any(logkey.Error, err))
			w.unnoted[e.Name()] = true
		}
	}
	return w, nil
}

func (w *Without) note(name string) error {
	path := filepath.Join(w.markDir, name)
	m, err := readMarkFile(path)
	if err == nil && m.Epoch > 0 && !m.Whole {
		err = &halfError{path, m.Of}
	}
	if err != nil || m.Ahead {
		return err
	}
	m.Ahead = true
	return m.write(path)
}

// halfError is a directory of which only a part has come from the bucket: what is missing would
// be taken for what is not there.
type halfError struct {
	mark, of string // of is mark.Of
}

func (e *halfError) Error() string {
	return e.mark + " says that not all phexts of this directory have come from the bucket, so it is not served without: start with --bucket until the log says that the directory is what the bucket has; or, if there is no bucket any more, move that file away, and what is here is served; see bucket.md"
}

// CheckPurge is the error if a tenant may not be purged without the bucket, which has its phexts:
// they would stay there, and come back for whoever has its id next.
func (w *Without) CheckPurge(t *tenants.Tenant) error {
	path := filepath.Join(w.markDir, nameFor(t))
	m, err := readMarkFile(path)
	switch {
	case err != nil:
		return apierror.New(apierror.Conflict, "%v", err)
	case m.Epoch == 0 || m.Of != datadir.OwnerOf(t) || t.SharedDataDir: // of a shared directory, a bucket keeps everything
		return nil
	}
	return apierror.New(apierror.Conflict, "tenant %q is in a bucket, and sqgate serves without it, so a purge would leave its phexts there: start sqgate with --bucket, and purge it then; or, if there is no bucket any more, move %s away, and purge it", t.ID, path)
}

// Refuse is for datadir.Config.
func (w *Without) Refuse(d *datadir.Dir) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unnoted) == 0 {
		return nil
	}
	for _, t := range w.tenants().All() {
		if name := nameFor(t); w.unnoted[name] && d.Sibling(t.DataDir) == d {
			err := w.note(name)
			if half := (*halfError)(nil); errors.As(err, &half) && half.of != datadir.OwnerOf(t) {
				continue // it was another tenant's
			}
			if err != nil {
				return err
			}
			delete(w.unnoted, name)
		}
	}
	return nil
}
