package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants/registry"
)

// mostDemoHosts is how many hosts the demo has at most.
const mostDemoHosts = 9

// demoHosts runs several sqgates on this machine, which have a directory as their bucket. Each
// is a process with files of its own, as if on a machine of its own. They end with this one.
func demoHosts(out io.Writer, o *options, n int) error {
	_, port, err := net.SplitHostPort(o.listen)
	if err != nil {
		return usageError{fmt.Errorf("--listen: %w", err)}
	}
	dir := filepath.Dir(o.config)
	place := "file://" + filepath.Join(dir, "bucket")
	if err := fillDemoBucket(o, filepath.Join(dir, "h1"), place); err != nil {
		return err
	}
	hostPort, err := unusedPort()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // a host ends with the thread that has started it
	defer runtime.UnlockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var hosts []*demoHost
	defer func() {
		for _, h := range hosts {
			h.stop()
		}
	}()
	for i := 1; i <= n; i++ {
		address := "127.0.0." + strconv.Itoa(i)
		h := &demoHost{name: "h" + strconv.Itoa(i), serving: make(chan string, 1), ended: make(chan error, 1)}
		files := filepath.Join(dir, h.name)
		cmd := exec.Command(self, "serve", "--sq", o.sq, "--log-level", "info", "--listen", net.JoinHostPort(address, port),
			"--bucket", place, "--host-name", h.name, "--host-listen", net.JoinHostPort(address, hostPort),
			"--config", filepath.Join(files, "tenants.json"), "--state-dir", filepath.Join(files, "state"),
			"--data-root", filepath.Join(files, "data"), "--archive-dir", filepath.Join(files, "archive"), "--admin-key-file", filepath.Join(dir, "admin-key"))
		if err := h.start(cmd, filepath.Join(dir, h.name+".log")); err != nil {
			return err
		}
		hosts = append(hosts, h)
		select {
		case h.address = <-h.serving:
		case err := <-h.ended:
			return fmt.Errorf("host %s did not start (%w): see ./%s/%s.log", h.name, err, demoDir, h.name)
		case <-ctx.Done():
			return nil
		}
	}
	printDemoHosts(out, hosts)
	<-ctx.Done()
	fmt.Fprintf(out, "sqgate demo: stopped. Keys and data are still in ./%[1]s: rm -r %[1]s\n", demoDir)
	return nil
}

// fillDemoBucket puts the demo's tenants into its bucket, with the tenants file of the first
// host. The other hosts make theirs from it.
func fillDemoBucket(o *options, files, place string) error {
	config := filepath.Join(files, "tenants.json")
	if _, err := os.Stat(config); err == nil {
		return nil // of an earlier demo
	}
	key := filepath.Join(filepath.Dir(files), "admin-key")
	text, err := os.ReadFile(o.config)
	first := &service{o: &options{config: config, stateDir: filepath.Join(files, "state"), dataRoot: filepath.Join(files, "data")}}
	first.log = newLogger(o, os.Stderr)
	for _, dir := range []string{strings.TrimPrefix(place, "file://"), first.markDir()} {
		err = errors.Join(err, os.MkdirAll(dir, 0o700))
	}
	if err == nil {
		text = []byte(strings.ReplaceAll(string(text), o.dataRoot, first.o.dataRoot))
		err = errors.Join(os.WriteFile(config, text, 0o600), os.WriteFile(key, []byte(rand.Text()+"\n"), 0o600))
	}
	if err != nil {
		return err
	}
	b, err := bucket.Open(place, bucket.Options{})
	if err != nil {
		return err
	}
	_, err = registry.PutAll(context.Background(), first.registryConfig(b))
	return err
}

// demoHost is one of the demo's hosts.
type demoHost struct {
	name, address string
	process       *os.Process
	serving       chan string
	ended         chan error
}

// start starts the process, whose log goes to a file. serving gets the address when it serves.
func (h *demoHost) start(cmd *exec.Cmd, log string) error {
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // a ^C is the demo's
	lines, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	h.process = cmd.Process
	go func() {
		for in := bufio.NewScanner(lines); in.Scan(); {
			_, _ = fmt.Fprintln(file, in.Text()) // a full disk is no reason to end
			if _, rest, ok := strings.Cut(in.Text(), "msg=serving address="); ok {
				address, _, _ := strings.Cut(rest, " ")
				h.serving <- address
			}
		}
		_ = file.Close()
		h.ended <- cmd.Wait()
	}()
	return nil
}

// demoStopTime is how long a host gets to stop in order.
const demoStopTime = 30 * time.Second

func (h *demoHost) stop() {
	_ = h.process.Signal(syscall.SIGTERM) // somebody may have killed it, which is what the demo is for
	select {
	case <-h.ended:
	case <-time.After(demoStopTime):
		_ = h.process.Kill()
		<-h.ended
	}
}

func printDemoHosts(out io.Writer, hosts []*demoHost) {
	first, last := hosts[0], hosts[len(hosts)-1]
	fmt.Fprintf(out, "sqgate demo: two tenants, will and phext-notepad, at %d hosts with one bucket\n\n", len(hosts))
	for _, h := range hosts {
		fmt.Fprintf(out, "  %s  http://%s  pid %d  log ./%s/%s.log\n", h.name, h.address, h.process.Pid, demoDir, h.name)
	}
	fmt.Fprintf(out, `
Files: ./%[1]s. Stop with Ctrl-C.

Paste into another terminal, in this directory:

  . ./%[1]s/keys
  curl -w '\n' -H "Authorization: Bearer $WILL" 'http://%[2]s/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1' -d 'written at one host'
  curl -w '\n' -H "Authorization: Bearer $WILL" 'http://%[3]s/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1'
  sqgate host list --url http://%[2]s --admin-key-file %[1]s/admin-key

Then kill one with kill -9 PID. Within 15 seconds, the others serve its tenants.

`, demoDir, first.address, last.address)
}

// unusedPort is one that nobody listens on.
func unusedPort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, l.Close()
}
