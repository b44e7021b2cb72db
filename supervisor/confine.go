package supervisor

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A child may read programs and libraries, and read and write the files of its
// own data directory; it may bind its own port and connect to nothing. It can
// make no links: sqgate, which is not confined, would follow them.
//
// The kernel enforces that with Landlock, as far as its version goes.
const (
	mayRun = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayUse = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	mayOwn = mayUse | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// common is what every child may do, wherever its program lies. /proc is not
// in it: it shows the other children's keys in their argument lists.
var common = map[string]uint64{
	"/usr": mayRun, "/bin": mayRun, "/sbin": mayRun, "/lib": mayRun, "/lib32": mayRun, "/lib64": mayRun,
	"/etc/ld.so.cache": unix.LANDLOCK_ACCESS_FS_READ_FILE,
	"/dev/null":        mayUse,
}

// confinement is how children of this supervisor are started.
type confinement struct {
	off  bool // as they are
	lock landlock
}

// confine finds out what the kernel enforces, by trying it, and says what it
// does not.
func (c Config) confine() confinement {
	if c.Unconfined {
		c.Logger.Warn("children are not confined: each can do what this user can", keyReason, "configuration")
		return confinement{off: true}
	}
	lock, err := findLandlock()
	if err == nil {
		err = lock.try()
	}
	if err != nil {
		c.Logger.Warn("children are not confined: each can do what this user can", keyReason, "no Landlock here", keyError, err)
		return confinement{}
	}
	if missing := lock.missing(); len(missing) > 0 {
		c.Logger.Warn("children are not confined in everything: the kernel's Landlock is too old for some",
			keyABI, lock.abi, keyMissing, strings.Join(missing, ", "))
	}
	return confinement{lock: lock}
}

// try restricts a thread that ends: a filter may allow only some of the calls.
func (l landlock) try() error {
	rules, err := l.newRuleset()
	if err != nil {
		return err
	}
	defer rules.close()
	if err := rules.allowPath("/", mayRun); err != nil {
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

// start calls launch, which starts the child, in such a way that what it
// starts is confined. f is the open data directory.
func (c confinement) start(program string, f *os.File, port int, launch func() error) error {
	if c.off {
		return launch()
	}
	rules, err := c.rules(program, f, port)
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

// confineThread is for good. No set-user-ID program gives back what has been
// taken, be there rules or not.
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
func (c confinement) rules(program string, f *os.File, port int) (*ruleset, error) {
	if c.lock.abi == 0 {
		return nil, nil
	}
	rules, err := c.lock.newRuleset()
	if err != nil {
		return nil, err
	}
	if err := rules.forChild(program, f, port); err != nil {
		rules.close()
		return nil, err
	}
	return rules, nil
}

func (r *ruleset) forChild(program string, f *os.File, port int) error {
	for path, access := range common {
		if err := r.allowPath(path, access); err != nil {
			return err
		}
	}
	if err := r.allowPath(program, mayRun); err != nil {
		return err
	}
	// The very directory that is locked, whatever its path leads to by now.
	if err := r.allow(int(f.Fd()), f.Name(), mayOwn); err != nil {
		return err
	}
	if err := r.allowLinked(f.Name()); err != nil {
		return err
	}
	return r.allowBind(port)
}

// allowLinked allows the phexts that are symbolic links, as an operator may
// have put one on another disk: SQ takes what it may not read for empty, or
// fails. Only links to regular files that are there at the start.
func (r *ruleset) allowLinked(dir string) error {
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
		if entry.Type() != fs.ModeSymlink || !strings.HasSuffix(entry.Name(), ".phext") {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue // SQ cannot read it either
		}
		if err := r.allowPath(path, mayUse); err != nil {
			return err
		}
	}
	return nil
}
