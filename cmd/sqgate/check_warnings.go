package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
)

// inspector looks for what serve accepts, and what gives a secret away or fails at a
// tenant's first write.
type inspector struct {
	o        *options
	who      servingUser
	ownerOf  func(path string, info fs.FileInfo) int // uid; a field, since only root can make files of others
	access   func(path string, mode uint32) error    // a field, since only root can mount
	can      func(test, path string) bool            // the user that serves; a field, since only root can ask that of others
	entered  map[string]bool
	dirs     *datadir.Dirs // to look at
	warnings []string
}

func newInspector(o *options, who servingUser) *inspector {
	return &inspector{o: o, who: who, ownerOf: ownerOf, access: unix.Access, can: who.can}
}

// inspect returns what to warn of.
func (i *inspector) inspect(known *tenants.Snapshot) []string {
	i.tenantsFile()
	i.secret(filepath.Join(i.o.stateDir, adminKeyFile))
	if errors.Is(i.access(i.o.stateDir, unix.W_OK), unix.EROFS) {
		i.warn("the state directory, %s, is on a file system that is mounted read-only: no write is possible, and sqgate cannot be started", i.o.stateDir)
	}
	i.program()
	i.dirs = lookingAt(i.o, func() *tenants.Snapshot { return known })
	for _, t := range known.All() {
		if !t.Archived {
			i.dataDir(t)
		}
	}
	return i.warnings
}

func (i *inspector) warn(format string, args ...any) {
	i.warnings = append(i.warnings, fmt.Sprintf(format, args...))
}

// unreadable is the error if the user that serves cannot read the tenants file: it would
// serve nobody. The package's directory belongs to that user, since it replaces the file.
func (i *inspector) unreadable() error {
	if i.can("-r", i.o.config) {
		return nil
	}
	paths, owner := i.o.config, i.who.chownTo()
	if dir := filepath.Dir(fsutil.Resolve(i.o.config)); !i.can("-x", dir) {
		paths = dir + " " + paths
	}
	return fmt.Errorf("tenants file %s: %s cannot read it, and so serves nobody: chown %s %s && chmod 600 %[1]s", i.o.config, i.server(), owner, paths)
}

// server is whom sqgate serves as.
func (i *inspector) server() string {
	if i.who.unit == "" {
		return "user " + userName(i.who.uid)
	}
	return fmt.Sprintf("user %s, as whom %s runs,", userName(i.who.uid), i.who.unit)
}

// program looks whether the unit finds an SQ.
func (i *inspector) program() {
	if i.who.unit != "" && i.who.noSQ != "" {
		i.warn("%s finds no SQ at %s, and cannot start: `cargo install sq --root /usr/local` puts one into /usr/local/bin", i.who.unit, i.who.noSQ)
	}
}

// tenantsFile looks whether others can read the keys, and whether the file can be
// replaced.
func (i *inspector) tenantsFile() {
	if _, err := os.Stat(i.o.config); err != nil {
		return // it was read a moment ago
	}
	i.secret(i.o.config)
	if dir := filepath.Dir(fsutil.Resolve(i.o.config)); !i.can("-w", dir) {
		i.warn("%s cannot be replaced by %s, who may not write to %s: the management API cannot change tenants", i.o.config, userName(i.who.uid), dir)
	}
}

// secret looks whether others can read a file.
func (i *inspector) secret(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		i.warn("%s has mode %04o, so that others can read the keys in it: chmod 600 %[1]s", path, info.Mode().Perm())
	}
}

func (i *inspector) dataDir(t *tenants.Tenant) {
	warn := func(format string, args ...any) {
		i.warn("tenant %q: data_dir %s %s", t.ID, t.Configured, fmt.Sprintf(format, args...))
	}
	i.places(t, warn)
	i.reachable(t, warn)
	if reason, _, _ := i.dirs.Absence(t.DataDir); reason != "" { // without the right to read marks, there are none
		warn("is missing, and has had phexts (%s): mount its disk, or correct the path; until then calls are answered 503", reason)
		return
	}
	info, err := os.Stat(t.Configured)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !inside(t.Configured, i.o.dataRoot) { // where sqgate makes those of new tenants itself
			warn("is missing: make it, or if it ought to hold phexts, correct the path, or mount its disk")
		}
		return
	case err != nil:
		warn("cannot be looked at: %v", errors.Unwrap(err))
		return
	case !info.IsDir():
		warn("is a file: name a directory")
		return
	}
	mode := info.Mode().Perm()
	if owner := i.ownerOf(t.Configured, info); i.who.uid != 0 && owner != i.who.uid {
		warn("belongs to %s, and sqgate serves as %s: chown -R %s %s", userName(owner), userName(i.who.uid), i.who.chownTo(), t.Configured)
	} else if mode&0o700 != 0o700 {
		warn("has mode %04o, so that its owner cannot read and write it: chmod u+rwx %s", mode, t.Configured)
	} else if n, first := i.othersFiles(t); n > 0 {
		warn("holds phexts of other users, such as %s (%d in all): chown -R %s %s", first, n, i.who.chownTo(), t.Configured)
	}
	if mode&0o022 != 0 {
		warn("has mode %04o, so that others can write into it: chmod go-w %s", mode, t.Configured)
	}
	if errors.Is(i.access(t.Configured, unix.W_OK), unix.EROFS) {
		warn("is on a file system that is mounted read-only")
	}
}

