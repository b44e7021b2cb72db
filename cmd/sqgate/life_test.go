package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load keeps tenants busy with writes and reads until it is stopped, and collects
// what goes wrong.
type load struct {
	stop     chan struct{}
	workers  sync.WaitGroup
	requests atomic.Int64
	mu       sync.Mutex
	wrong    []string
}

// startLoad runs one client for each tenant, which writes and reads in turn. Every
// value contains its tenant's name. tolerate tells which failures the test expects.
func startLoad(g *gate, tolerate func(id string, r reply, err error) bool, ids ...string) *load {
	l := &load{stop: make(chan struct{})}
	for _, id := range ids {
		l.workers.Go(func() { l.work(g, id, tolerate) })
	}
	return l
}

func (l *load) work(g *gate, id string, tolerate func(string, reply, error) bool) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		value := fmt.Sprintf("%s %d", id, n)
		w, err := g.do(id, "POST", at("update", "n", origin), value)
		l.judge(id, w, err, err == nil && w.status == 200, tolerate)
		r, err := g.do(id, "GET", at("select", "n", origin), "")
		l.judge(id, r, err, err == nil && r.status == 200 && strings.HasPrefix(r.body, id+" "), tolerate)
	}
}

func (l *load) judge(id string, r reply, err error, good bool, tolerate func(string, reply, error) bool) {
	l.requests.Add(1)
	if good || tolerate != nil && tolerate(id, r, err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf("%s: %v %d %q", id, err, r.status, r.body))
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.workers.Wait()
	if len(l.wrong) > 0 {
		t.Errorf("%d of %d requests went wrong, first: %s", len(l.wrong), l.requests.Load(), l.wrong[0])
	}
	if l.requests.Load() == 0 {
		t.Error("the load sent nothing")
	}
}

// busy waits until the load has sent n more requests.
func (l *load) busy(t *testing.T, n int64) {
	t.Helper()
	from := l.requests.Load()
	eventually(t, "the load goes on", func() bool { return l.requests.Load() >= from+n })
}

func TestTenantsComeAndGoUnderLoad(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "stays-1", "stays-2", "goes")
		l := startLoad(g, nil, "stays-1", "stays-2")
		g.must("goes", "POST", at("update", "n", origin), "x", 200)
		l.busy(t, 50)
		before := [...]string{fmt.Sprint(childrenOf(g.dataDir("stays-1"))), fmt.Sprint(childrenOf(g.dataDir("stays-2")))}

		g.addTenant("comes")
		g.writeFile()
		begin := time.Now()
		eventually(t, "the new tenant is served", func() bool {
			r, err := g.do("comes", "GET", at("select", "n", origin), "")
			return err == nil && r.status == 200
		})
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the new tenant's key worked after %v; 5 s is the hard limit", took)
		}
		key := g.key("goes")
		dir := g.dataDir("goes")
		g.removeTenant("goes")
		g.writeFile()
		eventually(t, "the removed tenant is refused", func() bool {
			r, err := g.doKey(key, "GET", at("select", "n", origin))
			return err == nil && r.status == 401
		})
		eventually(t, "the removed tenant's child has ended", func() bool { return len(childrenOf(dir)) == 0 })
		l.busy(t, 50)
		l.end(t)
		after := [...]string{fmt.Sprint(childrenOf(g.dataDir("stays-1"))), fmt.Sprint(childrenOf(g.dataDir("stays-2")))}
		if before != after {
			t.Errorf("children were restarted: %v, before %v", after, before)
		}
	})
}

// doKey sends a request with any key.
func (g *gate) doKey(key, method, target string) (reply, error) {
	g.mu.Lock()
	g.file["by key"] = map[string]any{"api_key": key}
	g.mu.Unlock()
	return g.do("by key", method, target, "")
}

func TestABrokenFileChangesNothing(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	g.must("will", "POST", at("update", "n", origin), "x", 200)
	good, err := os.ReadFile(g.configPath())
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Replace(good, []byte(`"id": "will"`), []byte(`"id": "WILL!"`), 1)
	if err := os.WriteFile(g.configPath(), broken, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	if _, err := g.log.await(ctx, regexp.MustCompile(`level=(ERROR|WARN).*WILL!`)); err != nil {
		t.Error(err)
	}
	if got := g.get("will", at("select", "n", origin)); got != "x" {
		t.Errorf("the tenant reads %q", got)
	}
}

func TestKillsUnderLoad(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "a", "b")
		watchForTwo(t, g.dataDir("a"), g.dataDir("b"))
		// Only requests in flight at the killed child may fail, with 502 or 503. A read
		// may find the file empty, because SQ truncates it before it writes.
		tolerate := func(id string, r reply, err error) bool {
			return id == "a" && err == nil && (r.status == 502 || r.status == 503 || r.status == 200 && r.body == "")
		}
		l := startLoad(g, tolerate, "a", "b")
		for range 5 {
			l.busy(t, 20)
			for _, pid := range childrenOf(g.dataDir("a")) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have just been replaced
			}
			eventually(t, "the tenant is served again", func() bool {
				r, err := g.do("a", "GET", at("select", "n", origin), "")
				return err == nil && r.status == 200
			})
		}
		l.end(t)
	})
}

