package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The names in the directory of archives. "-" and the fixed form of the time
// keep tenants apart of which one's id begins with the other's.
const (
	archiveStamp  = "20060102T150405.000000000Z"
	archiveSuffix = ".tar.gz"
	partialSuffix = ".partial"
	markerSuffix  = ".deleting"
)

func archiveName(id string, t time.Time) string {
	return id + "-" + t.UTC().Format(archiveStamp) + archiveSuffix
}

// archiveTime is when the archive of this name was made, false if the name is
// not exactly that of an archive of this tenant.
func archiveTime(id, name string) (time.Time, bool) {
	stamp, ok := strings.CutPrefix(strings.TrimSuffix(name, archiveSuffix), id+"-")
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(archiveStamp, stamp)
	return t, err == nil && archiveName(id, t) == name
}

// isPartial says whether a file is one that store had not finished.
func isPartial(id, name string) bool {
	whole, ok := strings.CutSuffix(name, partialSuffix)
	if !ok {
		return false
	}
	_, ok = archiveTime(id, whole)
	return ok || whole == id+markerSuffix
}

// stagingDir is where restore extracts to. It is in dataDir because a file can
// only be moved within its file system, and hidden: a tenant's files are all
// directly in dataDir.
func stagingDir(id, dataDir string) string { return filepath.Join(dataDir, ".restoring-"+id) }

// open opens an archive by a name that can only mean one of this tenant's.
func (v *Store) open(id, archive string) (*os.File, error) {
	if err := checkVaultID(id); err != nil {
		return nil, err
	}
	name := filepath.Base(archive)
	path := filepath.Join(v.dir, name)
	if archive != name && archive != path {
		return nil, badArchive("must name a file directly in %s", v.dir)
	}
	if _, ok := archiveTime(id, name); !ok {
		return nil, badArchive("must be named %s-<time>%s", id, archiveSuffix)
	}
	f, _, err := openRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", name, errNoArchive)
	case errors.Is(err, errNotRegular):
		return nil, badArchive("%s: %v", name, errNotRegular)
	}
	return f, err
}
