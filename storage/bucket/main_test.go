package bucket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SQGATE_BUCKET_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	// Idle connections to a server of a test end after 90 s.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// stores has each implementation, empty, and what each says of itself.
func stores(t *testing.T, run func(t *testing.T, b Bucket)) {
	t.Run("memory", func(t *testing.T) { run(t, NewMemory()) })
	t.Run("directory", func(t *testing.T) {
		b, err := OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		run(t, b)
	})
	t.Run("s3", func(t *testing.T) { run(t, startVersityGW(t)) })
}

// startVersityGW starts a real S3 server, and returns an empty bucket of it.
func startVersityGW(t *testing.T) Bucket {
	path := os.Getenv("VERSITYGW")
	if path == "" {
		var err error
		if path, err = exec.LookPath("versitygw"); err != nil {
			t.Skip("there is no S3 server to test with: set VERSITYGW, or put versitygw on the PATH (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)")
		}
	}
	// A socket's path is limited to 107 bytes, which the names of tests can exceed.
	dir, err := os.MkdirTemp("", "vgw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "s")
	if err := os.MkdirAll(filepath.Join(dir, "data", "tests"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--port", socket, "--keep-alive", "--quiet", "posix", filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=tester", "ROOT_SECRET_KEY=secret-of-the-tester")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ready := lineWriter{lines: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = ready, ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	t.Setenv("AWS_ACCESS_KEY_ID", "tester")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-tester")
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }
	b, err := Open("s3://tests/a/prefix?endpoint=http://s3.test&region=us-east-1", Options{Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	// The socket is there a moment after the start; until then nothing is written.
	deadline := time.After(30 * time.Second)
	for {
		if _, err = b.Get(t.Context(), "not-there", ""); errors.Is(err, ErrNotFound) {
			return b
		}
		select {
		case <-deadline:
			t.Fatal("the S3 server does not answer:", err)
		case <-ready.lines:
		case <-time.After(20 * time.Millisecond): // it says nothing when it listens
		}
	}
}

// lineWriter notes that a process has written something.
type lineWriter struct{ lines chan struct{} }

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w.lines <- struct{}{}:
	default:
	}
	return len(b), nil
}