func TestKillOfTheGatewayUnderLoad(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "a", "b")
		watchForTwo(t, g.dataDir("a"), g.dataDir("b"))
		for range 3 {
			l := startLoad(g, func(_ string, _ reply, err error) bool { return err != nil }, "a", "b")
			l.busy(t, 20)
			g.kill()
			l.end(t)
			g.start()
			for _, id := range []string{"a", "b"} {
				g.must(id, "POST", at("update", "n", origin), id+" after the crash", 200)
				if got := g.get(id, at("select", "n", origin)); got != id+" after the crash" {
					t.Errorf("%s reads %q", id, got)
				}
				if pids := childrenOf(g.dataDir(id)); len(pids) != 1 {
					t.Errorf("%s is served by %v", id, pids)
				}
			}
		}
	})
}

func TestStopLeavesNoProcess(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "a", "b")
		for _, id := range []string{"a", "b"} {
			g.must(id, "POST", at("update", "n", origin), id, 200)
		}
		g.stop()
		for _, id := range []string{"a", "b"} {
			if pids := childrenOf(g.dataDir(id)); len(pids) != 0 {
				t.Errorf("%s is still served by %v", id, pids)
			}
			text, err := os.ReadFile(filepath.Join(g.dataDir(id), "n.phext"))
			if err != nil || string(text) != id {
				t.Errorf("%v: %s's file holds %q", err, id, text)
			}
		}
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("sqgate ended with status %d", code)
		}
	})
}

// sqgateOutput runs sqgate until it exits, and returns its output and exit status.
func sqgateOutput(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(append(os.Environ(), asSqgate+"=1"), env...)
	out, _ := cmd.CombinedOutput() // the exit status is returned instead
	return string(out), cmd.ProcessState.ExitCode()
}

