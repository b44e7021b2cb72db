package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ownsListener checks that every socket listening on the port is a descriptor
// of the process. Where the sockets of this host cannot be listed, the keys
// alone must do.
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

// listeners returns the sockets that listen on a port, as /proc/PID/fd names
// them. A kernel without sock_diag, or a filter of system calls, is no reason
// not to know: /proc has the same, among every other socket of the host.
func listeners(port int) ([]string, error) {
	asked, err := askListeners(port)
	if err == nil {
		return asked.sockets, nil
	}
	return readListeners(port)
}

func socketName(inode string) string { return "socket:[" + inode + "]" }

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
