package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestMain lets the test binary be a child that tries what it is told to, or
// one that does nothing.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "attempt":
			attempt(os.Args[2:])
			os.Exit(0)
		case "wait":
			_, _ = io.Copy(io.Discard, os.Stdin) // until the test closes it
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// attempts are what a child that has been taken over would try, by name.
var attempts = map[string]func(target string) error{
	"write": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
	"read": func(path string) error {
		_, err := os.ReadFile(path)
		return err
	},
	"list": func(path string) error {
		_, err := os.ReadDir(path)
		return err
	},
	"truncate": func(path string) error { return os.Truncate(path, 0) },
	"remove":   os.Remove,
	"symlink":  func(path string) error { return os.Symlink("/etc/passwd", path) },
	"take": func(paths string) error {
		from, to, _ := strings.Cut(paths, "+")
		return os.Link(from, to)
	},
	"connect": func(address string) error {
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		return conn.Close()
	},
	"bind": func(port string) error {
		number, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrInet4{Port: number})
	},
	"signal": func(pid string) error {
		number, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		return unix.Kill(number, 0)
	},
}

// attempt makes each attempt, NAME=TARGET, and says how it went.
func attempt(args []string) {
	for _, arg := range args {
		name, target, _ := strings.Cut(arg, "=")
		outcome := "yes"
		err := attempts[name](target)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EXDEV) { // EXDEV for a link
			outcome = "refused"
		} else if err != nil {
			outcome = err.Error()
		}
		fmt.Println(arg, outcome)
	}
}

