package main

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestAStopThatCutsOffAnUploadIsNoFailure: the client had its time.
func TestAStopThatCutsOffAnUploadIsNoFailure(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		g.args = append(g.args, "--shutdown-timeout", "100ms")
		g.writeFile()
		g.start()
		g.must("will", "POST", at("update", "n", origin), "x", 200)
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: sqgate\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n", at("update", "n", origin), g.key("will"))
		if _, err := conn.Read(make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil { // it reads the body
			t.Fatal(err)
		}
		_ = g.cmd.Process.Signal(syscall.SIGTERM) // it runs
		g.wait()
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if log := g.log.String(); !regexp.MustCompile(`level=WARN msg="requests were cut off"`).MatchString(log) {
			t.Error("nothing is said of the request")
		}
	})
}
