// Package sandbox starts a process that can do nothing but what SQ has to do.
// It may read programs and libraries, and read and write the files of its own
// data directory. It may bind its own port, and connect to nothing. The kernel
// enforces this with Landlock, as far as its version goes; what it does not
// enforce is logged.
//
// It never restricts the process that starts the child, and knows nothing of
// what the child is for beyond the names of its files.
package sandbox

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// A child can make no links: sqgate, which is not confined, would follow them.
const (
	accessRun  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessFile = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	accessDir  = accessFile | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// common is what every child may access, wherever its program lies. /proc is
// not among it: it shows the other children's keys in their argument lists.
var common = map[string]uint64{
	"/usr": accessRun, "/bin": accessRun, "/sbin": accessRun, "/lib": accessRun, "/lib32": accessRun, "/lib64": accessRun,
	"/etc/ld.so.cache": unix.LANDLOCK_ACCESS_FS_READ_FILE,
	"/dev/null":        accessFile,
}

// Sandbox starts processes that are confined as far as this kernel can do it.
// The zero value uses no Landlock, and takes from a child only what a
// set-user-ID program could give it.
type Sandbox struct {
	// Links says which phexts that are symbolic links a child may use.
	Links fsutil.Links

	disabled bool
	landlock landlock
}

// New finds out what the kernel enforces, by trying it, and logs what it does not.
func New(log *slog.Logger) Sandbox {
	lock, err := findLandlock()
	if err == nil {
		err = lock.try()
	}
	if err != nil {
		log.Warn("children are not confined: each can do what this user can", "reason", "no Landlock here", "error", err)
		return Sandbox{}
	}
	if missing := lock.missing(); len(missing) > 0 {
		log.Warn("children are not confined in everything: the kernel's Landlock is too old for some",
			"abi", lock.abi, "not_enforced", strings.Join(missing, ", "))
	}
	return Sandbox{landlock: lock}
}

// Disabled starts processes that can do what this one can.
func Disabled() Sandbox { return Sandbox{disabled: true} }

// try restricts a thread that ends then. A filter of system calls may allow
// only some of Landlock's, so all of them are made.
func (l landlock) try() error {
	rules, err := l.newRuleset()
	if err != nil {
		return err
	}
	defer rules.close()
	if err := rules.allowPath("/", accessRun); err != nil {
		return err
	}
	return onOwnThread(func() error { return confineThread(rules) })
}

// missing names what a child can do although it should not.
func (l landlock) missing() []string {
	var list []string
	if l.abi < abiTruncate {
		list = append(list, "truncating files elsewhere")
	}
	if l.abi < abiTCP {
		list = append(list, "connecting to and binding any port")
	}
	if l.handled.Scoped&unix.LANDLOCK_SCOPE_SIGNAL == 0 {
		list = append(list, "signalling other processes")
	}
	return list
}

// Start calls launch, which starts the child, on a thread whose restrictions
// the child inherits. program is the path of its executable, dir its open data
// directory, port the TCP port that it may bind. The error is that of the
// restriction or of launch.
func (s Sandbox) Start(program string, dir *os.File, port int, launch func() error) error {
	if s.disabled {
		return launch()
	}
	rules, err := s.rules(program, dir, port)
	if err != nil {
		return err
	}
	if rules != nil {
		defer rules.close()
	}
	return onOwnThread(func() error {
		if err := confineThread(rules); err != nil {
			return err
		}
		return launch()
	})
}

// confineThread cannot be undone. With or without rules, no set-user-ID program
// can give back what has been taken.
func confineThread(rules *ruleset) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if rules == nil {
		return nil
	}
	return rules.restrictThread()
}

// rules returns what one child may do, or nil where there is no Landlock.
func (s Sandbox) rules(program string, dir *os.File, port int) (*ruleset, error) {
	if s.landlock.abi == 0 {
		return nil, nil
	}
	rules, err := s.landlock.newRuleset()
	if err != nil {
		return nil, err
	}
	if err := rules.allowChild(program, dir, port, s.Links); err != nil {
		rules.close()
		return nil, err
	}
	return rules, nil
}

func (r *ruleset) allowChild(program string, dir *os.File, port int, links fsutil.Links) error {
	for path, access := range common {
		if err := r.allowPath(path, access); err != nil {
			return err
		}
	}
	if err := r.allowPath(program, accessRun); err != nil {
		return err
	}
	// By descriptor: the path may lead elsewhere by now.
	if err := r.allow(int(dir.Fd()), dir.Name(), accessDir); err != nil {
		return err
	}
	if err := r.allowLinked(dir.Name(), links); err != nil {
		return err
	}
	return r.allowBind(port)
}

// allowLinked allows the phexts that are symbolic links, as an operator may
// have put one on another disk: SQ takes a file that it may not read for an
// empty one, or fails. It counts only links that links follows, to files that
// exist now.
func (r *ruleset) allowLinked(dir string, links fsutil.Links) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type() != fs.ModeSymlink || !strings.HasSuffix(entry.Name(), phext.Extension) {
			continue
		}
		if err := r.allowTarget(filepath.Join(dir, entry.Name()), links); err != nil {
			return err
		}
	}
	return nil
}

// allowTarget allows the file that a link leads to, unless it is not followed.
func (r *ruleset) allowTarget(path string, links fsutil.Links) error {
	f, _, err := links.Open(path)
	if err != nil {
		return nil // nobody reads it, and nobody has SQ read it
	}
	// By descriptor: the link may lead elsewhere by now.
	return errors.Join(r.allow(int(f.Fd()), path, accessFile), f.Close())
}