// outcomes starts a child that has this data directory and port and makes all
// attempts, and returns how each went.
func outcomes(t *testing.T, s Sandbox, dir string, port int, args []string) map[string]string {
	t.Helper()
	var out bytes.Buffer
	cmd := command(t, append([]string{"attempt"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(s, cmd, dir, port); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	found := map[string]string{}
	for line := range strings.Lines(out.String()) {
		arg, outcome, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		found[arg] = outcome
	}
	return found
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

func start(s Sandbox, cmd *exec.Cmd, dir string, port int) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.Start(cmd.Path, f, port, cmd.Start)
}

func needLandlock(t *testing.T) landlock {
	t.Helper()
	lock, err := findLandlock()
	if err != nil {
		t.Skipf("no Landlock here: %v", err)
	}
	return lock
}

func put(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listen returns a port on which this process listens.
func listen(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// freePort returns a port on which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// another is a process that does nothing.
func another(t *testing.T) (pid int) {
	t.Helper()
	cmd := command(t, "wait")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// A confined child is refused everything but its own directory. A child that is
// not confined can do all of it, so nothing but the sandbox refuses it.
func TestConfined(t *testing.T) {
	lock := needLandlock(t)
	root := t.TempDir()
	dir, other := filepath.Join(root, "own"), filepath.Join(root, "own-other")
	put(t, filepath.Join(dir, "a.phext"))
	busy, own := listen(t), freePort(t)
	ask := func(name, format string, args ...any) string { return name + "=" + fmt.Sprintf(format, args...) }
	allowed := []string{
		ask("read", "%s/a.phext", dir), ask("write", "%s/a.phext", dir), ask("truncate", "%s/a.phext", dir),
		ask("write", "%s/new.phext", dir), ask("list", "%s", dir), ask("remove", "%s/new.phext", dir), ask("write", "/dev/null"),
		ask("bind", "%d", own),
	}
	// The number is the first ABI that refuses it.
	forbidden := map[string]int{
		ask("write", "%s/new", other): 1, ask("write", "%s/b.phext", other): 1, ask("read", "%s/b.phext", other): 1,
		ask("list", "%s", other): 1, ask("list", "%s", root): 1, ask("write", "%s/new", root): 1,
		ask("symlink", "%s/link.phext", dir): 1, ask("take", "%s/c.phext+%s/c.phext", other, dir): 1,
		ask("remove", "%s/d.phext", other): 1, ask("read", "/etc/passwd"): 1, ask("read", "/proc/self/cmdline"): 1,
		ask("write", "new"): 1, ask("list", "."): 1,
		ask("truncate", "%s/b.phext", other):         abiTruncate,
		ask("connect", "127.0.0.1:%d", busy):         abiTCP,
		ask("bind", "%d", freePort(t)):               abiTCP,
		ask("signal", "%d", os.Getpid()):             abiScope,
		ask("signal", "%d", another(t)):              abiScope,
		ask("read", "/proc/%d/environ", os.Getpid()): 1,
	}
	all := append([]string{}, allowed...)
	for arg := range forbidden {
		all = append(all, arg)
	}
	// An older kernel enforces less, as this one does when it is asked for less.
	for abi := range lock.abi + 1 {
		s := Sandbox{disabled: abi == 0, landlock: newLandlock(abi, errataSignals)}
		t.Run(fmt.Sprintf("ABI %d", abi), func(t *testing.T) {
			for _, name := range []string{"b", "c", "d"} {
				put(t, filepath.Join(other, name+".phext"))
			}
			found := outcomes(t, s, dir, own, all)
			for _, arg := range all {
				want := "yes"
				if since, ok := forbidden[arg]; ok && abi >= since {
					want = "refused"
				}
				if found[arg] != want {
					t.Errorf("%s: %q, want %q", arg, found[arg], want)
				}
			}
		})
		if err := errors.Join(os.Remove(filepath.Join(dir, "link.phext")), os.Remove(filepath.Join(dir, "c.phext"))); abi == 0 && err != nil {
			t.Fatal(err)
		}
	}
}

// A child may use a phext that an operator keeps elsewhere, but not the files
// beside it, nor what a link of another kind, or one that is not followed, leads to.
func TestConfinedWithLinkedPhexts(t *testing.T) {
	lock := needLandlock(t)
	root := t.TempDir()
	dir, elsewhere := filepath.Join(root, "own"), filepath.Join(root, "elsewhere")
	put(t, filepath.Join(dir, "a.phext"))
	put(t, filepath.Join(elsewhere, "big.phext"))
	put(t, filepath.Join(elsewhere, "neighbour.phext"))
	put(t, filepath.Join(elsewhere, "secret"))
	for name, target := range map[string]string{
		"big.phext": "big.phext", "leak.phext": "secret", "other.txt": "neighbour.phext", "folder.phext": "", "lost.phext": "lost",
	} {
		if err := os.Symlink(filepath.Join(elsewhere, target), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"read=" + dir + "/big.phext": "yes", "write=" + dir + "/big.phext": "yes",
		"read=" + dir + "/other.txt": "refused", "list=" + dir + "/folder.phext": "refused", "write=" + dir + "/lost.phext": "refused",
		"read=" + elsewhere + "/neighbour.phext": "refused", "read=" + dir + "/leak.phext": "refused", "write=" + dir + "/leak.phext": "refused",
	}
	var args []string
	for arg := range want {
		args = append(args, arg)
	}
	links := func(_, target string, _ fsutil.FileID) bool { return filepath.Base(target) != "secret" }
	found := outcomes(t, Sandbox{landlock: lock, Links: links}, dir, 1, args)
	for arg, outcome := range want {
		if found[arg] != outcome {
			t.Errorf("%s: %q, want %q", arg, found[arg], outcome)
		}
	}
	found = outcomes(t, Sandbox{landlock: lock}, dir, 1, args)
	for arg := range want {
		if found[arg] != "refused" {
			t.Errorf("with no links: %s: %q", arg, found[arg])
		}
	}
}

func TestMissing(t *testing.T) {
	for abi, want := range map[int]string{
		1: "truncating files elsewhere, connecting to and binding any port, signalling other processes",
		3: "connecting to and binding any port, signalling other processes",
		6: "signalling other processes", // without the correction
	} {
		if got := strings.Join(newLandlock(abi, 0).missing(), ", "); got != want {
			t.Errorf("ABI %d: %q, want %q", abi, got, want)
		}
	}
}
