package supervisor

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bothWays are the two ways to find listeners, which must agree.
var bothWays = map[string]func(port int) ([]string, error){
	"sock_diag": func(port int) ([]string, error) {
		found, err := askListeners(port)
		return found.sockets, err
	},
	"proc": readListeners,
}

func listen(t *testing.T, network, address string) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		if network == "tcp6" {
			t.Skipf("no IPv6 here: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a test may have closed it already
	return l, l.Addr().(*net.TCPAddr).Port
}

func TestListeners(t *testing.T) {
	own := func(t *testing.T) []string {
		t.Helper()
		sockets, err := sockets(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return sockets
	}
	for way, find := range bothWays {
		for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "tcp": ":0"} {
			t.Run(way+" "+network, func(t *testing.T) {
				before := own(t)
				l, port := listen(t, network, address)
				found, err := find(port)
				if err != nil || len(found) != 1 || !slices.Contains(own(t), found[0]) || slices.Contains(before, found[0]) {
					t.Errorf("found %v, %v", found, err)
				}
				if err := ownsListener(os.Getpid(), port); err != nil {
					t.Errorf("ours: %v", err)
				}
				if err := ownsListener(another(t), port); !errors.Is(err, errNotProven) || !strings.Contains(err.Error(), "another process") {
					t.Errorf("another process's: %v", err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if found, err := find(port); err != nil || len(found) != 0 {
					t.Errorf("after the end: %v, %v", found, err)
				}
				if err := ownsListener(os.Getpid(), port); !errors.Is(err, errNotProven) || !strings.Contains(err.Error(), "nothing listens") {
					t.Errorf("after the end: %v", err)
				}
			})
		}
	}
}

// another is a process that listens on nothing.
func another(t *testing.T) int {
	t.Helper()
	argv := self("silent")
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// Connections that SQ has closed leave sockets on its port for a minute.
func TestClosedConnectionsCostNothing(t *testing.T) {
	l, port := listen(t, "tcp4", "127.0.0.1:0")
	before, err := askListeners(port)
	if err != nil {
		t.Fatal(err)
	}
	const connections = 200
	for range connections {
		closeFirst(t, l)
	}
	if waiting := inTimeWait(t, port); waiting < connections {
		t.Fatalf("%d sockets wait, want %d", waiting, connections)
	}
	after, err := askListeners(port)
	if err != nil || after.bytes != before.bytes || !slices.Equal(after.sockets, before.sockets) {
		t.Errorf("%+v, before %+v, %v", after, before, err)
	}
	if after.bytes == 0 || after.bytes > 1024 {
		t.Errorf("read %d bytes for one listener", after.bytes)
	}
}

// closeFirst makes a connection and ends it from the listener's side.
func closeFirst(t *testing.T, l net.Listener) {
	t.Helper()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
}

func inTimeWait(t *testing.T, port int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(text)) {
		const timeWait = " 06 "
		if _, ok := listenerOf(strings.Replace(line, timeWait, " "+tcpListen+" ", 1), port); ok && strings.Contains(line, timeWait) {
			count++
		}
	}
	return count
}

// A unit that does not allow AF_NETLINK has the sockets read from /proc.
func TestListenersWithoutNetlink(t *testing.T) {
	_, port := listen(t, "tcp4", "127.0.0.1:0")
	if err := onOwnThread(func() error { // whose filter ends with it
		refuseNetlink(t)
		if _, err := askListeners(port); !errors.Is(err, unix.EAFNOSUPPORT) {
			t.Errorf("sock_diag can be asked: %v", err)
		}
		found, err := listeners(port)
		if len(found) != 1 {
			t.Errorf("found %v", found)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// refuseNetlink has the kernel answer socket(AF_NETLINK) on this thread as
// systemd's RestrictAddressFamilies= has it.
func refuseNetlink(t *testing.T) {
	const number, firstArgument = 0, 16 // offsets in struct seccomp_data; little endian
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unlessEqual := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(number), unlessEqual(unix.SYS_SOCKET, 3),
		load(firstArgument), unlessEqual(unix.AF_NETLINK, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)),
		answer(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Error(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		t.Error(err)
	}
}
