package fakesq

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is the command line of an SQ: a real one, or the stand-in.
type program []string

// programs are the stand-in as each release, and real SQ if there is one.
func programs(t *testing.T) []program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var all []program
	for _, release := range releases {
		all = append(all, program{self, "legacy-sq", "--release", release})
	}
	if path := realSQ(); path != "" {
		all = append(all, program{path})
	}
	return all
}

// realSQ is the path of the SQ to test against, or empty if there is none.
func realSQ() string {
	if path := os.Getenv("SQ_BIN"); path != "" {
		return path
	}
	path, err := exec.LookPath("sq")
	if err != nil {
		return ""
	}
	return path
}

func (p program) command(args ...string) *exec.Cmd {
	return exec.Command(p[0], append(append([]string(nil), p[1:]...), args...)...)
}

func (p program) version(t *testing.T) string {
	t.Helper()
	cmd := p.command("version")
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// process is a running program.
type process struct {
	addr           string
	stdout, stderr *stream
	cmd            *exec.Cmd
	kill           func() // and wait until all its output has been read
}

// stream is the output of a process. It is read until the process ends or the
// stream is closed.
type stream struct {
	end  *os.File
	text bytes.Buffer // to be read after done is closed
	line chan string  // gets the text up to "listening", and is closed at the end
	done chan struct{}
}

func read(end *os.File) *stream {
	s := &stream{end: end, line: make(chan string, 1), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer close(s.line)
		s.drain()
	}()
	return s
}

func (s *stream) drain() {
	step, said := make([]byte, 4096), false
	for {
		n, err := s.end.Read(step)
		s.text.Write(step[:n])
		if !said && strings.Contains(s.text.String(), "listening on port") {
			said = true
			s.line <- s.text.String()
		}
		if err != nil {
			return
		}
	}
}

// close makes further writes of the process fail.
func (s *stream) close() {
	_ = s.end.Close() // at the end of the test it may be closed already
	<-s.done
}

// start runs the program in the working directory, on a free port.
func (p program) start(t *testing.T, r recording) *process {
	t.Helper()
	for range 20 {
		port := freePort(t)
		run := p.launch(t, "host", port, "--key", r.Key, "--data-dir", r.DataDir)
		select {
		case _, listening := <-run.stdout.line:
			if listening {
				run.addr = "127.0.0.1:" + port
				return run
			}
		case <-time.After(testTimeout):
			t.Fatal("SQ did not start")
		}
	}
	t.Fatal("SQ found no port")
	return nil
}

func (p program) launch(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := p.command(args...)
	stdout, out := pipe(t)
	stderr, log := pipe(t)
	cmd.Stdout, cmd.Stderr = out, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Close(), log.Close() // the process has copies
	run := &process{cmd: cmd, stdout: read(stdout), stderr: read(stderr)}
	run.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // the error only says that it was killed
		<-run.stdout.done
		<-run.stderr.done
	})
	t.Cleanup(func() {
		run.kill()
		run.stdout.close()
		run.stderr.close()
	})
	return run
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// TestStart compares what every program prints at its start, and the folders
// that it makes.
func TestStart(t *testing.T) {
	r := load(t, Release060)
	for _, p := range programs(t) {
		version := p.version(t)
		t.Chdir(t.TempDir())
		run := p.start(t, r)
		_, port, _ := net.SplitHostPort(run.addr)
		if got := string(exchange(t, run.addr, step{Method: "GET", Target: "/api/v2/version"}.wire(r.Key))); got != ok(version) {
			t.Errorf("%q answered %q", p, got)
		}
		run.stdout.close()
		want := "Auth enabled (pmb-v1 key required)\nTenant data directory: data\nSQ v" + version +
			" listening on port " + port + " (max 512 concurrent connections)...\n"
		if got := run.stdout.text.String(); got != want {
			t.Errorf("%q printed %q, want %q", p, got, want)
		}
		for _, dir := range []string{".sq", r.DataDir} {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				t.Errorf("%q made no folder %s: %v", p, dir, err)
			}
		}
	}
}
