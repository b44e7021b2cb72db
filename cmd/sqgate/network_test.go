package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const shared = "any local user can read and write all tenants' data"

// reachable keeps the children of a gate in the network of the test.
const reachable = "--private-network=false"

// asSomebody makes a gate run as a user without rights, if the test itself is root.
func (g *gate) asSomebody() {
	g.t.Helper()
	const somebody = 54321
	if os.Geteuid() == 0 {
		g.user = &syscall.Credential{Uid: somebody, Gid: somebody}
	}
	g.give(g.dir)
	g.give(g.configPath())
	if err := os.Chmod(filepath.Dir(g.dir), 0o711); err != nil {
		g.t.Fatal(err)
	}
	g.needNetworks("--user", "--net")
	if text, err := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); err == nil && strings.TrimSpace(string(text)) != "0" {
		g.t.Skip("AppArmor lets no ordinary user configure a network")
	}
	if g.user == nil {
		return
	}
	g.self = g.copyIn(g.self)
	if g.sq != builtin {
		g.sq = g.copyIn(g.sq)
	}
}

// needNetworks skips the test if the gate's user cannot make a network, or cannot
// reach the test's directory.
func (g *gate) needNetworks(flags ...string) {
	g.t.Helper()
	cmd := exec.Command("unshare", append(flags, "true")...)
	cmd.Dir, cmd.SysProcAttr = g.dir, &syscall.SysProcAttr{Credential: g.user}
	if said, err := cmd.CombinedOutput(); err != nil {
		g.t.Skipf("no network of its own is to be had here: %v %s", err, said)
	}
}

// give makes a file that the test has made belong to the user of the gate.
func (g *gate) give(path string) {
	g.t.Helper()
	if g.user == nil {
		return
	}
	if err := os.Chown(path, int(g.user.Uid), int(g.user.Gid)); err != nil {
		g.t.Fatal(err)
	}
}

// makeDataDir makes a tenant's directory before sqgate does.
func (g *gate) makeDataDir(id string) {
	g.t.Helper()
	for _, path := range []string{filepath.Dir(g.dataDir(id)), g.dataDir(id)} {
		if err := os.Mkdir(path, 0o700); err != nil {
			g.t.Fatal(err)
		}
		g.give(path)
	}
}

// copyIn copies a program to where everybody may run it. Another process does it:
// a file that this one has open for writing could be inherited by what another test
// starts, and then not be executed.
func (g *gate) copyIn(path string) string {
	g.t.Helper()
	to := filepath.Join(g.dir, filepath.Base(path))
	if out, err := exec.Command("cp", "--", path, to).CombinedOutput(); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(to, 0o755); err != nil {
		g.t.Fatal(err)
	}
	return to
}

// childPort is the port of the one child of a tenant, from its argument list.
func (g *gate) childPort(id string) string {
	g.t.Helper()
	pids := childrenOf(g.dataDir(id))
	if len(pids) != 1 {
		g.t.Fatalf("%s has the children %v", id, pids)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pids[0]))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\x00host\x00")
	port, _, _ := strings.Cut(rest, "\x00")
	if _, err := strconv.Atoi(port); err != nil {
		g.t.Fatalf("a child's arguments are %q", text)
	}
	return port
}

// hostAddresses is 127.0.0.1 and the IPv4 addresses of the host's interfaces.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	found := []string{"127.0.0.1"}
	for _, a := range all {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			found = append(found, ip.String())
		}
	}
	return found
}

// reach connects to a port on every address of the host, and returns the addresses
// on which that works. On the others, nobody listens.
func reach(t *testing.T, port string) (reached []string) {
	t.Helper()
	for _, address := range hostAddresses(t) {
		conn, err := net.Dial("tcp4", net.JoinHostPort(address, port))
		switch {
		case err == nil:
			reached = append(reached, address)
			_ = conn.Close() // nothing was sent
		case !errors.Is(err, syscall.ECONNREFUSED):
			t.Errorf("%s: %v", address, err)
		}
	}
	return reached
}

// forRootAndOthers runs a test with a gate that its user may give a network, and
// with one that needs a user namespace for it.
func forRootAndOthers(t *testing.T, test func(t *testing.T, g *gate)) {
	t.Helper()
	forEachSQ(t, func(t *testing.T, sq string) {
		if os.Geteuid() == 0 {
			t.Run("root", func(t *testing.T) {
				g := newGate(t, sq, "will")
				g.needNetworks("--net")
				test(t, g)
			})
		}
		t.Run("another user", func(t *testing.T) {
			g := newGate(t, sq, "will")
			g.asSomebody()
			test(t, g)
		})
	})
}

func TestNobodyReachesAChild(t *testing.T) {
	forRootAndOthers(t, func(t *testing.T, g *gate) {
		g.start()
		g.must("will", "POST", at("update", "n", origin), "text", 200)
		if reached := reach(t, g.childPort("will")); len(reached) > 0 {
			t.Errorf("SQ is reached at %v", reached)
		}
		if got := g.get("will", at("select", "n", origin)); got != "text" {
			t.Errorf("the tenant reads %q", got)
		}
		if strings.Contains(g.log.String(), shared) {
			t.Error("the log says that SQ can be reached")
		}
	})
}

