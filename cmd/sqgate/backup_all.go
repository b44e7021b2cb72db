package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// allBackups makes a backup of each tenant in one directory, and removes old ones.
type allBackups struct {
	client *apiClient
	keep   int    // backups of a tenant; 0 = all
	config string // the tenants file; "" = none
}

// A backup is named after the tenant, its incarnation if it has one, the time in UTC
// and what it is. Files with other names are not touched.
const backupTime = "20060102T150405Z"

var backupName = regexp.MustCompile(`^(.+?)(?:\.(\d{8}T\d{6}\.\d{9}Z))?\.(\d{8}T\d{6}Z)\.(tar|json)$`)

const (
	// backupMargin is how many bytes of the disk a backup leaves free.
	backupMargin = 256 << 20
	// entryOverhead is more than the headers of a phext and its names in a tar take, in bytes.
	entryOverhead = 8 << 10
	// leftAfter is the age at which an unfinished file is one of a run that was killed.
	leftAfter = 24 * time.Hour
)

// tenantToBackUp is an entry of the list of tenants.
type tenantToBackUp struct {
	ID          string `json:"tenant_id"`
	Incarnation string `json:"incarnation"`
	Bytes       int64  `json:"storage_used_bytes"`
	Phexts      int64  `json:"phexts"`
}

func (t tenantToBackUp) fileName(at string) string {
	if t.Incarnation != "" {
		return t.ID + "." + t.Incarnation + "." + at + ".tar"
	}
	return t.ID + "." + at + ".tar"
}

// owns says whether a file is a backup of this tenant, and not of another one that had
// the same id. Earlier versions did not write the incarnation: their backups are the
// tenant's own if they were made since it has its id.
func (t tenantToBackUp) owns(f backupFile) bool {
	switch {
	case f.ext != "tar" || f.id != t.ID:
		return false
	case f.incarnation != "" || t.Incarnation == "":
		return f.incarnation == t.Incarnation
	}
	return strings.TrimSuffix(f.at, "Z") > t.Incarnation // both begin with the time, in the same form
}

// backupFile is what the name of a backup says.
type backupFile struct{ name, id, incarnation, at, ext string }

// backupFiles are the regular files in a directory that have the name of a backup,
// oldest first.
func backupFiles(dir string) (files []backupFile, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if m := backupName.FindStringSubmatch(e.Name()); m != nil && e.Type().IsRegular() {
			files = append(files, backupFile{m[0], m[1], m[2], m[3], m[4]})
		}
	}
	slices.SortStableFunc(files, func(a, b backupFile) int { return strings.Compare(a.at, b.at) })
	return files, err
}

// run backs up all tenants. A failure does not keep it from the others; the error
// names the tenants that were not backed up.
func (b *allBackups) run(dir string, stderr io.Writer) error {
	if b.keep < 0 {
		return usageError{fmt.Errorf("--keep is %d: 0 (all) or more is wanted", b.keep)}
	}
	list, err := b.tenants()
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // its parent must exist: it may be a disk that is not mounted
	}
	at := time.Now().UTC().Format(backupTime)
	var failed []string
	note := func(what string, err error) {
		if err != nil {
			failed = append(failed, what)
			fmt.Fprintf(stderr, "%s: not backed up: %v\n", what, err)
		}
	}
	for _, t := range list {
		note("tenant "+t.ID, b.backUp(t, filepath.Join(dir, t.fileName(at))))
	}
	if b.config != "" {
		note("the tenants file", b.copyConfig(filepath.Join(dir, "tenants."+at+".json")))
	}
	note("old files", b.lookAround(dir, list))
	if len(failed) > 0 {
		return fmt.Errorf("not everything is backed up in %s: %s", dir, strings.Join(failed, ", "))
	}
	return nil
}

func (b *allBackups) tenants() ([]tenantToBackUp, error) {
	resp, err := b.client.send(http.MethodGet, tenantsPath, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, apiError(resp.Status, text)
	}
	var list struct{ Tenants []tenantToBackUp }
	return list.Tenants, json.Unmarshal(text, &list)
}

// backUp makes the backup of one tenant, and then removes its oldest ones.
func (b *allBackups) backUp(t tenantToBackUp, file string) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(file), &disk); err != nil {
		return &fs.PathError{Op: "statfs", Path: filepath.Dir(file), Err: err}
	}
	need, free := t.Bytes+t.Phexts*entryOverhead+backupMargin, int64(disk.Bavail)*int64(disk.Bsize)
	if need > free {
		return fmt.Errorf("the disk has %d MB free, and %d MB are needed", free>>20, need>>20)
	}
	if err := b.client.download(tenantPath(t.ID)+"/backup", file); err != nil {
		return err
	}
	return b.prune(file, t.owns)
}

func (b *allBackups) copyConfig(file string) error {
	f, err := openWithin(pipePatience, b.config, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("%w (--config names another one, and --config= leaves it out)", err)
	}
	defer f.Close()
	if _, err := fsutil.ReplacePrivateFrom(file, f); err != nil {
		return err
	}
	return b.prune(file, func(f backupFile) bool { return f.id == "tenants" && f.incarnation == "" && f.ext == "json" })
}

// prune removes the oldest of the files that belong together, so that keep are left.
// latest, which was just made, is one of them, whatever the clock says.
func (b *allBackups) prune(latest string, belongs func(backupFile) bool) error {
	dir, name := filepath.Split(latest)
	_ = fsutil.SyncDir(dir) // where a file system cannot do that, it has to be trusted
	if b.keep == 0 {
		return nil
	}
	old, err := backupFiles(dir)
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(f backupFile) bool { return f.name == name || !belongs(f) })
	for _, f := range old[:max(0, len(old)-(b.keep-1))] {
		path := filepath.Join(dir, f.name)
		if err := fsutil.IgnoreMissing(os.Remove(path)); err != nil {
			return err
		}
		fmt.Fprintf(b.client.out, "%s: removed\n", path)
	}
	return nil
}

// lookAround removes what runs that were killed have left, and names the tenants
// whose backups nobody prunes any more.
func (b *allBackups) lookAround(dir string, list []tenantToBackUp) error {
	if err := removeUnfinished(dir); err != nil {
		return err
	}
	files, err := backupFiles(dir)
	if err != nil {
		return err
	}
	var gone []string
	for _, f := range files {
		if f.ext != "tar" || slices.ContainsFunc(list, func(t tenantToBackUp) bool { return t.owns(f) }) {
			continue
		}
		id := f.id
		if slices.ContainsFunc(list, func(t tenantToBackUp) bool { return t.ID == f.id }) {
			id += " (another one that had the id)"
		}
		if !slices.Contains(gone, id) {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		fmt.Fprintf(b.client.out, "%s: has backups of tenants that are archived or gone, which are kept until you remove them: %s\n", dir, strings.Join(gone, ", "))
	}
	return nil
}

// removeUnfinished removes what runs that were killed have left.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fsutil.Temporary) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > leftAfter {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err := fsutil.IgnoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}
