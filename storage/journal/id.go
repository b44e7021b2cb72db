package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// The state directory may be away for a time, with its disk, and phexts are written with
// another journal meanwhile. When it is back, its journals are of long ago, and must repair
// nothing. Disks of data directories may be mounted in each other's place. So a journal has an
// id, and the data directory has that of the journal with which it was written last, as an
// extended attribute. Where the file system has none, nothing of this is noticed. The attribute
// says which directory it is of, since cp -a copies it: that of a copy means nothing.

const idAttribute = "user.sqgate.journal"

// Directories of tenants may get into each other's place when their journals have long been others',
// or before they have any. So a directory that one tenant has alone also says whose it is.
const tenantAttribute = "user.sqgate.tenant"

// attribute is the buffer for one.
type attribute [256]byte

// read is what the directory at a path has, or nothing.
func (a *attribute) read(at, name string) []byte {
	n, err := unix.Getxattr(at, name, a[:])
	if err != nil {
		return nil
	}
	return a[:n]
}

// Attribute is what the directory at a path has, whatever it means, or "". Another directory
// that journals have been used with has another one.
func Attribute(at string) string { return string(new(attribute).read(at, idAttribute)) }

// HasAttribute says whether Attribute is a text. It takes no memory.
func HasAttribute(at, text string) bool {
	var a attribute
	return string(a.read(at, idAttribute)) == text
}

// idAt is the id that the directory at a path has, or "".
func idAt(at string) string { return attributeAt(at, idAttribute) }

// TenantAt is the UniqueID of the tenant whose directory is at a path, as far as the directory says
// that, or "". Those who share one are not said.
func TenantAt(at string) string {
	if t := attributeAt(at, tenantAttribute); t != shared {
		return t
	}
	return ""
}

// SaysNothing says whether the directory at a path was never used, though its file system could say so. The
// clone of the image of an empty disk may else be the same as a disk that was made from it.
func SaysNothing(at string) bool {
	_, err := unix.Getxattr(at, tenantAttribute, nil)
	return errors.Is(err, unix.ENODATA)
}

// shared is in the place of the tenant of a directory that several share. It is no id.
const shared = "-"

// attributeAt is what a directory says that is no copy of another one, or "".
func attributeAt(at, name string) string {
	text, of, _ := strings.Cut(string(new(attribute).read(at, name)), " ")
	if text == "" || of != attributeOf(at) {
		return ""
	}
	return text
}

// attributeOf is which directory a path leads to, as its attribute says it.
func attributeOf(at string) string {
	birth, err := fsutil.BirthOf(at)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprint(fsutil.NodeOf(at).Inode, " ", birth))
}

// setAttributeAt has the directory at a path say something, which is on the disk then, if it can.
func setAttributeAt(at, name, text string) {
	if text == "" || attributeAt(at, name) == text {
		return
	}
	f, err := fsutil.OpenDir(at)
	if err != nil {
		return
	}
	if unix.Fsetxattr(int(f.Fd()), name, []byte(text+" "+attributeOf(at)), 0) == nil {
		_ = f.Sync() // a disk that fails is found out by the writes
	}
	_ = f.Close()
}

// HasWritten says whether the directory at a path was written last with this journal, as far as
// the directory says that.
func (j *Journal) HasWritten(at string) bool {
	n, err := j.cfg.noteOf(j.dir)
	return err == nil && n != nil && n.ID != "" && idAt(at) == n.ID
}

// Misses says whether the directory at a path is not the one that the journal has given its id.
func (j *Journal) Misses(at string) bool {
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil || n.ID == "" || idAt(at) == n.ID {
		return false
	}
	_, err = unix.Getxattr(at, idAttribute, nil)
	return err == nil || errors.Is(err, unix.ENODATA) // else its file system has no attributes
}

// stamp gives the directory at a path the journal's id: the new one, if it is begun anew
// meanwhile. While the journal has no directory, whoever begins it does it.
func (j *Journal) stamp(at string) {
	_, missing := os.Stat(j.dir)
	for id := ""; ; {
		n, err := j.cfg.noteOf(j.dir)
		if err != nil || n == nil {
			return
		}
		setAttributeAt(at, tenantAttribute, n.tenant())
		if missing != nil || n.ID == id {
			return
		}
		id = n.ID
		setAttributeAt(at, idAttribute, id)
	}
}

// Unstamp removes what the directory at a path says of its tenant and its journal.
func Unstamp(at string) error {
	for _, name := range []string{tenantAttribute, idAttribute} {
		if err := unix.Removexattr(at, name); err != nil && err != unix.ENODATA {
			return &os.PathError{Op: "removexattr", Path: at, Err: err}
		}
	}
	return nil
}

// tenant is what the data_dir says of whose it is; "" = nothing.
func (n *ownerNote) tenant() string {
	switch {
	case len(n.Tenants) == 0:
		return ""
	case n.Shared || len(n.Tenants) > 1:
		return shared
	}
	return n.Tenants[0]
}

// Stamp gives the data_dir, to which the path at leads, the journal's id, unless it has one.
func (j *Journal) Stamp(at string) {
	if idAt(at) == "" {
		j.stamp(at)
	}
}

// MakeDataDir makes the data_dir, to which the path at leads, unless it is there. It has the
// journal's id before it has a file: without one, it could get into the place of another
// tenant's, which would see its phexts.
func (j *Journal) MakeDataDir(at string) error {
	if err := fsutil.MakeDir(at, 0o700); err != nil {
		return err
	}
	j.Stamp(at)
	return nil
}

// renewID gives a journal that is begun anew at the same path another id: in its note, which
// is on the disk then, and at the data directory.
func (j *Journal) renewID() error {
	n, err := j.cfg.noteOf(j.dir)
	if n == nil || err != nil {
		return err
	}
	renewed := *n
	renewed.ID = rand.Text()
	if err := j.cfg.writeNote(j.dir, &renewed); err != nil {
		return err
	}
	if err := j.cfg.setNote(j.dir, &renewed); err != nil {
		return err
	}
	j.stamp(j.dataDir)
	return nil
}

// Displaced is the data_dir of others to whom the directory at a path belongs, as far as their
// journal knows it: they have written it last, it is not where it was, and those who have
// dataDir now have never had it. "" = there is none.
func (s *Set) Displaced(at, dataDir string, now Owners) string {
	id, own := idAt(at), filepath.Join(s.cfg.Dir, dirName(dataDir))
	if n, err := s.cfg.noteOf(own); id == "" || err == nil && n != nil && n.ID == id { // as almost always
		return ""
	}
	dir := s.cfg.withID(id)
	if dir == "" || dir == own {
		return ""
	}
	if n, err := s.cfg.noteOf(dir); n == nil || err != nil || slices.ContainsFunc(now.Tenants, n.knows) {
		return ""
	}
	path, err := dataDirOf(dir)
	if err != nil || path == dataDir {
		return ""
	}
	if idAt(path) == id && fsutil.NodeOf(path) != fsutil.NodeOf(at) {
		return "" // what is there has been written with it later
	}
	return path
}

// withID is the directory of the journal that has an id, or "".
func (s *settings) withID(id string) string {
	s.owners.mu.Lock()
	defer s.owners.mu.Unlock()
	if s.readNotesLocked() != nil {
		return ""
	}
	for dir, n := range s.owners.of {
		if n.ID == id {
			return dir
		}
	}
	return ""
}
