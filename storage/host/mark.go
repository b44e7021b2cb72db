package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// mark is what this machine remembers of a directory that it had in the bucket. The zero
// mark is that of none.
type mark struct {
	Path  string    `json:"path"`  // of the data directory
	Of    string    `json:"of"`    // as replica.Directory.Of
	Epoch uint64    `json:"epoch"` // of the last ownership; 0 = none
	Since time.Time `json:"since"` // the journal here knows everything from then on
	Ahead bool      `json:"ahead"` // the files here may be ahead of the log
	Whole bool      `json:"whole"` // and all that the log has are here
	// Left are the files here when the directory was handed over, by name. The log had all of
	// them then, so they are no more than old if they are still the same.
	Left map[string]object.FileState `json:"left,omitempty"`
}

func (t *takeOver) markPath() string { return filepath.Join(t.MarkDir, t.dir.Name) }

// readMark is the mark of the tenant whose directory it is, and that of an earlier one with
// the same id: at most one of them is not zero.
func (t *takeOver) readMark() (m, earlier mark, err error) {
	m, err = readMarkFile(t.markPath())
	switch {
	case err != nil:
		return mark{}, mark{}, err
	case m.Path != t.d.Path:
		known, err := t.moved(m)
		if err == nil && known.Epoch == 0 && m.Of == t.dir.Of {
			if t.stray = m; m.Of != "" { // some of its files may have been moved
				t.left = m.Left
			}
		}
		return known, mark{}, err
	case m.Of != t.dir.Of:
		return mark{}, m, nil
	}
	return m, mark{}, nil
}

// moved is the mark of a directory that was at another path of this machine, if what is here is
// just what the journal of that path has seen last, or else the zero mark. Then nothing was
// acknowledged there that is not here, also if it is ahead of the log. Nobody else may have had
// that path since, and nothing of it is left there: a copy may be older than what it is of.
//
// The journal of this path knows nothing from before now.
func (t *takeOver) moved(m mark) (mark, error) {
	if m.Epoch == 0 || m.Of != t.dir.Of || len(t.there) == 0 || t.Journal == nil {
		return mark{}, nil
	}
	if left, err := phextsIn(m.Path); err != nil || len(left) > 0 {
		return mark{}, nil // it is still somebody's
	}
	seen, whole, err := t.seenBefore(m)
	if err != nil {
		t.Logger.Warn("it is not known whether a directory was moved here, so it is taken for another one", slog.String(logkey.DataDir, t.d.Path), slog.String("before", m.Path), slog.Any(logkey.Error, err))
		return mark{}, nil
	}
	if !whole || len(seen) != len(t.there) {
		return mark{}, nil
	}
	for _, name := range t.there {
		now, err := t.Links.Identify(filepath.Join(t.d.Path, name))
		if err != nil {
			return mark{}, err
		}
		if was, ok := seen[name]; !ok || now.Size != was.Size || now.Mtime != was.Mtime { // all else changes with the file system
			return mark{}, nil
		}
	}
	m.Since = time.Now()
	return m, nil
}

var errOthersPath = errors.New("another tenant has had that path since, or it is not known who has")

// seenBefore is what the journal of the path in a mark has seen last, if it is of nobody else.
func (t *takeOver) seenBefore(m mark) (seen map[string]fsutil.FileID, whole bool, err error) {
	j, err := t.Journal.Of(m.Path)
	if err != nil {
		return nil, false, err
	}
	if m.Of != "" { // else the names of the files say whose they are
		if theirs, err := j.IsOnlyOf(m.Of); err != nil || !theirs {
			return nil, false, errors.Join(errOthersPath, err)
		}
	}
	return j.PeekSeen()
}

// readMarkOf is readMark for whoever is about to take the directory over from an owner. If the
// tenant was purged since, and another one without an incarnation is called the same, the
// mark is that of an earlier one.
func (t *takeOver) readMarkOf(ctx context.Context, owner object.Owner) (m, earlier mark, err error) {
	m, earlier, err = t.readMark()
	if err != nil || m.Of == "" || !m.isOld(owner) {
		return m, earlier, err
	}
	purged, err := t.dir.IsPurged(ctx, m.Of, m.Epoch)
	if purged && m.Path != t.d.Path { // what is here may be the later one's
		return mark{}, mark{}, err
	}
	if purged {
		return mark{}, m, err
	}
	return m, earlier, err
}

// ErrMark is a mark that cannot be understood. Its directory is not served: whether what is
// here was acknowledged, and for whom, is not known.
var ErrMark = errors.New("is damaged, so this directory is not served: move that file away, and it is, if its phexts are just what the bucket has; see bucket.md")

func readMarkFile(path string) (m mark, err error) {
	text, err := fsutil.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return mark{}, fmt.Errorf("%s %w (%w)", path, ErrMark, err)
	}
	return m, nil
}

func (t *takeOver) writeMark(m mark) error {
	t.marks.Lock()
	defer t.marks.Unlock()
	if err := fsutil.MakeDir(t.MarkDir, 0o700); err != nil {
		return err
	}
	return m.write(t.markPath())
}

func (m mark) write(path string) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return fsutil.Replace(path, string(text)+"\n", 0o600, true)
}

// editMark changes the mark of an ownership, if it has one: else its take-over was not
// through, or it is over.
func (ds *Directories) editMark(name string, epoch uint64, edit func(*mark)) error {
	ds.marks.Lock()
	defer ds.marks.Unlock()
	path := filepath.Join(ds.MarkDir, name)
	m, err := readMarkFile(path)
	if err != nil || m.Epoch != epoch {
		return err
	}
	edit(&m)
	return m.write(path)
}

// next is the mark of the ownership that follows.
func (m mark) next(t *takeOver, o object.Owner, epoch uint64, now time.Time) mark {
	return mark{Path: t.d.Path, Of: t.dir.Of, Epoch: epoch, Since: m.since(o.Epoch, now), Ahead: m.Ahead}
}

// since is from when on the journal here knows everything that was done to the directory:
// if no other host has had it since this one had, from when it did before. owner is who
// had it last, and now is after the end of that.
func (m mark) since(owner uint64, now time.Time) time.Time {
	switch {
	case owner == 0:
		return time.Time{}
	case owner == m.Epoch:
		return m.Since
	}
	return now
}
