package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const tcpListen = "0A"

// ownsListener checks that every socket listening on the port is a descriptor
// of the process. Where the table of sockets cannot be read, the keys alone
// must do.
func ownsListener(pid, port int) error {
	listening, err := listeners(port)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := sockets(pid)
	if err != nil {
		return err
	}
	for _, socket := range listening {
		if !slices.Contains(own, socket) {
			return fmt.Errorf("%w: port %d belongs to another process", errNotProven, port)
		}
	}
	if len(listening) == 0 {
		return fmt.Errorf("%w: nothing listens on port %d", errNotProven, port)
	}
	return nil
}

// listeners returns the sockets that listen on a port, as /proc/PID/fd names them.
func listeners(port int) ([]string, error) {
	var found []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) && len(found) > 0 {
			continue // no IPv6 on this host
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if socket, ok := listenerOf(line, port); ok {
				found = append(found, socket)
			}
		}
	}
	return found, nil
}

// listenerOf reads a line: number, local address, remote address, state,
// five more, inode.
func listenerOf(line string, port int) (socket string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != tcpListen {
		return "", false
	}
	_, hexPort, _ := strings.Cut(fields[1], ":")
	return "socket:[" + fields[9] + "]", hexPort == fmt.Sprintf("%04X", port)
}

func sockets(pid int) ([]string, error) {
	fds, err := numbers(procPath(pid, "fd"))
	if err != nil {
		return nil, err
	}
	var own []string
	for _, fd := range fds {
		target, err := os.Readlink(procPath(pid, fmt.Sprintf("fd/%d", fd)))
		if err == nil && strings.HasPrefix(target, "socket:") {
			own = append(own, target)
		}
	}
	return own, nil
}
