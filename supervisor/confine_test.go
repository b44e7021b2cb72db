package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// tries are what a child that has been taken over would try, by name.
var tries = map[string]func(target string) error{
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

// probe tries each argument, NAME=TARGET, says how it went, and returns the
// arguments from `host` on.
func probe(args []string) []string {
	for i, arg := range args {
		name, target, ok := strings.Cut(arg, "=")
		if !ok {
			return args[i:]
		}
		outcome := "yes"
		err := tries[name](target)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EXDEV) { // the latter for a link
			outcome = "refused"
		} else if err != nil {
			outcome = err.Error()
		}
		fmt.Println(arg, outcome)
	}
	return nil
}

// probed starts a child that tries all this, and returns how each went.
func probed(t *testing.T, dir string, args []string, how confinement) map[string]string {
	t.Helper()
	s := newSupervisor(t, func(c *Config) { c.Command = append(self("probes"), args...) })
	s.confinement = how
	mustLease(t, s, dir).Release()
	outcomes := map[string]string{}
	for _, line := range s.Lines(dir) {
		if arg, outcome, ok := strings.Cut(line, " "); ok && strings.Contains(arg, "=") {
			outcomes[arg] = outcome
		}
	}
	return outcomes
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

func listen(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// another is a process that does nothing.
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

// A child is kept from everything but its own directory, and a child that is
// not confined can do all of it: what is refused is refused by nothing else.
func TestConfined(t *testing.T) {
	lock := needLandlock(t)
	root := t.TempDir()
	dir, other := filepath.Join(root, "own"), filepath.Join(root, "own-other")
	put(t, filepath.Join(dir, "a.phext"))
	port := listen(t)
	ask := func(name, format string, args ...any) string { return name + "=" + fmt.Sprintf(format, args...) }
	own := []string{
		ask("read", "%s/a.phext", dir), ask("write", "%s/a.phext", dir), ask("truncate", "%s/a.phext", dir),
		ask("write", "%s/new.phext", dir), ask("list", "%s", dir), ask("remove", "%s/new.phext", dir), ask("write", "/dev/null"),
	}
	// By the ABI that refuses it first.
	forbidden := map[string]int{
		ask("write", "%s/new", other): 1, ask("write", "%s/b.phext", other): 1, ask("read", "%s/b.phext", other): 1,
		ask("list", "%s", other): 1, ask("list", "%s", root): 1, ask("write", "%s/new", root): 1,
		ask("symlink", "%s/link.phext", dir): 1, ask("take", "%s/c.phext+%s/c.phext", other, dir): 1,
		ask("remove", "%s/d.phext", other): 1, ask("read", "/etc/passwd"): 1, ask("read", "/proc/self/cmdline"): 1,
		ask("write", "new"): 1, ask("list", "."): 1,
		ask("truncate", "%s/b.phext", other):         abiTruncate,
		ask("connect", "127.0.0.1:%d", port):         abiTCP,
		ask("bind", "%d", freeRange(t)):              abiTCP,
		ask("signal", "%d", os.Getpid()):             abiScope,
		ask("signal", "%d", another(t)):              abiScope,
		ask("read", "/proc/%d/environ", os.Getpid()): 1,
	}
	all := append([]string{}, own...)
	for arg := range forbidden {
		all = append(all, arg)
	}
	// Older kernels enforce less, which is as if this one were asked for less.
	for abi := range lock.abi + 1 {
		how := confinement{off: abi == 0, lock: newLandlock(abi, errataSignals)}
		t.Run(fmt.Sprintf("ABI %d", abi), func(t *testing.T) {
			for _, name := range []string{"b", "c", "d"} {
				put(t, filepath.Join(other, name+".phext"))
			}
			outcomes := probed(t, dir, all, how)
			for _, arg := range all {
				want := "yes"
				if since, ok := forbidden[arg]; ok && abi >= since {
					want = "refused"
				}
				if outcomes[arg] != want {
					t.Errorf("%s: %q, want %q", arg, outcomes[arg], want)
				}
			}
		})
		if err := errors.Join(os.Remove(filepath.Join(dir, "link.phext")), os.Remove(filepath.Join(dir, "c.phext"))); abi == 0 && err != nil {
			t.Fatal(err)
		}
	}
}

// A data directory that is not there yet, and one that is reached by a link.
func TestConfinedInAnyDirectory(t *testing.T) {
	needLandlock(t)
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "disk", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(root, "new", "data"), filepath.Join(root, "link", "data"), filepath.Join(root, "link", "new")} {
		s := newSupervisor(t, nil)
		l := mustLease(t, s, dir)
		const scroll = "1.1.1/1.1.1/1.1.1"
		if _, err := call(l.Addr(), l.Key(), "update", "text", "p", "notes", "c", scroll); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "notes.phext")); err != nil || string(text) != "text" {
			t.Errorf("%s has %q, %v", dir, text, err)
		}
		l.Release()
	}
}

