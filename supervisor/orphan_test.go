package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// startGateway runs a gateway process that serves dir.
func startGateway(t *testing.T, dir string) (cmd *exec.Cmd, pid, port int, key string) {
	t.Helper()
	argv := append(self("gateway"), t.TempDir(), dir)
	cmd = exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "serving %d %d %s", &pid, &port, &key); scanErr != nil {
		t.Fatalf("gateway said %q, %v", line, err)
	}
	t.Cleanup(func() { killServer(t, dir, pid) })
	return cmd, pid, port, key
}

// killServer ends a child that a failed test has left.
func killServer(t *testing.T, dir string, pid int) {
	if procfs.Environ(pid, envDataDir) == dir {
		t.Logf("process %d was left", pid)
		kill(t, pid)
	}
}

func TestOrphanIsReplaced(t *testing.T) {
	dir := dataDir(t)
	watch(t, dir)
	gateway, orphan, _, _ := startGateway(t, dir)
	s := newSupervisor(t, nil)
	var failed *StartError
	_, err := s.Lease(soon(t), dir)
	if !errors.As(err, &failed) || !errors.Is(err, ErrHeld) || failed.Holder != orphan ||
		!strings.Contains(err.Error(), fmt.Sprintf("another sqgate (pid %d)", gateway.Process.Pid)) {
		t.Fatalf("while the first gateway lives: %v", err)
	}
	if err := s.Stop(soon(t), dir, "x"); !errors.Is(err, ErrHeld) {
		t.Errorf("Stop of another gateway's child: %v", err)
	}
	kill(t, gateway.Process.Pid)
	_ = gateway.Wait() // killed
	if pids := servers(dir); len(pids) != 1 || pids[0] != orphan {
		t.Fatalf("orphan %d, alive %v", orphan, pids)
	}
	mustLease(t, s, dir).Release()
	if childOf(s, dir).PID == orphan || alive(orphan) {
		t.Error("the orphan still serves")
	}
}

func TestStopEndsAnOrphan(t *testing.T) {
	dir := dataDir(t)
	gateway, orphan, _, _ := startGateway(t, dir)
	kill(t, gateway.Process.Pid)
	_ = gateway.Wait() // killed
	s := newSupervisor(t, nil)
	if err := s.Stop(soon(t), dir, "deleted"); err != nil {
		t.Fatal(err)
	}
	if alive(orphan) {
		t.Error("the orphan still serves")
	}
}

func TestLockedByAStranger(t *testing.T) {
	s, dir := newSupervisor(t, func(c *Config) { c.holderGrace = 50 * time.Millisecond }), dataDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var failed *StartError
	if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) || failed.Holder != os.Getpid() {
		t.Fatalf("Lease: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustLease(t, s, dir).Release()
}

// TestServedByHand has an SQ serve the directory that no sqgate has started: by its path, and
// by way of a descriptor.
func TestServedByHand(t *testing.T) {
	for _, inherited := range []bool{false, true} {
		s, dir := newSupervisor(t, nil), dataDir(t)
		port, err := s.ports.reserve()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		open, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		argv := append(sqCommand(), "host", fmt.Sprint(port), "--key", "k", "--data-dir", dir)
		if inherited {
			argv[len(argv)-1] = inheritedDir
		}
		sq := exec.Command(argv[0], argv[1:]...)
		sq.Dir, sq.ExtraFiles = t.TempDir(), []*os.File{open}
		if err := sq.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sq.Process.Kill(); _ = sq.Wait() }()
		eventually(t, "exec", func() bool { _, err := servedBy(sq.Process.Pid); return err == nil })
		var failed *StartError
		if _, err := s.Lease(soon(t), dir); !errors.As(err, &failed) || failed.Holder != sq.Process.Pid {
			t.Errorf("inherited %v: Lease: %v", inherited, err)
		}
	}
}
