package procfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a process that does nothing, with a variable and files of its own.
func sleeper(t *testing.T, files ...*os.File) Process {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Env, cmd.ExtraFiles = []string{"A=1", "NAME=value"}, files
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for until := time.Now().Add(20 * time.Second); Environ(cmd.Process.Pid, "A") == "" && time.Now().Before(until); {
		runtime.Gosched() // the kernel is still executing it
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestWhatIsKnownOfAProcess(t *testing.T) {
	p := sleeper(t)
	if value := Environ(p.PID, "NAME"); value != "value" {
		t.Errorf("NAME=%q", value)
	}
	if value := Environ(p.PID, "NAM"); value != "" {
		t.Errorf("NAM=%q", value)
	}
	if args := Args(p.PID); !slices.Equal(args, []string{"sleep", "60"}) {
		t.Errorf("arguments %q", args)
	}
	if pids, err := PIDs(); err != nil || !slices.Contains(pids, p.PID) {
		t.Errorf("%d is not among %v, %v", p.PID, pids, err)
	}
	if !IsOwn(p.PID) || os.Geteuid() != 0 && IsOwn(1) {
		t.Error("whose a process is, is mistaken")
	}
	if s, err := ReadStat(p.PID); err != nil || s.Parent != os.Getpid() || s.Dead() || s.StartTime == "" {
		t.Errorf("%+v, %v", s, err)
	}
}

// The name of a program may look like the rest of its line.
func TestReadStat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	for text, want := range map[string]Stat{
		"7 (a) S 3 (b)) T 42 " + strings.Repeat("0 ", 17) + "99 0": {State: "T", Parent: 42, StartTime: "99"},
		"7 (a) T 42": {},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readStat(path); got != want || (err == nil) != (want != Stat{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestSignals(t *testing.T) {
	p := sleeper(t)
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(); {
			if time.Now().After(deadline) {
				t.Fatal("never: " + what)
			}
		}
	}
	if Stopped(p.PID) || p.Gone() {
		t.Error("stopped or gone from the start")
	}
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await("stopped", func() bool { return Stopped(p.PID) })
	if p.WaitGone(time.Millisecond) {
		t.Error("a stopped process is taken for one that has ended")
	}
	if err := p.SignalThreads(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !p.WaitGone(10 * time.Second) {
		t.Fatal("it survives")
	}
	if s, err := ReadStat(p.PID); err != nil || !s.Dead() {
		t.Errorf("nobody has waited for it: %+v, %v", s, err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Errorf("signal to the dead: %v", err)
	}
}

func TestWritesTo(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, flag int) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), flag|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	p := sleeper(t, open("read", os.O_RDONLY), open("write", os.O_WRONLY), open("both", os.O_RDWR), open("deleted", os.O_WRONLY))
	if err := os.Remove(filepath.Join(dir, "deleted")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"read": false, "write": true, "both": true, "deleted": true, "absent": false} {
		if got := WritesTo(p.PID, func(path string) bool { return path == filepath.Join(dir, name) }); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFlock(t *testing.T) {
	open := func(path string) *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	dir := t.TempDir()
	locked := open(dir)
	if err := unix.Flock(int(locked.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	with, without := sleeper(t, locked), sleeper(t, open(dir))
	heldBy, err := Flock(open(dir))
	if err != nil {
		t.Fatal(err)
	}
	if !heldBy(with.PID) || heldBy(without.PID) {
		t.Errorf("with the lock %v, without %v", heldBy(with.PID), heldBy(without.PID))
	}
	if other, err := Flock(open(t.TempDir())); err != nil || other(with.PID) {
		t.Errorf("taken for the lock of another directory, %v", err)
	}
}
