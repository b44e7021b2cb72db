package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// inheritedListener is a socket that systemd opened and keeps open. After sqgate
// has closed its own copy, new connections wait in the socket for the next sqgate.
type inheritedListener struct {
	net.Listener
	close func() error
}

func (l *inheritedListener) Close() error { return l.close() }

func inherit(l net.Listener) *inheritedListener {
	return &inheritedListener{Listener: l, close: sync.OnceValue(l.Close)}
}

// openListeners takes the sockets that systemd or enterOwnNetwork hands over, and listens
// where there are none: on addr for tenants and, unless hostAddr is "", there for other hosts.
func openListeners(addr, hostAddr string) (tenants, hosts net.Listener, err error) {
	passed, hosts, err := systemdListeners()
	if err != nil {
		return nil, nil, fmt.Errorf("the socket handed over by systemd: %w", err)
	}
	if tenants, err = openListener(envListener, "--listen", addr, passed); err != nil {
		return nil, nil, err
	}
	switch {
	case hosts != nil && hostAddr == "":
		return nil, nil, usageError{fmt.Errorf("%s is active and --host-listen is not given: set SQGATE_HOST_LISTEN to its address, or disable it", hostSocket)}
	case hosts == nil && hostAddr != "":
		hosts, err = openListener(envHostListener, "--host-listen", hostAddr, nil)
	}
	return tenants, hosts, err
}

// systemdListeners takes the sockets that systemd hands over. hosts is the one for other
// hosts, or nil. One that is no listening stream socket is nil.
func systemdListeners() (passed []net.Listener, hosts net.Listener, err error) {
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	passed, err = activation.Listeners()
	if i := slices.Index(names, hostSocket); i >= 0 && i < len(passed) && passed[i] != nil {
		hosts = inherit(passed[i])
		passed = slices.Delete(passed, i, i+1)
	}
	return passed, hosts, err
}

// openListener takes the socket that enterOwnNetwork has passed on with a variable, or the
// one that systemd has passed, or listens on the address that a flag names.
func openListener(variable, flag, addr string, passed []net.Listener) (net.Listener, error) {
	if l, err := passedOn(variable); l != nil || err != nil {
		return l, err
	}
	switch len(passed) {
	case 0:
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, listenError(flag, addr, err)
		}
		return l, nil
	case 1:
		if passed[0] == nil {
			return nil, usageError{fmt.Errorf("what systemd handed over is no listening stream socket: use ListenStream= in sq.socket")}
		}
		return inherit(passed[0]), nil
	}
	for _, l := range passed {
		if l != nil {
			_ = l.Close() // nothing was accepted from it
		}
	}
	return nil, usageError{fmt.Errorf("systemd handed over %d sockets and one is wanted: empty ListenStream= before setting it in a drop-in of sq.socket", len(passed))}
}

// listenError says what to do about an address that cannot be listened on.
func listenError(flag, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		pid, name := takenBy(addr)
		return fmt.Errorf("%s: %s is taken%s, or name another address with %s (%w)", flag, addr, stopTaker(pid, name), flag, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w: ports below 1024 are root's, so name another one, or have systemd open it (sq.socket)", flag, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %w: no interface of this host has this address", flag, err)
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// stopTaker is the end of a sentence that says that an address is taken: by which
// process, and how to stop it. If a socket unit is active, that is systemd.
func stopTaker(pid int, name string) string {
	const stopUnit = "`systemctl stop sq.socket sq`"
	switch {
	case pid == 0:
		return ": stop the program that has it (" + stopUnit + " if that is sqgate's own unit)"
	case pid == 1:
		return " by systemd for a socket unit, probably sqgate's sq.socket: " + stopUnit
	}
	return fmt.Sprintf(" by %s (pid %d): stop that", name, pid)
}

// takenBy is a process that listens on the port of addr. pid is 0 if it is another
// user's, which only root can find out.
func takenBy(addr string) (pid int, program string) {
	_, name, err := net.SplitHostPort(addr)
	port, errPort := net.LookupPort("tcp", name)
	pids, errPIDs := procfs.PIDs()
	if errors.Join(err, errPort, errPIDs) != nil {
		return 0, ""
	}
	sockets := append(listening("/proc/net/tcp", port), listening("/proc/net/tcp6", port)...)
	for _, pid := range pids {
		fds, _ := os.ReadDir(procfs.Path(pid, "fd")) // another user's cannot be read
		for _, fd := range fds {
			if target, err := os.Readlink(procfs.Path(pid, "fd/"+fd.Name())); err == nil && slices.Contains(sockets, target) {
				comm, _ := os.ReadFile(procfs.Path(pid, "comm")) // it may have ended
				return pid, strings.TrimSpace(string(comm))
			}
		}
	}
	return 0, ""
}

// listening is the sockets that listen on a port, as links in /proc/PID/fd have them.
// The kernel lists those that listen first.
func listening(table string, port int) (sockets []string) {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // the heading
	const listens, state, inode = "0A", 3, 9
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode || fields[state] != listens {
			break
		}
		if strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
			sockets = append(sockets, "socket:["+fields[inode]+"]")
		}
	}
	return sockets
}
