package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const tcpListen = "0A"

// readListeners looks through all TCP sockets of the host. That is slow where
// there are many: each request leaves one in TIME_WAIT for a minute, as SQ
// closes every connection, and the kernel takes up to seconds to list them.
func readListeners(port int) ([]string, error) {
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
	return socketName(fields[9]), hexPort == fmt.Sprintf("%04X", port)
}
