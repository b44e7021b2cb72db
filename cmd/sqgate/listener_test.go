package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "[::]:0"} {
		taken, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, port, err := net.SplitHostPort(taken.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(t, builtin, "will")
		out, status := sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey}, "serve", "--config", g.configPath(), "--sq", builtin,
			"--state-dir", filepath.Join(g.dir, "state"), "--listen", "127.0.0.1:"+port)
		for _, want := range []string{"--listen: 127.0.0.1:" + port + " is taken by ", fmt.Sprintf("(pid %d)", os.Getpid()), "name another address"} {
			if status != 1 || !strings.Contains(out, want) {
				t.Errorf("%s: %d, %s does not say %q", addr, status, out, want)
			}
		}
	}
}

func TestListenError(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES: "ports below 1024", syscall.EADDRNOTAVAIL: "no interface", syscall.EADDRINUSE: "is taken: stop the program that has it (`systemctl stop sq.socket sq`", syscall.EMFILE: "--listen: too many",
	} {
		if err := listenError("--listen", "127.0.0.1:nobody", errno); !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

func TestStopTaker(t *testing.T) {
	t.Parallel()
	for want, pid := range map[string]int{"sq.socket: `systemctl stop sq.socket sq`": 1, " by sq (pid 7): stop that": 7} {
		if got := stopTaker(pid, "sq"); !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestTheLogHasTheVersion at the start, so that an upgrade can be seen in it.
func TestTheLogHasTheVersion(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	if log := g.log.String(); !strings.Contains(log, "version="+buildVersion()) {
		t.Error(log)
	}
}
