package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// inspector looks for what serve accepts, and what gives a secret away or fails at a
// tenant's first write.
type inspector struct {
	o        *options
	ownerOf  func(path string, info fs.FileInfo) int // uid; a field, since only root can make files of others
	access   func(path string, mode uint32) error    // a field, since only root can mount
	owner    int                                     // of the tenants file, and so the user that serves
	warnings []string
}

// inspect returns what to warn of.
func inspect(o *options, known *tenants.Snapshot) []string {
	i := &inspector{o: o, ownerOf: ownerOf, access: unix.Access}
	return i.inspect(known)
}

func (i *inspector) inspect(known *tenants.Snapshot) []string {
	i.tenantsFile()
	i.secret(filepath.Join(i.o.stateDir, adminKeyFile))
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

// tenantsFile looks whether others can read the keys, and whether the service can read
// and replace the file. The package's directory belongs to the service.
func (i *inspector) tenantsFile() {
	info, err := os.Stat(i.o.config)
	if err != nil {
		return // it was read a moment ago
	}
	i.secret(i.o.config)
	i.owner = i.ownerOf(i.o.config, info)
	dir := filepath.Dir(fsutil.Resolve(i.o.config))
	above, err := os.Stat(dir)
	if err != nil {
		return
	}
	switch owner := i.ownerOf(dir, above); {
	case owner != i.owner && owner != 0:
		i.warn("%s belongs to %s, and its directory to %s: if that is whom the service runs as, it cannot read the file: chown %[3]s %[1]s", i.o.config, userName(i.owner), userName(owner))
	case owner != i.owner && above.Mode().Perm()&0o022 == 0:
		i.warn("%s cannot be replaced by %s, because %s belongs to %s: the management API cannot change tenants", i.o.config, userName(i.owner), dir, userName(owner))
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
		i.warn("tenant %q: data_dir %s %s", t.ID, t.DataDir, fmt.Sprintf(format, args...))
	}
	i.places(t, warn)
	info, err := os.Stat(t.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		warn("is missing: it is made at the first write; if it ought to hold phexts, correct the path, or mount its disk")
		return
	case err != nil:
		warn("cannot be looked at: %v", errors.Unwrap(err))
		return
	case !info.IsDir():
		warn("is a file: name a directory")
		return
	}
	mode := info.Mode().Perm()
	if owner := i.ownerOf(t.DataDir, info); i.owner != 0 && owner != i.owner {
		warn("belongs to %s, and the tenants file to %s, as whom sqgate serves: chown -R %[2]s %[3]s", userName(owner), userName(i.owner), t.DataDir)
	} else if mode&0o700 != 0o700 {
		warn("has mode %04o, so that its owner cannot read and write it: chmod u+rwx %s", mode, t.DataDir)
	} else if n, first := i.othersFiles(t); n > 0 {
		warn("holds phexts of other users, such as %s (%d in all): chown -R %s %s", first, n, userName(i.owner), t.DataDir)
	}
	if mode&0o022 != 0 {
		warn("has mode %04o, so that others can write into it: chmod go-w %s", mode, t.DataDir)
	}
	if errors.Is(i.access(t.DataDir, unix.W_OK), unix.EROFS) {
		warn("is on a file system that is mounted read-only")
	}
}

// places compares a data directory with those that no tenant's SQ process may reach.
func (i *inspector) places(t *tenants.Tenant, warn func(string, ...any)) {
	for flag, dir := range map[string]string{"--state-dir": i.o.stateDir, "--archive-dir": i.o.archiveDir} {
		if inside(t.DataDir, dir) {
			warn("lies in %s, %s, where sqgate keeps its own files: choose another place", flag, dir)
		}
	}
	if inside(i.o.stateDir, t.DataDir) {
		warn("has --state-dir, %s, in it, so that the tenant's SQ process can reach the journal and the management key: choose another place", i.o.stateDir)
	}
	if inside(i.o.config, t.DataDir) {
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
	if i.owner == 0 {
		return 0, ""
	}
	names, err := t.OwnFiles()
	if err != nil {
		return 0, ""
	}
	for _, name := range names {
		path := filepath.Join(t.DataDir, name)
		if info, err := os.Stat(path); err == nil && i.ownerOf(path, info) != i.owner {
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
