package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// deletion is the marker: a removal of files has begun, or is about to, and
// this archive holds them. It is written before the archive gets its name, so
// that there is never a finished archive which the next call does not know of
// and would make a second time. A marker whose archive is not there means that
// nothing was removed yet.
type deletion struct {
	Archive string `json:"archive"` // base name
}

func (v *Store) markerPath(id string) string { return filepath.Join(v.dir, id+markerSuffix) }

// mark writes the marker, in place of an earlier one whose archive does not
// hold all there is.
func (v *Store) mark(id, archive string) error {
	text, err := json.Marshal(deletion{Archive: filepath.Base(archive)})
	if err != nil {
		return err
	}
	aside := v.markerPath(id) + partialSuffix
	err = v.create(aside, func(_ *os.File, w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	v.at("marker written")
	if err == nil {
		err = os.Rename(aside, v.markerPath(id))
	}
	if err != nil {
		return errors.Join(err, removeIfThere(aside))
	}
	v.at("marker in place")
	return syncVaultDir(v.dir)
}

// marked is the archive that the marker tells of, read and proven; nil without
// a marker, or if the archive never got its name. A damaged one is an error
// and not a reason for a new one: it may hold files that are gone.
func (v *Store) marked(id string) (*stored, error) {
	text, err := os.ReadFile(v.markerPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var d deletion
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("marker %s: %w", v.markerPath(id), err)
	}
	s, err := v.proven(id, d.Archive)
	if errors.Is(err, errNoArchive) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("marker %s: %w", v.markerPath(id), err)
	}
	return s, nil
}

// proven is a finished archive, read to its end.
func (v *Store) proven(id, archive string) (*stored, error) {
	f, err := v.open(id, archive)
	if err != nil {
		return nil, err
	}
	m, err := readArchive(f, id, nil)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return &stored{path: f.Name(), files: m.byName()}, nil
}

func (v *Store) unmark(id string) error {
	err := os.Remove(v.markerPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v.at("unmarked")
	return syncVaultDir(v.dir)
}