// A phext that an operator has put elsewhere is served; its neighbours there
// are not, nor is what a link of another kind leads to.
func TestConfinedWithLinkedPhexts(t *testing.T) {
	lock := needLandlock(t)
	root := t.TempDir()
	dir, elsewhere := filepath.Join(root, "own"), filepath.Join(root, "elsewhere")
	put(t, filepath.Join(dir, "a.phext"))
	put(t, filepath.Join(elsewhere, "big.phext"))
	put(t, filepath.Join(elsewhere, "neighbour.phext"))
	for name, target := range map[string]string{
		"big.phext": "big.phext", "other.txt": "neighbour.phext", "folder.phext": "", "lost.phext": "lost",
	} {
		if err := os.Symlink(filepath.Join(elsewhere, target), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"read=" + dir + "/big.phext": "yes", "write=" + dir + "/big.phext": "yes",
		"read=" + dir + "/other.txt": "refused", "list=" + dir + "/folder.phext": "refused", "write=" + dir + "/lost.phext": "refused",
		"read=" + elsewhere + "/neighbour.phext": "refused",
	}
	var args []string
	for arg := range want {
		args = append(args, arg)
	}
	outcomes := probed(t, dir, args, confinement{lock: lock})
	for arg, outcome := range want {
		if outcomes[arg] != outcome {
			t.Errorf("%s: %q, want %q", arg, outcomes[arg], outcome)
		}
	}
}

// What confines children must not come to confine the gateway: no thread of
// this process is ever made from one that is restricted.
func TestTheGatewayIsNotConfined(t *testing.T) {
	needLandlock(t)
	if before := restrictedThreads(t); before > 0 {
		t.Skipf("%d threads of this process were restricted from the start", before)
	}
	s := newSupervisor(t, func(c *Config) { c.Command = self("legacy-sq") })
	var all sync.WaitGroup
	for range 12 {
		dir := dataDir(t)
		all.Go(func() {
			for range 3 {
				l, err := s.Lease(soon(t), dir)
				if err != nil {
					t.Error(err)
					return
				}
				l.Release()
				if err := s.Stop(soon(t), dir, "test"); err != nil {
					t.Error(err)
				}
				runtime.GC() // makes threads, and signals all
			}
		})
	}
	all.Wait()
	eventually(t, "the restricted threads end", func() bool { return restrictedThreads(t) == 0 })
	writeOnManyThreads(t)
}

func restrictedThreads(t *testing.T) int {
	t.Helper()
	threads, err := procfs.Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, tid := range threads {
		status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
		if err == nil && strings.Contains(string(status), "NoNewPrivs:\t1") {
			count++
		}
	}
	return count
}

// writeOnManyThreads makes the runtime use more threads than it has.
func writeOnManyThreads(t *testing.T) {
	t.Helper()
	threads, err := procfs.Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dir, holding := t.TempDir(), make(chan struct{})
	var ready, all sync.WaitGroup
	for i := range len(threads) + 10 {
		ready.Add(1)
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
				t.Error(err)
			}
			ready.Done()
			<-holding // so that nobody else gets this thread
		})
	}
	ready.Wait()
	close(holding)
	all.Wait()
}

// So many at once that every idle thread is taken, the first one too, which
// could not end.
func TestOnOwnThread(t *testing.T) {
	threads, err := procfs.Threads(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var arrived, all sync.WaitGroup
	var own sync.Map
	arrived.Add(len(threads) + 10)
	failure := errors.New("failure")
	for range len(threads) + 10 {
		all.Go(func() {
			if err := onOwnThread(func() error {
				own.Store(unix.Gettid(), true)
				arrived.Done()
				arrived.Wait()
				return failure
			}); err != failure {
				t.Error(err)
			}
		})
	}
	all.Wait()
	own.Range(func(tid, _ any) bool {
		if tid == os.Getpid() {
			t.Error("the first thread was used")
			return false
		}
		eventually(t, "the thread ends", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			return errors.Is(err, os.ErrNotExist)
		})
		return true
	})
}

// What the kernel does not enforce is said once, at the start.
func TestWhatIsNotEnforcedIsLogged(t *testing.T) {
	for abi, want := range map[int]string{
		1: "truncating files elsewhere, connecting to and binding any port, signalling other processes",
		3: "connecting to and binding any port, signalling other processes",
		6: "signalling other processes", // without the correction
	} {
		if got := strings.Join(newLandlock(abi, 0).missing(), ", "); got != want {
			t.Errorf("ABI %d: %q, want %q", abi, got, want)
		}
	}
	var log bytes.Buffer
	newSupervisor(t, func(c *Config) {
		c.Unconfined, c.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
	})
	if strings.Count(log.String(), "children are not confined") != 1 {
		t.Errorf("log: %s", log.String())
	}
}