// TestItSaysWhenAChildCanBeReached also shows that reach would reach one.
func TestItSaysWhenAChildCanBeReached(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args, env []string
		reason    string
	}{
		"not wanted": {[]string{reachable}, nil, "--private-network is false"},
		"no unshare": {nil, []string{"PATH=/nowhere"}, "executable file not found"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, builtin, "will")
			g.args, g.env = c.args, c.env
			g.start()
			g.must("will", "POST", at("update", "n", origin), "text", 200)
			if reached := reach(t, g.childPort("will")); len(reached) != len(hostAddresses(t)) {
				t.Errorf("SQ is reached only at %v", reached)
			}
			log := g.log.String()
			if strings.Count(log, shared) != 1 || !strings.Contains(log, c.reason) {
				t.Errorf("the log does not say once that %q, because of %q:\n%s", shared, c.reason, log)
			}
		})
	}
}

// TestAnotherNetworkDoesNotHideOrphans kills a gateway. The next one has another
// network, and another user namespace. It must find the child that was left.
func TestAnotherNetworkDoesNotHideOrphans(t *testing.T) {
	forRootAndOthers(t, func(t *testing.T, g *gate) {
		g.start()
		watchForTwo(t, g.dataDir("will"))
		for round := range 2 {
			g.must("will", "POST", at("update", "n", origin), "text", 200)
			left := childrenOf(g.dataDir("will"))
			g.kill()
			g.start()
			text := fmt.Sprint("after kill ", round)
			g.must("will", "POST", at("update", "n", origin), text, 200)
			if now := childrenOf(g.dataDir("will")); len(left) != 1 || len(now) != 1 || now[0] == left[0] {
				t.Errorf("children %v, and before the kill %v", now, left)
			}
			if got := g.get("will", at("select", "n", origin)); got != text {
				t.Errorf("the tenant reads %q", got)
			}
		}
	})
}

// TestAnOrphanThatWritesKeepsSqgateOutside has a process hold the directory as an
// orphan does in the middle of a write. In a user namespace, sqgate could not see it
// end.
func TestAnOrphanThatWritesKeepsSqgateOutside(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.asSomebody()
	dir := g.dataDir("will")
	g.makeDataDir("will")
	ready, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("flock", "--no-fork", dir, "/bin/sh", "-c", `exec 9>"$0"/n.phext && echo >&3 && exec sleep 600`, dir)
	orphan.Env = []string{"SQGATE_PARENT=1:0"}
	orphan.SysProcAttr = &syscall.SysProcAttr{Credential: g.user, Setpgid: true}
	orphan.ExtraFiles = []*os.File{says}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-orphan.Process.Pid, syscall.SIGKILL); _ = orphan.Wait() }() // it ends by the signal
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	g.start()
	if log := g.log.String(); strings.Count(log, shared) != 1 || !strings.Contains(log, errOrphansWrite.Error()) {
		t.Errorf("the log does not say why sqgate has no network of its own:\n%s", log)
	}
}

// TestAnotherNetworkDoesNotHideSQ starts an SQ of the same user on a directory that
// sqgate serves. sqgate must see it from its user namespace.
func TestAnotherNetworkDoesNotHideSQ(t *testing.T) {
	forRootAndOthers(t, func(t *testing.T, g *gate) {
		if g.sq == builtin {
			t.Skip("the stand-in is started by sqgate only")
		}
		g.start()
		g.must("will", "GET", at("select", "n", origin), "", 200)
		dir := g.dataDir("will")
		g.makeDataDir("will")
		port := freePort(t)
		sq := exec.Command(g.sq, "host", port, "--key", "k", "--data-dir", dir)
		sq.Dir, sq.SysProcAttr = g.dir, &syscall.SysProcAttr{Credential: g.user}
		if err := sq.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sq.Process.Kill(); _ = sq.Wait() }() // it ends by the signal
		eventually(t, "the other SQ listens", func() bool { return len(reach(t, port)) > 0 })
		r := g.must("will", "POST", at("update", "n", origin), "text", 503)
		ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
		defer cancel()
		if _, err := g.log.await(ctx, regexp.MustCompile("an SQ that sqgate did not start")); err != nil {
			t.Errorf("%q, and %v", r.body, err)
		}
	})
}

// TestAGroupThatTheUserNamespaceHides has the tenants file replaced, and other files
// made, in directories that give them a group that does not exist for sqgate.
func TestAGroupThatTheUserNamespaceHides(t *testing.T) {
	t.Parallel()
	g := newGate(t, builtin, "will")
	g.asSomebody()
	if g.user == nil {
		t.Skip("only root can make a directory of any group")
	}
	const group = 54322
	g.user.Groups = []uint32{group}
	for _, path := range []string{g.dir, g.configPath()} {
		if err := os.Chown(path, int(g.user.Uid), group); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(g.dir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	g.start()
	g.must("will", "POST", at("update", "n", origin), "text", 200)
	g.manage("POST", "tenants/add", `{"tenant_id":"ann"}`, 201)
	g.stop()
	for _, path := range []string{g.configPath(), filepath.Join(g.dataDir("will"), "n.phext"), filepath.Join(g.dir, "state", "calls.json")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != g.user.Uid || st.Gid != group {
			t.Errorf("%s belongs to %d:%d now", path, st.Uid, st.Gid)
		}
	}
}
