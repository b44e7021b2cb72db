package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestDemoOfSeveralHosts runs three hosts, kills one, and runs them again.
func TestDemoOfSeveralHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { endChildren(dir) }) // of the host that is killed
	for _, args := range [][]string{{"--hosts", "0"}, {"--hosts", "10"}} {
		text, err := demoCommand(t.Context(), t, dir, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(text), "1 to 9 are wanted") {
			t.Errorf("%v: %v %s", args, err, text)
		}
	}
	for _, wanted := range []string{"", "text"} {
		d := &runningDemo{t: t, out: &logBuffer{grown: make(chan struct{})}, log: &logBuffer{grown: make(chan struct{})}}
		d.cmd = demoCommand(t.Context(), t, dir, "--listen", "127.0.0.1:0", "--hosts", "3")
		d.cmd.Stdout, d.cmd.Stderr = d.out, d.log
		if err := d.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		defer cancel()
		found, err := d.out.await(ctx, regexp.MustCompile(`(?s)h1  (http://\S+)  .*h2  (http://\S+)  .*h3  (http://\S+)  pid (\d+) .*Then kill one`))
		if err != nil {
			t.Fatalf("%v\n%s", err, d.log)
		}
		for _, url := range found[1:4] {
			eventually(t, "each host has the phext", func() bool { return demoCall(t, dir, "GET", url, "select", "") == wanted })
		}
		if got := demoCall(t, dir, "POST", found[2], "update", "text"); got != "Updated 4 bytes" {
			t.Error(got)
		}
		pid, err := strconv.Atoi(found[4])
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the others serve it", func() bool { return demoCall(t, dir, "GET", found[1], "select", "") == "text" })
		d.stop()
	}
}

// demoCall is the text that will gets.
func demoCall(t *testing.T, dir, method, url, op, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, url+at(op, "notes", origin), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+demoKey(t, dir, "WILL"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
