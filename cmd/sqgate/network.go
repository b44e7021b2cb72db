package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// SQ listens on all addresses, and anybody on the host can read its key in its
// argument list. So sqgate and its children have a network of their own, in which
// nobody else is. Only the tenants' socket belongs to the host's network: systemd
// passes it to a unit with PrivateNetwork=yes, and a sqgate that was started by
// hand opens it and then executes itself again, by way of unshare(1):
//
//	sqgate serve ... -> unshare --net sqgate own-network serve ... -> sqgate serve ...
//
// These are one process. Its pid, terminal and exit status stay the same. It is
// unshare and not a system call here, since the kernel gives a user namespace only
// to a process with one thread, and Go's have many.

// ownNetwork is the hidden command that unshare runs in the new network.
const ownNetwork = "own-network"

// envListener is the variable that passes the tenants' socket on: the number of its
// descriptor, and passedBySystemd behind that if it is systemd's. envHostListener does
// so with the socket for other hosts.
const (
	envListener     = "SQ_LISTENER_FD" // not SQGATE_, the prefix of settings
	envHostListener = "SQ_HOST_LISTENER_FD"
	passedBySystemd = " systemd"
)

// The flags of unshare. root may make a network. Anybody else may in a user namespace,
// where no other user's ids exist and --keep-caps lets own-network configure the
// network. root does not take that way: there it has no rights over others' files.
var (
	asRoot = []string{"--net"}
	asUser = []string{"--user", "--map-current-user", "--keep-caps", "--net"}
)

// errOrphansWrite keeps sqgate out of a user namespace. From inside, it could neither
// find the orphan nor see the end of the write. Without a tenants file, it is not known
// whether there is one.
var errOrphansWrite = errors.New("an SQ process of an earlier sqgate is still writing, or the tenants file is not right: restart sqgate when that is over")

// enterOwnNetwork executes this process again in a network of its own, with the
// tenants' socket, and that for other hosts, if there is one. It returns only if that is
// not possible.
func enterOwnNetwork(l, hosts net.Listener, orphansWrite bool) error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	flags := asRoot
	if os.Geteuid() != 0 {
		if orphansWrite {
			return errOrphansWrite
		}
		flags = asUser
	}
	if err := tryNetwork(unshare, self, flags); err != nil {
		return err
	}
	environ := os.Environ()
	var sockets []int
	for variable, l := range map[string]net.Listener{envListener: l, envHostListener: hosts} {
		if l == nil {
			continue
		}
		socket, value, err := passOn(l)
		if err != nil {
			return err
		}
		environ, sockets = append(environ, variable+"="+value), append(sockets, socket)
	}
	argv := append(unshareArgs(unshare, self, flags), os.Args[1:]...)
	err = os.NewSyscallError("execve", syscall.Exec(unshare, argv, environ))
	for _, socket := range sockets {
		err = errors.Join(err, unix.Close(socket)) // children must not inherit it
	}
	return err
}

func unshareArgs(unshare, self string, flags []string) []string {
	return append(append([]string{unshare}, flags...), "--", self, ownNetwork)
}

// networkTimeout is the longest wait for a network that is made to see whether it
// can be. It takes some milliseconds.
const networkTimeout = 10 * time.Second

// tryNetwork makes a network that ends at once.
func tryNetwork(unshare, self string, flags []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), networkTimeout)
	defer cancel()
	args := unshareArgs(unshare, self, flags)
	said, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unshare %s: %w: %s", strings.Join(flags, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// passOn returns a copy of l's socket that outlives the execution of another program,
// and the value of the variable that says so there.
func passOn(l net.Listener) (socket int, value string, err error) {
	err = onSocket(l, func(fd int) (err error) {
		socket, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 0) // without FD_CLOEXEC
		return err
	})
	value = strconv.Itoa(socket)
	if _, ok := l.(*inheritedListener); ok {
		value += passedBySystemd
	}
	return socket, value, err
}

// passedOn takes the socket that passOn has passed on with a variable. It is nil if there
// is none.
func passedOn(variable string) (net.Listener, error) {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	number, systemd := strings.CutSuffix(value, passedBySystemd)
	fd, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	file := os.NewFile(uintptr(fd), variable)
	l, err := net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil { // l has a copy
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if systemd {
		return inherit(l), nil
	}
	return l, nil
}

func onSocket(l net.Listener, do func(fd int) error) error {
	if inherited, ok := l.(*inheritedListener); ok {
		l = inherited.Listener
	}
	raw, err := l.(syscall.Conn).SyscallConn() // TCP and Unix sockets have it
	if err != nil {
		return err
	}
	var failed error
	return errors.Join(raw.Control(func(fd uintptr) { failed = do(int(fd)) }), failed)
}

// inOwnNetwork tells whether the network of this process, and so of its children,
// is another one than that of the tenants' socket. Before Linux 5.14, this can be
// told only of a network that enterOwnNetwork has made.
func inOwnNetwork(l net.Listener) bool {
	mine, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(mine) }() // it was never used
	own, err := networkCookie(mine)
	if err != nil {
		_, moved := os.LookupEnv(envListener)
		return moved
	}
	var tenants uint64
	err = onSocket(l, func(fd int) (err error) { tenants, err = networkCookie(fd); return err })
	return err == nil && tenants != own
}

// networkCookie names the network that a socket belongs to.
func networkCookie(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

func newOwnNetwork() *cobra.Command {
	return &cobra.Command{
		Use:                ownNetwork,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return startInOwnNetwork(args) },
	}
}

// startInOwnNetwork prepares a new network and executes sqgate with args in it.
// Without args it does nothing more.
func startInOwnNetwork(args []string) error {
	runtime.LockOSThread() // capabilities are a thread's, and execve keeps those of its own
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("the loopback interface: %w", err)
	}
	if os.Geteuid() != 0 {
		if err := dropCapabilities(); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.NewSyscallError("execve", syscall.Exec(self, append([]string{self}, args...), os.Environ()))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was sent
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// dropCapabilities takes all capabilities from this thread, those that it would
// pass on (ambient ones) included.
func dropCapabilities() error {
	none := [2]unix.CapUserData{} // version 3 has two parts
	return os.NewSyscallError("capset", unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]))
}
