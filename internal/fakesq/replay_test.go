package fakesq

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
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

const testTimeout = 30 * time.Second

// exchange sends bytes and reads to the end of the connection. SQ may close it
// before it has read everything, which shows here as a reset.
func exchange(t *testing.T, addr string, request []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testTimeout)) // a TCP connection has deadlines
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

// ok is a successful answer of SQ, byte for byte.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// startStandIn serves on a loopback port until the test ends.
func startStandIn(t *testing.T, c Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { New(c).Serve(l); close(served) }()
	t.Cleanup(func() {
		_ = l.Close() // it can only have been closed already
		<-served
	})
	return l.Addr().String()
}

func TestReplayStandIn(t *testing.T) {
	for _, release := range releases {
		r := load(t, release)
		if len(r.Scenarios) == 0 {
			t.Fatal("the recording is empty")
		}
		for _, s := range r.Scenarios {
			t.Run(release+"/"+s.Name, func(t *testing.T) {
				t.Chdir(t.TempDir())
				seed(t, r, s)
				addr := startStandIn(t, Config{Release: release, Key: r.Key, HasKey: true, DataDir: r.DataDir})
				replay(t, r, s, addr)
			})
		}
	}
}

func TestReplayRealSQ(t *testing.T) {
	path := realSQ()
	if path == "" {
		t.Skip("no SQ: neither SQ_BIN nor sq on PATH")
	}
	program := program{path}
	r := load(t, program.version(t))
	for _, s := range r.Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			seed(t, r, s)
			replay(t, r, s, program.start(t, r).addr)
		})
	}
}

// seed makes the data directory and the files that a scenario starts with.
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

// replay sends a scenario's steps. It compares every answer, and the files at the
// end, with the recording.
func replay(t *testing.T, r recording, s scenario, addr string) {
	t.Helper()
	exchange(t, addr, nil) // the recorder's first connection only checked that SQ listened
	for i, step := range s.Steps {
		want := string(step.answered())
		if got := string(exchange(t, addr, step.wire(r.Key))); got != want {
			t.Errorf("step %d: %s %s\n got %.400q\nwant %.400q", i+1, step.Method, step.Target, got, want)
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