// reachable looks whether the unit lets sqgate see a data directory, get there and write
// to it.
func (i *inspector) reachable(t *tenants.Tenant, warn func(string, ...any)) {
	dir := t.DataDir
	mend := fmt.Sprintf("`systemctl edit %s`, write %s below [Service], and restart it", i.who.unit, cmp.Or(strings.Join(writeSettings(dir), ", "), "ReadWritePaths=-"+dir))
	passesBy := func(above string) bool { return i.who.passesBy(above, dir) }
	closed := slices.DeleteFunc(closedAbove(dir, func(above string) bool { return passesBy(above) || i.enters(above) }), passesBy)
	switch {
	case !i.who.sees(dir):
		warn("is in a home, or another directory that %s does not see, so that every call is answered 503: %s", i.who.unit, mend)
	case len(closed) > 0 && underHome(dir) && i.who.unit != "":
		warn("cannot be reached by %s, who may not enter %s: %s", userName(i.who.uid), strings.Join(closed, " "), mend)
	case len(closed) > 0:
		warn("cannot be reached by %s, who may not enter %s: chmod o+x %[2]s", userName(i.who.uid), strings.Join(closed, " "))
	case i.who.writable != nil && !slices.ContainsFunc(i.who.writable, func(place string) bool { return inside(dir, place) }):
		warn("is outside of what %s may write to, so that every write fails: %s", i.who.unit, mend)
	}
}

// enters says whether the user that serves may enter a directory. It asks once for each,
// since tenants have most of those above their data in common.
func (i *inspector) enters(dir string) bool {
	if i.entered == nil {
		i.entered = map[string]bool{}
	}
	if _, asked := i.entered[dir]; !asked {
		i.entered[dir] = i.can("-x", dir)
	}
	return i.entered[dir]
}

// sees says whether the unit sees a directory.
func (w servingUser) sees(dir string) bool {
	return w.boundAbove(dir) != "" || !slices.ContainsFunc(w.hidden, func(place string) bool { return inside(dir, place) })
}

// boundAbove is the bound directory that dir is, or is in, or "".
func (w servingUser) boundAbove(dir string) string {
	for _, bound := range w.bound {
		if inside(dir, bound) {
			return fsutil.Resolve(bound)
		}
	}
	return ""
}

// passesBy says whether the unit shows dir without the directory above it.
func (w servingUser) passesBy(above, dir string) bool {
	bound := w.boundAbove(dir)
	return bound != "" && above != bound && !inside(above, bound) && slices.ContainsFunc(w.hidden, func(place string) bool { return inside(above, place) })
}

// places compares a data directory with those that no tenant's SQ process may reach.
func (i *inspector) places(t *tenants.Tenant, warn func(string, ...any)) {
	for flag, dir := range map[string]string{"--state-dir": i.o.stateDir, "--archive-dir": i.o.archiveDir} {
		if inside(t.Configured, dir) {
			warn("lies in %s, %s, where sqgate keeps its own files: choose another place", flag, dir)
		}
	}
	if inside(i.o.stateDir, t.Configured) {
		warn("has --state-dir, %s, in it, so that the tenant's SQ process can reach the journal and the management key: choose another place", i.o.stateDir)
	}
	if inside(i.o.config, t.Configured) {
		warn("has the tenants file in it, so that the tenant's SQ process can read everybody's keys: choose another place")
	}
}

// inside says whether a path is dir or below it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(fsutil.Resolve(dir), fsutil.Resolve(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// othersFiles counts the phexts that do not belong to whoever serves, as an SQ that ran
// as root leaves them.
func (i *inspector) othersFiles(t *tenants.Tenant) (n int, first string) {
	if i.who.uid == 0 {
		return 0, ""
	}
	names, err := t.OwnFiles()
	if err != nil {
		return 0, ""
	}
	for _, name := range names {
		path := filepath.Join(t.Configured, name)
		if info, err := os.Stat(path); err == nil && i.ownerOf(path, info) != i.who.uid {
			if n++; n == 1 {
				first = name
			}
		}
	}
	return n, first
}

func ownerOf(_ string, info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return os.Geteuid()
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
