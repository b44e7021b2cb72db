package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
)

// The files of a directory may be ahead of its log: with a Lag, and after Init, writes are
// acknowledged that the log does not have yet. A process that ends then leaves them to the
// next one here, which uploads them. Its right to do so is that nobody else has had the
// directory since.

// aheadMark is the second line of the mark of a directory that may be ahead.
const aheadMark = "ahead"

func (t *takeOver) mark(ahead bool) error { return t.writeMark(t.dir.Name, t.d.Path, ahead) }

func (ds *Directories) writeMark(name, path string, ahead bool) error {
	text := path + "\n"
	if ahead {
		text += aheadMark + "\n"
	}
	if err := fsutil.MakeDir(ds.MarkDir, 0o700); err != nil {
		return err
	}
	return fsutil.Replace(filepath.Join(ds.MarkDir, name), text, 0o600, true)
}

// readMark says whether there is a mark for a name in the bucket, and what it says.
func (ds *Directories) readMark(name string) (there, ahead bool, err error) {
	text, err := os.ReadFile(filepath.Join(ds.MarkDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	return err == nil, strings.HasSuffix(string(text), "\n"+aheadMark+"\n"), err
}

// readAhead finds out whether the files here, where they differ from the log, are what was
// acknowledged last.
func (t *takeOver) readAhead(o object.Owner) (err error) {
	_, t.behind, err = t.readMark(t.dir.Name)
	t.ahead = t.behind && o.Host == t.Name && (o.Incarnation == t.Incarnation || slices.Contains(t.Predecessors, o.Incarnation))
	return err
}

// keep leaves a file as it is, and has it uploaded. That a file is missing counts only if
// others are there: a disk that was lost is not to empty the log.
func (t *takeOver) keep(name string, now journal.State) {
	m := journal.Mutation{File: name, Op: journal.Replace, Text: now.Text, Note: "ahead of the bucket"}
	if !now.Exists {
		m.Op = journal.Remove
	}
	t.kept = append(t.kept, m)
}

// uploadAhead uploads what was kept. Without a Lag it returns when that is in the log.
func (t *takeOver) uploadAhead(r *datadir.Replica, known map[string]datadir.KnownFile) error {
	if len(t.kept) == 0 {
		return nil
	}
	for _, m := range t.kept {
		if err := r.Fits(int64(len(m.Text))); err != nil {
			return err
		}
		r.Add([]journal.Mutation{m}, known[m.File])
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
		text, err := os.ReadFile(path)
		if err == nil && !strings.HasSuffix(string(text), "\n"+aheadMark+"\n") {
			err = fsutil.Replace(path, string(text)+aheadMark+"\n", 0o600, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