// TestUsageErrors expects exit status 2 and a message that names the mistake.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.set("will", "quota_mb", -1)
	g.writeFile()
	state := filepath.Join(t.TempDir(), "state")
	good := newGate(t, builtin, "will")
	for _, c := range []struct {
		name  string
		env   []string
		args  []string
		names []string
	}{
		{"a bad file", nil, []string{"serve", "--sq", builtin, "--config", g.configPath(), "--state-dir", state}, []string{g.configPath(), "will", "quota_mb"}},
		{"check of a bad file", nil, []string{"check", "--config", g.configPath()}, []string{g.configPath(), "will", "quota_mb"}},
		{"no file", nil, []string{"--sq", builtin, "--config", "/no/such/file", "--state-dir", state}, []string{"/no/such/file"}},
		{"no SQ", nil, []string{"serve", "--sq", "/no/such/sq", "--config", good.configPath(), "--state-dir", state}, []string{"--sq", "/no/such/sq", "cargo install sq", "builtin"}},
		{"another program", nil, []string{"serve", "--sq", "/bin/true", "--config", good.configPath(), "--state-dir", state}, []string{"--sq", "/bin/true", "is no SQ", "cargo install sq"}},
		{"a program that says version", nil, []string{"serve", "--sq", "/bin/echo", "--config", good.configPath(), "--state-dir", state}, []string{"--sq", "/bin/echo", `"version"`, "cargo install sq"}},
		{"a program that fails", nil, []string{"serve", "--sq", "/bin/false", "--config", good.configPath(), "--state-dir", state}, []string{"--sq", "/bin/false", "cargo install sq"}},
		{"--key", nil, []string{"serve", "--key", "K"}, []string{"tenants file", "api_key"}},
		{"a bad size", nil, []string{"serve", "--max-body", "1 elephant"}, []string{"max-body", "elephant"}},
		{"a bad range", nil, []string{"serve", "--child-ports", "9-1"}, []string{"child-ports"}},
		{"a bad variable", []string{"SQGATE_IDLE_TIMEOUT=soon"}, []string{"serve"}, []string{`environment variable SQGATE_IDLE_TIMEOUT: "soon" is not a duration`}},
		{"a bad number", []string{"SQGATE_MAX_CHILDREN=many"}, []string{"serve"}, []string{`environment variable SQGATE_MAX_CHILDREN is "many": a whole number is wanted`}},
		{"an unknown variable", []string{"SQGATE_IDLE_TIMOUT=5m"}, []string{"serve"}, []string{"SQGATE_IDLE_TIMOUT", "did you mean SQGATE_IDLE_TIMEOUT?"}},
		{"an unknown variable of check", []string{"SQGATE_CONFG=x"}, []string{"check"}, []string{"SQGATE_CONFG is no setting", "did you mean SQGATE_CONFIG?"}},
		{"an unknown variable of a client", []string{"SQGATE_NONSENSE=x"}, []string{"tenant", "list"}, []string{"SQGATE_NONSENSE is no setting"}},
		{"a port as a variable", []string{"SQGATE_PORT=1337"}, []string{"serve"}, []string{"SQGATE_PORT is no setting"}},
		{"a variable like one of Kubernetes'", []string{"SQGATE_CHILD_PORT=tcp"}, []string{"check"}, []string{"SQGATE_CHILD_PORT is no setting", "SQGATE_CHILD_PORTS"}},
		{"another", []string{"SQGATE_SERVICE=tcp://10.0.0.1"}, []string{"check"}, []string{"SQGATE_SERVICE is no setting"}},
		{"a bucket that is none", nil, []string{"serve", "--sq", builtin, "--config", good.configPath(), "--state-dir", state, "--bucket", "gs://x"}, []string{"--bucket: ", "s3://NAME/PREFIX", "file:///DIRECTORY"}},
		{"a bucket without a key", []string{"AWS_ACCESS_KEY_ID="}, []string{"check", "--config", good.configPath(), "--bucket", "s3://name"}, []string{"--bucket: ", "AWS_ACCESS_KEY_ID", "--bucket-credentials"}},
		{"a key without a bucket", nil, []string{"check", "--bucket-credentials", "/x"}, []string{"--bucket-credentials is given and --bucket is not"}},
		{"no bucket to be behind", []string{"SQGATE_BUCKET_SYNC=false"}, []string{"serve"}, []string{"--bucket-sync is false and there is no --bucket"}},
		{"a lag", nil, []string{"serve", "--bucket-lag", "1m"}, []string{"--bucket-lag is 1m", "at most 5s"}},
		{"a host's name", nil, []string{"serve", "--host-name", "a/b"}, []string{`--host-name is "a/b"`}},
		{"an unknown flag", nil, []string{"serve", "--nope"}, []string{"--nope"}},
	} {
		out, status := sqgateOutput(t, c.env, c.args...)
		if status != 2 {
			t.Errorf("%s: status %d, want 2: %s", c.name, status, out)
		}
		for _, name := range c.names {
			if !strings.Contains(out, name) {
				t.Errorf("%s: %q does not name %q", c.name, out, name)
			}
		}
	}
	// A variable of another command's flag is none of check's, and no mistake.
	if out, status := sqgateOutput(t, []string{"SQGATE_CONFIG=" + good.configPath(), "SQGATE_URL=http://127.0.0.1:1", "SQGATE_IDLE_TIMEOUT=1m"}, "check"); status != 0 || !strings.Contains(out, "1 tenant,") {
		t.Errorf("check: %d %q", status, out)
	}
	// What Kubernetes makes in a pod beside services that are called sqgate and sqgate-metrics.
	kubernetes := []string{"SQGATE_CONFIG=" + good.configPath(), "SQGATE_SERVICE_HOST=10.96.0.7", "SQGATE_SERVICE_PORT=1337", "SQGATE_SERVICE_PORT_HTTP=1337",
		"SQGATE_PORT=tcp://10.96.0.7:1337", "SQGATE_PORT_1337_TCP=tcp://10.96.0.7:1337", "SQGATE_PORT_1337_TCP_PROTO=tcp", "SQGATE_PORT_1337_TCP_PORT=1337",
		"SQGATE_PORT_1337_TCP_ADDR=10.96.0.7", "SQGATE_METRICS_PORT=udp://10.96.0.8:9", "SQGATE_METRICS_SERVICE_HOST=10.96.0.8", "SQGATE_METRICS_PORT_9_UDP_ADDR=10.96.0.8"}
	if out, status := sqgateOutput(t, kubernetes, "check"); status != 0 || !strings.Contains(out, "1 tenant,") {
		t.Errorf("check in a pod: %d %q", status, out)
	}
	if out, status := sqgateOutput(t, nil, "version"); status != 0 || !strings.Contains(out, "0.5.5") {
		t.Errorf("version: %d %q", status, out)
	}
	if out, status := sqgateOutput(t, nil, "completion", "bash"); status != 0 || !strings.Contains(out, "sqgate") {
		t.Errorf("completion: %d %.100q", status, out)
	}
}

// TestALogThatNobodyReads ends the reader of a pipe that sqgate logs to, as the end
// of tee in "sqgate serve 2>&1 | tee log" does.
func TestALogThatNobodyReads(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.logTo(read, write)
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.must("will", "POST", at("update", "n", origin), "text", 200) // each logs a line
	}
	select {
	case err := <-g.exited:
		t.Errorf("sqgate ended: %v", err)
	default:
	}
}

// logTo starts the gate with a pipe as its standard error, and reads that until
// sqgate serves.
func (g *gate) logTo(read, write *os.File) {
	g.t.Helper()
	g.stderr, g.log = write, &logBuffer{grown: make(chan struct{})}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		buf := make([]byte, 1<<10)
		for !servingLine.MatchString(g.log.String()) {
			n, err := read.Read(buf)
			if err != nil {
				return
			}
			_, _ = g.log.Write(buf[:n]) // it keeps what it gets
		}
	}()
	g.start()
	<-copied
	if err := write.Close(); err != nil {
		g.t.Fatal(err)
	}
}
