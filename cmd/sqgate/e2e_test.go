package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/supervisor/procfs"
	"mirrorborn.us/sqgate/tenants"
)

// asSqgate is the variable that makes the test binary run as sqgate.
const asSqgate = "SQTEST_IS_SQGATE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == standIn {
		os.Exit(runStandIn(os.Args[2:]))
	}
	if os.Getenv(asSqgate) != "" {
		os.Exit(run(os.Args[1:]))
	}
	testtmp.InMemory()
	for name, value := range s3test.Environment {
		_ = os.Setenv(name, value) // a name that is none would fail every test on S3
	}
	// Much of their time, these tests wait for a lease or a process.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(6 * runtime.GOMAXPROCS(0))) // it is a number
	}
	os.Exit(m.Run())
}

// adminKey is the management key of every gate.
const adminKey = "management-key-of-the-tests"

// waitTimeout bounds every wait. Only a broken sqgate makes a test wait that long.
const waitTimeout = 60 * time.Second

// forEachSQ runs an end-to-end test with the stand-in and, if there is one, with
// real SQ. The test runs in parallel with others.
func forEachSQ(t *testing.T, test func(t *testing.T, sq string)) {
	t.Helper()
	t.Parallel()
	t.Run("stand-in", func(t *testing.T) { test(t, builtin) })
	if real := realSQ(); real != "" {
		t.Run("real", func(t *testing.T) { test(t, real) })
	}
}

// rounds is how often a test repeats something, or how large it makes something:
// few by default, and full if SQTEST_FULL is set.
func rounds(few, full int) int {
	if os.Getenv("SQTEST_FULL") != "" {
		return full
	}
	return few
}

// realSQ is the path of real SQ, or "".
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

// gate is a running sqgate process with its tenants file.
type gate struct {
	t      *testing.T
	dir    string
	sq     string
	args   []string
	env    []string
	self   string              // sqgate itself
	user   *syscall.Credential // that it runs as; nil: the test's own
	on     *machine            // where it runs; nil: here
	stderr *os.File            // instead of log, which somebody else fills then
	client *http.Client        // keeps its connections, as real clients do
	cmd    *exec.Cmd
	url    string
	log    *logBuffer
	exited chan error
	mu     sync.Mutex
	order  []string
	file   map[string]map[string]any

	bucketFilled bool
}

// logBuffer keeps what a process has written, and lets tests wait for a line.
type logBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.grown)
	b.grown = make(chan struct{})
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits for a line that matches, and returns its submatches.
func (b *logBuffer) await(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		b.mu.Lock()
		found, grown := pattern.FindStringSubmatch(b.text.String()), b.grown
		b.mu.Unlock()
		if found != nil {
			return found, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, fmt.Errorf("no line %v in the log:\n%s", pattern, b)
		}
	}
}

// newGate prepares a gate with tenants of the given ids. start starts it.
func newGate(t *testing.T, sq string, ids ...string) *gate {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, dir: t.TempDir(), sq: sq, self: self, file: map[string]map[string]any{}}
	g.client = &http.Client{Timeout: waitTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for _, id := range ids {
		g.addTenant(id)
	}
	g.writeFile()
	t.Cleanup(func() {
		g.stop()
		endChildren(g.dir)
	})
	return g
}

func startGate(t *testing.T, sq string, ids ...string) *gate {
	t.Helper()
	g := newGate(t, sq, ids...)
	g.start()
	return g
}

// startGateWith starts a gate with one tenant, will, and sets one of its fields in
// the tenants file.
func startGateWith(t *testing.T, sq, field string, value any) *gate {
	t.Helper()
	g := newGate(t, sq, "will")
	g.set("will", field, value)
	g.writeFile()
	g.start()
	return g
}

func (g *gate) addTenant(id string) {
	key, err := tenants.NewKey()
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.order = append(g.order, id)
	g.file[id] = map[string]any{"id": id, "api_key": key, "data_dir": filepath.Join(g.dir, "data", id)}
}

func (g *gate) set(id, field string, value any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file[id][field] = value
}

func (g *gate) removeTenant(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.file, id)
}

func (g *gate) key(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file[id]["api_key"].(string)
}

func (g *gate) dataDir(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file[id]["data_dir"].(string)
}

func (g *gate) configPath() string { return filepath.Join(g.dir, "tenants.json") }

// writeFile writes the tenants file as an editor does: under another name, which it
// then changes.
func (g *gate) writeFile() {
	g.t.Helper()
	g.mu.Lock()
	list := []map[string]any{}
	for _, id := range g.order {
		if t, ok := g.file[id]; ok {
			list = append(list, t)
		}
	}
	text, err := json.MarshalIndent(map[string]any{"tenants": list, "reload_on_change": true}, "", "  ")
	g.mu.Unlock()
	if err != nil {
		g.t.Fatal(err)
	}
	aside := g.configPath() + ".new"
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(aside, g.configPath()); err != nil {
		g.t.Fatal(err)
	}
}

// servingLine is in either format of the log.
var servingLine = regexp.MustCompile(`msg"?[=:]"?serving"?[ ,]"?address"?[=:]"?([^\s"]+)`)

