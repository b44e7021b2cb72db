package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server under test.
type process struct {
	cmd  *exec.Cmd
	addr string
	done chan struct{} // closed when it has ended
}

// startPatience is how long a server may take until it accepts connections.
const startPatience = 20 * time.Second

// start runs a program in a directory of its own, with its output in a file
// there, and waits until it accepts connections at addr.
func (b *bench) start(ctx context.Context, addr, program string, args ...string) (*process, error) {
	dir, err := os.MkdirTemp(b.root, filepath.Base(program)+"-")
	if err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(dir, "output.log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "BENCH_ROOT="+b.root)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, addr: addr, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // it was told to end, so that its status says nothing
		close(p.done)
	}()
	if err := p.await(ctx); err != nil {
		text, _ := os.ReadFile(out.Name()) // it only makes the error clearer
		p.stop()
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, tail(text))
	}
	return p, nil
}

func tail(text []byte) string {
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-500):])
}

func (p *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not listen at %s: %w", p.addr, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop asks a server to end, and kills it if it does not.
func (p *process) stop() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		_ = p.cmd.Process.Signal(s) // it may have ended
		select {
		case <-p.done:
			return
		case <-time.After(15 * time.Second):
		}
	}
}

// kill ends a server at once. It is for a server that is busy with requests that
// nobody waits for any more.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// memory returns the resident memory of a process, now and at its peak, in bytes.
func memory(pid int) (now, peak float64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // a process that has ended has none
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64) // lines that are no sizes are not used
		switch name {
		case "VmRSS":
			now = float64(n << 10)
		case "VmHWM":
			peak = float64(n << 10)
		}
	}
	return now, peak
}

// childrenOf lists the child processes of a process.
func childrenOf(pid int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		text, _ := os.ReadFile(path) // may have ended
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))) // the pattern has digits there
			children = append(children, child)
		}
	}
	return children
}

// endAllIn kills the processes of this run that are still there. Their environment
// or their arguments name the temporary directory of the run.
func endAllIn(root string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is right
	for _, path := range files {
		dir := filepath.Dir(path)
		environ, _ := os.ReadFile(path)                       // may have ended
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // may have ended
		pid, err := strconv.Atoi(filepath.Base(dir))          // the pattern has digits there
		if err != nil || pid == os.Getpid() || !bytes.Contains(append(environ, args...), []byte(root)) {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // may have ended
	}
}

// freeAddr returns a loopback address at which nobody listens.
func freeAddr() (addr, port string, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	addr = l.Addr().String()
	_, port, _ = net.SplitHostPort(addr) // a listener's address has a port
	return addr, port, l.Close()
}
