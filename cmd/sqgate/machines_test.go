package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// machine is a network namespace with one address, as a machine has it. The namespace has no
// name: it ends with the last process in it, and leaves nothing behind.
type machine struct {
	name, ip string
	pid      int      // of a process that keeps the namespace until the test ends, however it does
	here     *os.File // the namespace of the test
}

// machines are in a network with a router between them, which is a namespace too. So nothing
// is ever to be seen outside.
type machines struct {
	t      *testing.T
	router *machine
	all    []*machine
}

// newMachines skips the test where it cannot make namespaces.
func newMachines(t *testing.T, names ...string) *machines {
	t.Helper()
	for _, program := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NO NAMESPACES: %v (Debian: iproute2, util-linux)", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("NO NAMESPACES: only root can make a network of several machines")
	}
	router, err := newMachine(t, "router")
	if err != nil {
		t.Skipf("NO NAMESPACES: %v", err)
	}
	m := &machines{t: t, router: router}
	router.must(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	for i, name := range names {
		one, err := newMachine(t, name)
		if err != nil {
			t.Fatal(err)
		}
		one.ip = fmt.Sprintf("10.77.%d.2", i+1)
		m.all = append(m.all, one)
		router.must(t, "ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(one.pid))
		router.must(t, "ip", "address", "add", fmt.Sprintf("10.77.%d.1/24", i+1), "dev", name)
		router.must(t, "ip", "link", "set", "dev", name, "up")
		one.must(t, "ip", "link", "set", "lo", "up")
		one.must(t, "ip", "address", "add", one.ip+"/24", "dev", "eth0")
		one.must(t, "ip", "link", "set", "eth0", "up")
		one.must(t, "ip", "route", "add", "default", "via", fmt.Sprintf("10.77.%d.1", i+1))
	}
	return m
}

func newMachine(t *testing.T, name string) (*machine, error) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = here.Close() }) // it is only a name
	keeper := exec.Command("cat")          // ends when this process does
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := keeper.StdinPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which ends it
		_ = keeper.Wait()
	})
	return &machine{name: name, pid: keeper.Process.Pid, here: here}, nil
}

func (m *machine) namespace() string { return fmt.Sprintf("/proc/%d/ns/net", m.pid) }

// command is exec.Command for a process on the machine; nil = on this one.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	if m == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("nsenter", append([]string{"--net=" + m.namespace(), "--", name}, args...)...)
}

func (m *machine) must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := m.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("on %s: %s %s: %v\n%s", m.name, name, strings.Join(args, " "), err, out)
	}
}

// dialer connects as a process on the machine does. It is nil on this one.
func (m *machine) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if m == nil {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		runtime.LockOSThread() // a thread has a namespace, and a socket that of the thread that makes it
		there, err := os.Open(m.namespace())
		if err != nil {
			return nil, err // the thread ends with this goroutine
		}
		defer there.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, os.NewSyscallError("setns", err)
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if unix.Setns(int(m.here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		return conn, err
	}
}

// cut has nothing come through between two machines, in either direction and without a word,
// until mend is called.
func (m *machines) cut(a, b *machine) (mend func()) {
	m.t.Helper()
	rules := func(do string) {
		for _, way := range [][2]*machine{{a, b}, {b, a}} {
			m.router.must(m.t, "ip", "rule", do, "from", way[0].ip, "to", way[1].ip, "blackhole")
		}
	}
	rules("add")
	return sync.OnceFunc(func() { rules("del") })
}

// familyOf is a process with all that descend from it, as far as their parents live.
func familyOf(pid int) []int {
	children := map[int][]int{}
	pids, _ := procfs.PIDs() // without /proc there is none
	for _, child := range pids {
		if stat, err := procfs.ReadStat(child); err == nil { // else it has ended
			children[stat.Parent] = append(children[stat.Parent], child)
		}
	}
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}

// signalFamily sends a signal to sqgate and all its children.
func (g *gate) signalFamily(s syscall.Signal) {
	for _, pid := range familyOf(g.cmd.Process.Pid) {
		_ = syscall.Kill(pid, s) // it may have ended
	}
}

// clientOn is a client on a machine, which tries nothing twice.
func clientOn(m *machine) *http.Client {
	return &http.Client{Timeout: waitTimeout, Transport: &http.Transport{DialContext: m.dialer(), MaxIdleConnsPerHost: 64}}
}
