// Package s3test runs a real S3 server, versitygw, for tests. It keeps its objects in
// a directory of the test, and can be killed and started again.
package s3test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The credentials of the server, as Start puts them into the environment.
const (
	KeyID  = "tester"
	Secret = "the-secret-of-the-tester"
)

// startTimeout is how long a server may take to answer.
const startTimeout = 30 * time.Second

// Environment is what the environment has for a server's clients.
var Environment = map[string]string{"AWS_ACCESS_KEY_ID": KeyID, "AWS_SECRET_ACCESS_KEY": Secret}

// Server is a server with an empty bucket named "tests".
type Server struct {
	URL string // of the bucket, as --bucket has it

	t       testing.TB
	path    string // of versitygw
	dir     string
	addr    string
	command func(name string, args ...string) *exec.Cmd
	client  *http.Client // that reaches it
	cmd     *exec.Cmd    // nil = it does not run
}

// Start starts a server, and puts its credentials into the environment. It skips the
// test if there is no versitygw at the path in VERSITYGW or on the PATH.
func Start(t testing.TB) *Server {
	t.Helper()
	s := newServer(t)
	for range 5 { // another process may take the port first
		s.addr = freeAddress(t)
		if s.run() {
			s.URL = "s3://tests/prefix?endpoint=http://" + s.addr
			return s
		}
	}
	t.Fatal("the S3 server does not start")
	return nil
}

// StartAt is Start for a server in another network, at an address there: command makes a
// process there, and client reaches it.
func StartAt(t testing.TB, addr string, command func(name string, args ...string) *exec.Cmd, client *http.Client) *Server {
	t.Helper()
	s := newServer(t)
	s.addr, s.command, s.client = addr, command, client
	if !s.run() {
		t.Fatal("the S3 server does not start")
	}
	s.URL = "s3://tests/prefix?endpoint=http://" + s.addr
	return s
}

func newServer(t testing.TB) *Server {
	t.Helper()
	path := os.Getenv("VERSITYGW")
	if path == "" {
		var err error
		if path, err = exec.LookPath("versitygw"); err != nil {
			t.Skip("there is no S3 server to test with: set VERSITYGW, or put versitygw on the PATH (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)")
		}
	}
	s := &Server{t: t, path: path, dir: t.TempDir(), command: exec.Command, client: http.DefaultClient}
	if err := os.Mkdir(filepath.Join(s.dir, "tests"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range Environment {
		if os.Getenv(name) != value { // else tests may run in parallel
			t.Setenv(name, value)
		}
	}
	t.Cleanup(s.Kill)
	return s
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// Kill kills the server, in the middle of whatever it does.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself
	_ = s.cmd.Wait()         // it was killed
	s.cmd = nil
}

// Restart starts the server again after Kill, with its objects and its address. If it
// does not start, the test fails, but goes on: Restart may be called by any goroutine.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.run() {
		s.t.Error("the S3 server does not start again")
	}
}

// run says whether the server answers.
func (s *Server) run() bool {
	cmd := s.command(s.path, "--port", s.addr, "--keep-alive", "--quiet", "posix", s.dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+KeyID, "ROOT_SECRET_KEY="+Secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return false
	}
	s.cmd = cmd
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for ctx.Err() == nil && s.alive() {
		if s.answers(ctx) {
			return true
		}
		// It tells nobody when it begins to listen.
		time.Sleep(20 * time.Millisecond)
	}
	s.Kill()
	return false
}

// alive says whether the process has not ended yet.
func (s *Server) alive() bool {
	var info syscall.WaitStatus
	pid, err := syscall.Wait4(s.cmd.Process.Pid, &info, syscall.WNOHANG, nil)
	return pid == 0 && err == nil
}

// answers says whether an S3 server answers at the address: it refuses a request
// without a signature.
func (s *Server) answers(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/tests", nil)
	if err != nil {
		return false
	}
	r.Close = true
	answer, err := s.client.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close() // only the status counts
	return answer.StatusCode == http.StatusForbidden
}
