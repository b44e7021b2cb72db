// Package archive keeps the files of deleted tenants, each deletion as one
// compressed tar file, and puts them back.
//
// A tenant's file is removed only after an archive on the disk was read back
// and proven to hold that very content. No finished archive is ever overwritten
// or removed, and no restore overwrites a file. Every call can be killed at any
// moment, and repeating it finishes the work.
//
// The package never decides which files are a tenant's, never starts or stops
// a process, and knows neither HTTP nor the tenants file.
package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// Store is a directory of archives. The caller makes one call at a time for a
// tenant and lets nobody write to the tenant's files meanwhile; a file that
// changes all the same is never removed.
type Store struct {
	// Links says which files of a data directory may be symbolic links. The file
	// that a link leads to is archived, and the link is removed.
	Links fsutil.Links
	// Mark is the path of a file that says which directory has the archives, or "". It
	// should be on another disk.
	Mark string

	dir string
	now func() time.Time

	step  func(name string)         // in tests: called between any two steps
	fault func(io.Writer) io.Writer // in tests: stands before every file that is written
}

// New makes a Store of the archives in dir, which is created with mode 0700
// when it is needed. An archive is named after the tenant and the time of now.
func New(dir string, now func() time.Time) *Store { return &Store{dir: dir, now: now} }

func (s *Store) reached(step string) {
	if s.step != nil {
		s.step(step)
	}
}

// Errors that a caller is told of. They come wrapped, with the name of the file
// or of the archive in front.
var (
	errNoArchive = apierror.New(apierror.NotFound, "no such archive")
	// errDamaged is an archive that does not hold what was put into it.
	errDamaged = apierror.New(apierror.Conflict, "archive is damaged")
	// errNotEmpty is a file in the data directory that is not the archived one.
	// It was not touched.
	errNotEmpty = apierror.New(apierror.Conflict, "data directory holds files that are not in the archive")
	// errChanged is a file that somebody wrote to during Create. It is still there.
	errChanged = apierror.New(apierror.Conflict, "changed while it was archived")
)

// Errors that mean a mistake of the program or of the host.
var (
	errNotBase    = errors.New("not a plain file name")
	errNotRegular = errors.New("not a regular file")
)

// badArchive says what is wrong with the archive that a caller named.
func badArchive(format string, args ...any) error {
	return apierror.New(apierror.BadRequest, `field "archive" `+format, args...)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDamaged, fmt.Errorf(format, args...))
}

// The directory holds, for each tenant ID:
//
//	ID-TIME.tar.gz           a finished archive
//	ID-TIME.tar.gz.partial   an archive that is being written
//	ID.deleting              the marker, see deletion
//	ID.deleting.partial      a marker that is being written
//
// The fixed form of TIME keeps tenants apart when the id of one begins with
// the id of another.
const (
	timeLayout    = "20060102T150405.000000000Z"
	archiveSuffix = ".tar.gz"
	partialSuffix = ".partial"
	markerSuffix  = ".deleting"
)

func archiveName(id string, t time.Time) string {
	return id + "-" + t.UTC().Format(timeLayout) + archiveSuffix
}

// archiveTime is the time in the name of an archive. It is false if the name is
// not exactly that of an archive of this tenant.
func archiveTime(id, name string) (time.Time, bool) {
	text, ok := strings.CutPrefix(strings.TrimSuffix(name, archiveSuffix), id+"-")
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(timeLayout, text)
	return t, err == nil && archiveName(id, t) == name
}

// checkID refuses an id that would make a path out of the directory, or a
// hidden file.
func checkID(id string) error {
	if !isBaseName(id) || strings.HasPrefix(id, ".") {
		return apierror.New(apierror.BadRequest, `field "id" %q cannot be part of a file name`, id)
	}
	return nil
}

func isBaseName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// open opens an archive of tenant id, given by its base name or by the path
// that Create returned. No other name can be opened.
func (s *Store) open(id, archive string) (*os.File, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	name := filepath.Base(archive)
	path := filepath.Join(s.dir, name)
	if archive != name && archive != path {
		return nil, badArchive("must name a file directly in %s", s.dir)
	}
	if _, ok := archiveTime(id, name); !ok {
		return nil, badArchive("must be named %s-<time>%s", id, archiveSuffix)
	}
	if err := s.CheckPresent(); err != nil {
		return nil, err
	}
	f, _, err := openRegular(nil, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", name, errNoArchive)
	case errors.Is(err, errNotRegular):
		return nil, badArchive("%s: %v", name, errNotRegular)
	}
	return f, err
}

// Latest is the path of the newest archive of tenant id, or "" if there is none.
func (s *Store) Latest(id string) (path string, err error) {
	if err := errors.Join(checkID(id), s.CheckPresent()); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(s.dir)
	if fsutil.IgnoreMissing(err) != nil {
		return "", err
	}
	// They are sorted by name, which for one tenant is by time.
	for _, e := range slices.Backward(entries) {
		if _, ok := archiveTime(id, e.Name()); ok && e.Type().IsRegular() {
			return filepath.Join(s.dir, e.Name()), nil
		}
	}
	return "", nil
}

// LatestSince is the newest archive of tenant id if it was made after t, and has files, or
// "". Of the archive, only the beginning is read.
func (s *Store) LatestSince(id string, t time.Time) (path string, err error) {
	path, err = s.Latest(id)
	if path == "" || err != nil {
		return "", err
	}
	if made, _ := archiveTime(id, filepath.Base(path)); !made.After(t) {
		return "", nil
	}
	f, err := s.open(id, path)
	if err != nil {
		return "", err
	}
	zr, err := unzip(bufio.NewReader(f))
	var m *manifest
	if err == nil {
		m, err = readManifest(tar.NewReader(zr), id)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(m.Files) == 0 {
		return "", nil
	}
	return path, nil
}

// removePartial removes what an interrupted call of this tenant left half
// written. Calls for other tenants may be writing at this moment.
func (s *Store) removePartial(id string) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isPartial(id, e.Name()) {
			err = errors.Join(err, remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

func isPartial(id, name string) bool {
	whole, ok := strings.CutSuffix(name, partialSuffix)
	if !ok {
		return false
	}
	_, ok = archiveTime(id, whole)
	return ok || whole == id+markerSuffix
}
