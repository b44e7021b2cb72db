package main

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// runningDemo is a demo in a directory of its own, with the stand-in.
type runningDemo struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, log *logBuffer
	url      string
	backend  string // X-SQ-Backend
}

// demoCommand is a demo that finds no SQ.
func demoCommand(ctx context.Context, t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"demo"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asSqgate+"=1", "PATH=/usr/bin:/bin", "SQ_ADMIN_KEY=")
	return cmd
}

func startDemo(t *testing.T, dir string) *runningDemo {
	t.Helper()
	d := &runningDemo{t: t, out: &logBuffer{grown: make(chan struct{})}, log: &logBuffer{grown: make(chan struct{})}}
	d.cmd = demoCommand(t.Context(), t, dir, "--listen", "127.0.0.1:0")
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	found, err := d.out.await(ctx, regexp.MustCompile(`(?s)at (http://\S+)\n.*toc\?p=notes'\n\n`))
	if err != nil {
		t.Fatalf("%v\n%s", err, d.log)
	}
	d.url = found[1]
	resp, err := http.Get(d.url + "/api/v2/version") // from then on it listens to signals
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	d.backend = resp.Header.Get("X-SQ-Backend")
	return d
}

// stop ends the demo as Ctrl-C does.
func (d *runningDemo) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("%v\n%s", err, d.log)
	}
}

// demoKey is a key in the file that the demo's lines read.
func demoKey(t *testing.T, dir, name string) string {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, demoDir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, ok := strings.CutPrefix(lines.Text(), name+"="); ok {
			return key
		}
	}
	t.Fatalf("there is no key of %s", name)
	return ""
}

// TestDemo runs one, beside others that cannot run, and then one more.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDemo(t, dir)
	said := d.out.String()
	if !strings.Contains(said, "\nThis is not SQ, but a stand-in for it that comes with sqgate: ") || strings.Contains(said, "earlier demo") {
		t.Errorf("the demo says\n%s", said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	const notSQ = "this is not SQ, but the stand-in that comes with sqgate"
	if _, err := d.log.await(ctx, regexp.MustCompile(notSQ)); err != nil || strings.Count(d.log.String(), notSQ) != 1 {
		t.Errorf("the log says\n%s", d.log)
	}
	if d.backend != "0.6.0+stand-in" {
		t.Errorf("X-SQ-Backend: %s", d.backend)
	}
	key := demoKey(t, dir, "WILL")
	req, err := http.NewRequest("POST", d.url+at("update", "notes", origin), strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", err, resp)
	}
	resp.Body.Close()
	if _, err := d.log.await(ctx, regexp.MustCompile(`will: this is not SQ, but the stand-in that comes with sqgate\n`)); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{
		dir:         "a demo that runs already has ./sqgate-demo: stop it with Ctrl-C, or run another one in another directory with `sqgate demo --listen 127.0.0.1:0`",
		t.TempDir(): strings.TrimPrefix(d.url, "http://") + " is taken, by another demo or by another program: stop that, or choose another address; `sqgate demo --listen 127.0.0.1:0` takes a free port",
	} {
		failedDemo(t, name, want, "--listen", strings.TrimPrefix(d.url, "http://"))
		if _, err := os.Stat(filepath.Join(name, demoDir)); (err == nil) != (name == dir) {
			t.Errorf("a demo that never served leaves its directory, or takes another's: %v", err)
		}
	}
	d.stop()
	if !strings.HasSuffix(d.out.String(), "\nsqgate demo: stopped. Keys and data are still in ./sqgate-demo: rm -r sqgate-demo\n") {
		t.Errorf("at its end the demo says\n%s", d.out)
	}

	again := startDemo(t, dir)
	if want := "Going on with ./sqgate-demo as an earlier demo left it. To start over: rm -r sqgate-demo\n"; !strings.HasPrefix(again.out.String(), want) || demoKey(t, dir, "WILL") != key {
		t.Errorf("the second one says\n%s", again.out)
	}
	again.stop()
}

// failedDemo expects an error.
func failedDemo(t *testing.T, dir, want string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	cmd := demoCommand(ctx, t, dir, args...)
	out, _ := cmd.CombinedOutput() // the exit status is looked at instead
	if !regexp.MustCompile(`(^|\n)sqgate: `+want+`\n$`).MatchString(string(out)) || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v: %s", cmd.ProcessState, out)
	}
}

// TestDemoWhereItCannotWrite has a file system that nobody can write to, a file in the
// place of the directory, and what is left of a demo whose keys were removed.
func TestDemoWhereItCannotWrite(t *testing.T) {
	t.Parallel()
	const cannot = "the demo keeps its files in ./sqgate-demo, which it cannot make or write here \\(.+\\): run it in a directory that you can write to"
	failedDemo(t, "/proc", cannot)
	file, half := t.TempDir(), t.TempDir()
	writeTestFile(t, filepath.Join(file, demoDir), "")
	failedDemo(t, file, cannot)
	writeTestFile(t, filepath.Join(half, demoDir, "tenants.json"), `{"tenants": []}`)
	failedDemo(t, half, `\./sqgate-demo is of an earlier demo, and not whole any more \(.*/keys: no such file or directory\): rm -r sqgate-demo, and start again`)
}

// TestAnswersEndTheirLine looks at the JSON that is sqgate's own. SQ's answers are SQ's to
// the byte.
func TestAnswersEndTheirLine(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	for path, key := range map[string]string{
		"/health": "", "/api/v2/version": "", "/api/v2/openapi.json": "", "/api/v2/toc": "", "/api/v2/nothing": g.key("will"), "/api/v2/admin/tenants": adminKey,
		"/api/v2/list/1": g.key("will"), "/api/v2/search?q=x": g.key("will"), "/api/v2/read/1.1.1": g.key("will"), "/api/v2/admin/tenants/will/history": adminKey,
	} {
		r, err := g.doKey(key, "GET", path)
		if err != nil || !strings.HasSuffix(r.body, "}\n") || strings.HasSuffix(r.body, "\n\n") {
			t.Errorf("%s: %v %d %q", path, err, r.status, r.body)
		}
	}
}