// start starts the process and waits until it serves.
func (g *gate) start() {
	g.t.Helper()
	g.fillBucket()
	g.launch()
	if err := g.awaitServing(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
}

// launch starts the process.
func (g *gate) launch() {
	g.t.Helper()
	args := append([]string{"serve", "--config", g.configPath(), "--sq", g.sq, "--listen", "127.0.0.1:0",
		"--state-dir", filepath.Join(g.dir, "state"), "--data-root", filepath.Join(g.dir, "data"), "--archive-dir", filepath.Join(g.dir, "archive")}, g.args...)
	g.cmd = g.on.command(g.self, args...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: g.user}
	g.cmd.Env = append(append(os.Environ(), asSqgate+"=1", "SQ_ADMIN_KEY="+adminKey), g.env...)
	if g.stderr == nil {
		g.log = &logBuffer{grown: make(chan struct{})}
	}
	g.cmd.Stderr = g.log
	if g.stderr != nil {
		g.cmd.Stderr = g.stderr
	}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait(); close(exited) }(g.cmd, g.exited)
}

func (g *gate) awaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	found, err := g.log.await(ctx, servingLine)
	if err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.url = "http://" + found[1]
	}
	return err
}

// base is url, for those who go on while sqgate is started again.
func (g *gate) base() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.url
}

// stop shuts the process down in order, if it runs. Connections that are still
// open would delay that for a second (drainTimeout).
func (g *gate) stop() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	g.client.CloseIdleConnections()
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	g.wait()
	if g.t.Failed() {
		g.t.Logf("sqgate's log:\n%s", tail(g.log.String(), 60))
	}
}

func (g *gate) wait() {
	select {
	case <-g.exited:
	case <-time.After(waitTimeout):
		g.t.Errorf("sqgate did not stop; killing it\n%s", tail(g.log.String(), 60))
		_ = g.cmd.Process.Kill() // it may have just ended
		<-g.exited
	}
}

// kill ends the process as a crash would.
func (g *gate) kill() {
	_ = g.cmd.Process.Kill() // it may have ended by itself
	g.wait()
}

// eventually polls until a condition holds that other processes bring about and
// that sends no event.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request, with the tenant's key unless id is empty.
func (g *gate) do(id, method, target, body string) (reply, error) {
	req, err := http.NewRequest(method, g.base()+target, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if id != "" {
		req.Header.Set("Authorization", "Bearer "+g.key(id))
	}
	return g.send(req)
}

// send checks each answer against the description of the interface.
func (g *gate) send(req *http.Request) (reply, error) {
	resp, err := g.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	r := reply{resp.StatusCode, resp.Header, string(text)}
	if err == nil {
		if wrong := description().check(req.Method, req.URL.Path, r); wrong != nil {
			g.t.Error(wrong)
		}
	}
	return r, err
}

// must sends a request and expects status.
func (g *gate) must(id, method, target, body string, status int) reply {
	g.t.Helper()
	r, err := g.do(id, method, target, body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, target, err)
	}
	if r.status != status {
		g.t.Fatalf("%s %s: %d %q, want %d", method, target, r.status, r.body, status)
	}
	return r
}

func (g *gate) get(id, target string) string {
	g.t.Helper()
	return g.must(id, "GET", target, "", 200).body
}

// at is the request target of an operation at a coordinate of a phext.
func at(op, phext, coordinate string) string {
	return "/api/v2/" + op + "?p=" + url.QueryEscape(phext) + "&c=" + coordinate
}

const origin = "1.1.1/1.1.1/1.1.1"

// childrenOf is the pids of the SQ processes that serve a data directory, from
// /proc.
func childrenOf(dataDir string) []int {
	return processesWith("environ", "SQGATE_DATA_DIR="+dataDir+"\x00")
}

// killSQ returns when sqgate has taken note that a tenant's SQ was killed. On a busy machine, a process that ends may
// accept connections when its environ is empty already.
func (g *gate) killSQ(id string) {
	g.t.Helper()
	for _, pid := range childrenOf(g.dataDir(id)) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			g.t.Fatal(err)
		}
		eventually(g.t, "SQ is gone", func() bool {
			_, err := os.Stat(procfs.Path(pid, ""))
			return errors.Is(err, fs.ErrNotExist)
		})
	}
}

// endChildren kills the SQ processes with data below a directory of the test. A sqgate
// that was killed has left them behind.
func endChildren(dir string) {
	for _, pid := range processesWith("environ", "SQGATE_DATA_DIR="+dir+"/") {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}

// processesWith is the pids of the processes of which a file in /proc has a part: environ or
// cmdline, where each variable or argument has a NUL behind it.
func processesWith(file, part string) (with []int) {
	pids, _ := procfs.PIDs() // without /proc there is none
	for _, pid := range pids {
		text, err := os.ReadFile(procfs.Path(pid, file))
		if err == nil && bytes.Contains(text, []byte(part)) && !zombie(procfs.Path(pid, "")) {
			with = append(with, pid)
		}
	}
	return with
}

// zombie tells whether a process has ended, given its directory in /proc.
func zombie(proc string) bool {
	f, err := os.Open(proc + "/status")
	if err != nil {
		return true
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if state, ok := strings.CutPrefix(s.Text(), "State:"); ok {
			return strings.Contains(state, "Z") || strings.Contains(state, "X")
		}
	}
	return true
}
