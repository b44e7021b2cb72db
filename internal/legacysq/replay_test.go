package legacysq

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "legacy-sq" {
		os.Exit(Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// recording is a file of testdata.
type recording struct {
	SQ        string     `json:"sq"`
	Key       string     `json:"key"`
	DataDir   string     `json:"data_dir"`
	Scenarios []scenario `json:"scenarios"`
}

type scenario struct {
	Name  string            `json:"scenario"`
	Seed  map[string]octets `json:"seed"`
	Steps []step            `json:"steps"`
	Files map[string]octets `json:"files"`
}

type step struct {
	Method        string          `json:"method"`
	Target        string          `json:"target"`
	Authorization json.RawMessage `json:"authorization"`
	Headers       [][2]string     `json:"headers"`
	Body          *octets         `json:"body"`
	HTTP          string          `json:"http"`
	Answer        *recorded       `json:"answer"`
}

type recorded struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"`
	Body    octets      `json:"body"`
}

// octets is {"text"} or {"base64"}.
type octets []byte

func (b *octets) UnmarshalJSON(in []byte) error {
	var v struct {
		Text   *string `json:"text"`
		Base64 string  `json:"base64"`
	}
	if err := json.Unmarshal(in, &v); err != nil {
		return err
	}
	if v.Text != nil {
		*b = octets(*v.Text)
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(v.Base64)
	*b = raw
	return err
}

func load(t *testing.T, release string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "sq-"+release+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// wire is the request as it was sent when it was recorded.
func (s step) wire(key string) []byte {
	version := s.HTTP
	if version == "" {
		version = "HTTP/1.1"
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s %s\r\nHost: sq\r\n", s.Method, s.Target, version)
	authorization := "Bearer " + key
	switch {
	case s.Authorization == nil:
		fmt.Fprintf(&out, "Authorization: %s\r\n", authorization)
	case string(s.Authorization) != "null":
		_ = json.Unmarshal(s.Authorization, &authorization) // it was valid inside the recording
		fmt.Fprintf(&out, "Authorization: %s\r\n", authorization)
	}
	chunked := false
	for _, h := range s.Headers {
		fmt.Fprintf(&out, "%s: %s\r\n", h[0], h[1])
		chunked = chunked || strings.EqualFold(h[0], "Transfer-Encoding")
	}
	if s.Body != nil && !chunked {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(*s.Body))
	}
	out.WriteString("\r\n")
	if s.Body != nil {
		out.Write(*s.Body)
	}
	return out.Bytes()
}

// answered is the recorded answer as bytes, or nothing.
func (s step) answered() []byte {
	if s.Answer == nil {
		return nil
	}
	var out bytes.Buffer
	text := statusText[s.Answer.Status]
	if s.Answer.Status == 204 {
		text = "No Content"
	}
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", s.Answer.Status, text)
	for _, h := range s.Answer.Headers {
		fmt.Fprintf(&out, "%s: %s\r\n", h[0], h[1])
	}
	out.WriteString("\r\n")
	out.Write(s.Answer.Body)
	return out.Bytes()
}

const patience = 30 * time.Second

// exchange sends bytes and reads to the end of the connection. SQ may close
// with something unread, which the other side sees as a reset.
func exchange(t *testing.T, addr string, request []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a TCP connection takes deadlines
	if _, err := conn.Write(request); err != nil {
		t.Logf("writing: %v", err)
	}
	if len(request) == 0 {
		return nil
	}
	var got bytes.Buffer
	if _, err := io.Copy(&got, conn); err != nil && got.Len() == 0 && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("reading: %v", err)
	}
	return got.Bytes()
}

func TestReplayStandIn(t *testing.T) {
	for _, release := range []string{Release053, Release056} {
		t.Run(release, func(t *testing.T) {
			r := load(t, release)
			if len(r.Scenarios) == 0 {
				t.Fatal("the recording is empty")
			}
			for _, s := range r.Scenarios {
				t.Run(s.Name, func(t *testing.T) {
					t.Chdir(t.TempDir())
					seed(t, r, s)
					l, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					server, done := New(Config{Release: release, Key: r.Key, HasKey: true, DataDir: r.DataDir, Log: io.Discard}), make(chan struct{})
					go func() { defer close(done); server.Serve(l) }()
					defer func() { l.Close(); <-done }()
					replay(t, r, s, l.Addr().String(), nil)
				})
			}
		})
	}
}

func seed(t *testing.T, r recording, s scenario) {
	t.Helper()
	if err := os.Mkdir(r.DataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range s.Seed {
		if err := os.WriteFile(filepath.Join(r.DataDir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replay sends a scenario's steps and compares every answer and the files left behind.
func replay(t *testing.T, r recording, s scenario, addr string, changed map[string]string) {
	t.Helper()
	exchange(t, addr, nil) // the recorder looked first whether SQ listened: connection 1
	for i, step := range s.Steps {
		want := string(step.answered())
		place := fmt.Sprintf("%s step %d", s.Name, i+1)
		if other, ok := changed[place]; ok {
			if other == want {
				t.Errorf("%s: listed as different, but it is as recorded", place)
			}
			want = other
		}
		if got := string(exchange(t, addr, step.wire(r.Key))); got != want {
			t.Errorf("%s: %s %s\n got %.400q\nwant %.400q", place, step.Method, step.Target, got, want)
		}
	}
	compareFiles(t, r, s)
}

func compareFiles(t *testing.T, r recording, s scenario) {
	t.Helper()
	entries, err := os.ReadDir(r.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		text, err := os.ReadFile(filepath.Join(r.DataDir, e.Name()))
		if err != nil || !bytes.Equal(text, s.Files[e.Name()]) {
			t.Errorf("%v: file %s holds %.200q, want %.200q", err, e.Name(), text, s.Files[e.Name()])
		}
	}
	for name := range s.Files {
		if !slices.Contains(names, name) {
			t.Errorf("file %s is missing", name)
		}
	}
}

// realSQ is the SQ to replay against, if there is one.
func realSQ(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SQ_BIN"); path != "" {
		return path
	}
	path, err := exec.LookPath("sq")
	if err != nil {
		t.Skip("no SQ: neither SQ_BIN nor sq on PATH")
	}
	return path
}

// newerLibrary lists what an SQ built today answers otherwise than was
// recorded, by scenario and step. The recordings were made with a libphext
// from before 0.3.1, which every release of SQ that can be installed requires:
// since then, toc prints the whole first line of a scroll, and no text breaks it.
func newerLibrary(r recording) map[string]string {
	ok := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	digits, accents := strings.Repeat("0123456789", 5), strings.Repeat("\u00e9", 40)
	split := "* 1.1.1/1.1.1/1.1.1: " + strings.Repeat("a", 31) + "\u00e9zzz\n"
	changed := map[string]string{
		"seeded long step 1":      ok("* 1.1.1/1.1.1/1.1.1: " + digits + "\n* 1.1.1/1.1.1/1.1.2: abc\n"),
		"seeded long step 11":     ok("* 1.1.1/1.1.1/1.1.1: " + digits + "\n* 1.1.1/1.1.1/1.1.2: abc\n* 1.1.1/1.1.1/1.3.2: NEW\n"),
		"seeded utf8 step 1":      ok("* 1.1.1/1.1.1/1.1.1: " + accents + "\n* 1.1.1/1.1.1/1.1.2: z\n"),
		"seeded utf8 step 11":     ok("* 1.1.1/1.1.1/1.1.1: " + accents + "\n* 1.1.1/1.1.1/1.1.2: z\n* 1.1.1/1.1.1/1.3.2: NEW\n"),
		splitScenario + " step 2": ok(split),
	}
	if r.SQ == Release053 { // there, the recorded process was broken from then on
		changed[splitScenario+" step 3"] = ok(Release053)
		changed[splitScenario+" step 4"] = ok(strings.Repeat("a", 31) + "\u00e9zzz")
	}
	return changed
}

const splitScenario = "toc on a character split at byte 32 breaks the process"

func TestReplayRealSQ(t *testing.T) {
	program := realSQ(t)
	release := versionOf(t, program)
	if release != Release053 {
		release = Release056
	}
	r := load(t, release)
	changed := map[string]string{}
	if wholeLines(t, r, program) {
		changed = newerLibrary(r)
	}
	for _, s := range r.Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			seed(t, r, s)
			addr := startReal(t, program, r)
			if s.Name == splitScenario && len(changed) > 0 && release == Release053 {
				s.Files[".phext"] = nil // the version that is answered now leaves it behind
			}
			replay(t, r, s, addr, changed)
		})
	}
}

func versionOf(t *testing.T, program string) string {
	t.Helper()
	cmd := exec.Command(program, "version")
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// wholeLines asks the program itself which toc it has.
func wholeLines(t *testing.T, r recording, program string) bool {
	t.Helper()
	t.Chdir(t.TempDir())
	seed(t, r, scenario{Seed: map[string]octets{"n.phext": octets(strings.Repeat("x", 40))}})
	answer := exchange(t, startReal(t, program, r), step{Method: "GET", Target: "/api/v2/toc?p=n"}.wire(r.Key))
	return bytes.Contains(answer, []byte(strings.Repeat("x", 40)))
}

// startReal starts a fresh SQ process in the present directory.
func startReal(t *testing.T, program string, r recording) string {
	t.Helper()
	for range 20 {
		port := freePort(t)
		cmd := exec.Command(program, "host", port, "--key", r.Key, "--data-dir", r.DataDir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		listening, drained := make(chan bool, 1), make(chan struct{})
		go func() { defer close(drained); drain(out, listening) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-drained; _ = cmd.Wait() }) // its status says that it was killed
		select {
		case ok := <-listening:
			if ok {
				return "127.0.0.1:" + port
			}
		case <-time.After(patience):
			t.Fatal("SQ did not start")
		}
	}
	t.Fatal("SQ found no port")
	return ""
}

// drain reads what SQ writes, and says whether it came to listen.
func drain(out io.Reader, listening chan<- bool) {
	var seen bytes.Buffer
	step := make([]byte, 4096)
	said := false
	for {
		n, err := out.Read(step)
		if !said && seen.Len() < 1<<16 {
			seen.Write(step[:n])
			if bytes.Contains(seen.Bytes(), []byte("listening on port")) {
				said = true
				listening <- true
			}
		}
		if err != nil {
			if !said {
				listening <- false
			}
			return
		}
	}
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

// TestMainAsAProcess starts the stand-in as sqgate does, and asks it one thing.
func TestMainAsAProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := load(t, Release053)
	t.Chdir(t.TempDir())
	wrapper := filepath.Join(t.TempDir(), "sq")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\nexec '"+self+"' legacy-sq --release 0.5.3 \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := versionOf(t, wrapper); got != Release053 {
		t.Errorf("version is %q", got)
	}
	if err := os.Mkdir(r.DataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	addr := startReal(t, wrapper, r)
	got := exchange(t, addr, step{Method: "GET", Target: "/api/v2/version"}.wire(r.Key))
	if !bytes.HasSuffix(got, []byte("\r\n\r\n0.5.3")) {
		t.Errorf("answered %q", got)
	}
}
