package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/fakesq"
)

// TestMain lets the test binary be what the tests start: the stand-in for SQ, in
// several forms, or an sqgate that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "legacy-sq":
			os.Exit(fakesq.Main(os.Args[2:], os.Stdout, os.Stderr))
		case "peeks":
			if _, err := os.ReadFile("/etc/passwd"); err == nil {
				fmt.Println("read /etc/passwd")
			}
			os.Exit(fakesq.Main(os.Args[2:], os.Stdout, os.Stderr))
		case "unannounced":
			os.Exit(fakesq.Main(os.Args[2:], io.Discard, os.Stderr))
		case "fails":
			fmt.Println("something is broken")
			os.Exit(3)
		case "silent":
			_, _ = io.Copy(io.Discard, waitForever{})
		case "gateway":
			os.Exit(gateway(os.Args[2], os.Args[3]))
		}
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

type waitForever struct{}

func (waitForever) Read(p []byte) (int, error) { time.Sleep(time.Hour); return 0, io.EOF }

// gateway is an sqgate that serves one directory, says so, and waits.
func gateway(workDir, dir string) int {
	s, err := New(Config{Command: sqCommand(), WorkDir: workDir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := s.Lease(context.Background(), dir); err != nil {
		fmt.Println(err)
		return 1
	}
	c := s.Children()[0]
	fmt.Println("serving", c.PID, c.Port, s.slots[dir].child.key)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	return 0
}

// sqCommand is a real SQ if there is one, else the stand-in.
func sqCommand() []string {
	if path := os.Getenv("SQ_BIN"); path != "" {
		return []string{path}
	}
	if path, err := exec.LookPath("sq"); err == nil {
		return []string{path}
	}
	return self("legacy-sq")
}

func self(mode string) []string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{path, mode}
}

// quick is a configuration for tests; change overrides it.
func quick(t *testing.T, change func(*Config)) Config {
	t.Helper()
	c := Config{
		Command: sqCommand(), WorkDir: t.TempDir(), LogDir: t.TempDir(),
		StopTimeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&c)
	}
	return c
}

func newSupervisor(t *testing.T, change func(*Config)) *Supervisor {
	t.Helper()
	s, err := New(quick(t, change))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(soon(t)); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// soon ends long after everything should have happened.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustLease(t *testing.T, s *Supervisor, dir string) *Lease {
	t.Helper()
	l, err := s.Lease(soon(t), dir)
	if err != nil {
		t.Fatalf("Lease: %v", err)
	}
	return l
}

// call makes one request to a child, POST if there is a body.
func call(addr, key, op, body string, query ...string) (string, error) {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	method := "GET"
	if body != "" {
		method = "POST"
	}
	head := fmt.Sprintf("%s /api/v2/%s?%s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n",
		method, op, values.Encode(), key, len(body))
	if _, err := io.WriteString(conn, head+body); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %d: %s", answer.StatusCode, text))
	}
	return string(text), err
}

func dataDir(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }
