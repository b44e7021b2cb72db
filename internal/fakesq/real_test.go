package fakesq

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// realSQ is the SQ to test against, or empty if there is none.
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

// ok is a whole answer of SQ.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
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
