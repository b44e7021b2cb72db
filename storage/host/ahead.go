package host

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/replica"
)

// The files of a directory may be ahead of its log: with a Lag, and after Init, writes are
// acknowledged that the log does not have yet. A process that ends then leaves them to the
// next one here, which uploads them. Its right to do so is that nobody else has had the
// directory since.

// readAhead finds out whether the files here, where they differ from the log, are what was
// acknowledged last.
func (t *takeOver) readAhead(m mark, o object.Owner) {
	t.behind = m.Ahead
	t.ahead = t.behind && m.Whole && o.Host == t.Name && (o.Incarnation == t.Incarnation || slices.Contains(t.Predecessors, o.Incarnation))
}

// keepAhead finds what is ahead of the log, which is all that differs from it, and is to be
// uploaded: known is what there is then. If nothing is here, the disk was lost, and that is
// not to empty the log.
func (t *takeOver) keepAhead(ctx context.Context, state *replica.State) (known map[string]datadir.KnownFile, ahead []journal.Mutation, err error) {
	if !t.ahead || len(t.there) == 0 {
		return nil, nil, nil
	}
	known = map[string]datadir.KnownFile{}
	for name := range t.names(state) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		path := filepath.Join(t.d.Path, name)
		now, err := journal.ReadState(t.Links, path)
		if err != nil {
			return nil, nil, err
		}
		id, err := t.Links.Identify(path)
		if err != nil {
			return nil, nil, err
		}
		known[name] = datadir.KnownFile{ID: id, State: replica.FileState(now)}
		if !state.Files[name].Is(replica.SumsOf(now)) {
			m := journal.Mutation{File: name, Op: journal.Replace, Text: now.Text, Note: "ahead of the bucket"}
			if !now.Exists {
				m.Op = journal.Remove
			}
			ahead = append(ahead, m)
		}
	}
	return known, ahead, nil
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

// uploadAhead uploads what is ahead. Without a Lag it returns when that is in the log.
func (t *takeOver) uploadAhead(r *datadir.Replica, ahead []journal.Mutation) error {
	for _, m := range ahead {
		if err := r.Fits(int64(len(m.Text))); err != nil {
			return err
		}
		r.Add([]journal.Mutation{m}, r.Known[m.File], 0)
	}
	if len(ahead) == 0 {
		return nil
	}
	return r.Uploaded().Wait()
}

// ServeWithout notes that this host serves without the bucket that it was in: what is
// acknowledged from now on is ahead of it.
func ServeWithout(markDir string) error {
	entries, err := os.ReadDir(markDir)
	if err != nil {
		return fsutil.IgnoreMissing(err)
	}
	for _, e := range entries {
		path := filepath.Join(markDir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		m, err := readMarkFile(path)
		if err == nil && !m.Ahead {
			m.Ahead = true
			err = m.write(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
