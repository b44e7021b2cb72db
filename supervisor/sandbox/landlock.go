package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What each version of Landlock's ABI knows, from the kernel's documentation
// (userspace-api/landlock). golang.org/x/sys has no constant for the port rule.
const (
	// onFiles are the accesses that a rule for a file may name; the others are
	// of directories.
	onFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	accessABI1 = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // ABI 1 knows all up to this one

	abiRefer    = 2
	abiTruncate = 3 // Linux 6.2
	abiTCP      = 4 // Linux 6.7
	abiIoctl    = 5
	abiScope    = 6 // Linux 6.12

	ruleNetPort = 2 // LANDLOCK_RULE_NET_PORT

	// Without this correction of the kernel, a restricted thread cannot signal
	// the other threads of its own process, as Go's scheduler does.
	errataSignals = 1 << 1
)

// landlock is what this kernel can do; the zero value is nothing.
type landlock struct {
	abi     int
	handled unix.LandlockRulesetAttr // what a ruleset forbids unless a rule allows it
}

func findLandlock() (landlock, error) {
	abi, err := queryLandlock(unix.LANDLOCK_CREATE_RULESET_VERSION)
	if err != nil {
		return landlock{}, err
	}
	errata, err := queryLandlock(unix.LANDLOCK_CREATE_RULESET_ERRATA)
	if err != nil {
		errata = 0 // a kernel that does not know the flag has no corrections
	}
	return newLandlock(abi, errata), nil
}

func newLandlock(abi, errata int) landlock {
	l := landlock{abi: abi}
	l.handled.Handled_access_fs = accessABI1
	if abi >= abiRefer {
		l.handled.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= abiTruncate {
		l.handled.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= abiTCP {
		l.handled.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= abiIoctl {
		l.handled.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= abiScope {
		l.handled.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if abi >= abiScope && errata&errataSignals != 0 {
		l.handled.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	return l
}

func queryLandlock(flag uintptr) (int, error) {
	value, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, flag)
	if errno != 0 {
		return 0, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return int(value), nil
}

// ruleset lists what is allowed. Anything else that Landlock can restrict is
// forbidden.
type ruleset struct {
	fd      int
	handled unix.LandlockRulesetAttr
}

func (l landlock) newRuleset() (*ruleset, error) {
	attr := l.handled
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	return &ruleset{fd: int(fd), handled: attr}, nil
}

func (r *ruleset) close() {
	// It has been applied or is not needed, so there is nothing to lose.
	_ = unix.Close(r.fd)
}

// allowPath allows access to a file, or to everything beneath a directory. A
// path that does not exist needs no rule.
func (r *ruleset) allowPath(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written through it
	return r.allow(fd, path, access)
}

func (r *ruleset) allow(fd int, name string, access uint64) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= onFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & r.handled.Handled_access_fs, Parent_fd: int32(fd)}
	return r.add(unix.LANDLOCK_RULE_PATH_BENEATH, unsafe.Pointer(&rule), name)
}

// allowBind allows a TCP port to be bound, if the kernel restricts that at all.
func (r *ruleset) allowBind(port int) error {
	if r.handled.Handled_access_net == 0 {
		return nil
	}
	rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_BIND_TCP, uint64(port)}
	return r.add(ruleNetPort, unsafe.Pointer(&rule), fmt.Sprintf("port %d", port))
}

func (r *ruleset) add(kind uintptr, rule unsafe.Pointer, name string) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), kind, uintptr(rule), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("%s: %w", name, os.NewSyscallError("landlock_add_rule", errno))
	}
	return nil
}

// restrictThread applies the ruleset to the calling thread, for good, and to
// whatever is started from it.
func (r *ruleset) restrictThread() error {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}
