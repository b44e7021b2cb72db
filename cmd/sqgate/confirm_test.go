package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudoterminal: typed is where a person types, and stdin what a
// program reads that from.
func openTerminal(t *testing.T) (typed, stdin *os.File) {
	t.Helper()
	typed, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = typed.Close() })
	if err := unix.IoctlSetPointerInt(int(typed.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(typed.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	stdin, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() })
	return typed, stdin
}

// atTerminal runs a command whose standard input is a terminal, at which answer is typed.
func (g *gate) atTerminal(answer string, args ...string) (string, int) {
	g.t.Helper()
	typed, stdin := openTerminal(g.t)
	if _, err := io.WriteString(typed, answer+"\n"); err != nil {
		g.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), waitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin, cmd.Env = stdin, append(os.Environ(), asSqgate+"=1", "SQ_ADMIN_KEY="+adminKey, "SQGATE_URL="+g.url)
	out, _ := cmd.CombinedOutput() // the exit status is returned instead
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCommandsAskBeforeDataIsLost runs each without a terminal, and with one at which
// something else than yes is typed, before it is typed or given as a flag.
func TestCommandsAskBeforeDataIsLost(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	file := filepath.Join(t.TempDir(), "will.tar")
	write := func(text string) { g.must("will", "POST", at("update", "notes", origin), text, 200) }
	holds := func(want string) {
		t.Helper()
		if got := g.get("will", at("select", "notes", origin)); got != want {
			t.Errorf("the phext holds %q, want %q", got, want)
		}
	}
	write("one")
	g.mustOperate("backup", "will", file)
	write("two")
	said := func(out string, status, wantStatus int, pattern string) {
		t.Helper()
		if status != wantStatus || !regexp.MustCompile(`(?s)^`+pattern+`\n$`).MatchString(out) {
			t.Errorf("status %d, want %d and %s:\n%s", status, wantStatus, pattern, out)
		}
	}
	quietly := func(args ...string) (string, int) {
		return sqgateOutput(t, []string{"SQ_ADMIN_KEY=" + adminKey, "SQGATE_URL=" + g.url}, args...)
	}
	for name, args := range map[string][]string{
		"from a backup": {"restore", "will", "--from", file},
		"to a moment":   {"restore", "will", "notes", "--at", g.moments(t)[0]},
		"over another":  {"restore", "will", "notes", "--at", g.moments(t)[0], "--to", "notes"},
	} {
		out, status := quietly(args...)
		said(out, status, 2, `sqgate: this replaces or removes 1 of the phexts of tenant "will" \(--dry-run says which\), and there is no terminal to ask on: nothing was done; give --yes if that is what you want`)
		out, status = g.atTerminal("no", args...)
		said(out, status, 1, `PHEXT  BYTES  RESULT\nnotes  3      would be restored\nThe history keeps what these phexts are now\.\nType yes to go on: sqgate: nothing was done`)
		holds("two")
		out, status = g.atTerminal("yes", args...)
		said(out, status, 0, `.*Type yes to go on: PHEXT  BYTES  RESULT\nnotes  3      restored`)
		holds("one")
		out, status = quietly(args...)
		said(out, status, 0, `PHEXT  BYTES  RESULT\nnotes  3      as it was already`) // nothing is replaced, and nothing asked
		write("two")
		t.Log(name)
	}
	out, status := quietly("restore", "will", "--from", "-")
	said(out, status, 2, `sqgate: a backup from a pipe cannot be looked at before it is restored: give --yes, or --dry-run to see what would change`)
	out, status = quietly("restore", "will", "notes", "--at", "0s", "--to", "copy")
	said(out, status, 0, `.*copy +3 +restored`)

	out, status = quietly("tenant", "delete", "will")
	said(out, status, 2, `sqgate: this deletes tenant "will", and there is no terminal to ask on: nothing was done; give --yes if that is what you want`)
	out, status = g.atTerminal("y", "tenant", "delete", "will")
	said(out, status, 1, `Tenant "will" is active and has 2 phexts, 0\.000 MB\. Its data go into an archive, and its key stops working\.\nType yes to go on: sqgate: nothing was done`)
	holds("two")
	out, status = g.atTerminal("yes", "tenant", "delete", "will")
	said(out, status, 0, `.*status +archived.*`)
	out, status = quietly("tenant", "purge", "will")
	said(out, status, 2, `sqgate: this erases what is left of tenant "will", for good, and there is no terminal to ask on: nothing was done; give --yes if that is what you want`)
	out, status = g.atTerminal("yes", "tenant", "purge", "will")
	said(out, status, 1, `The archives, the history and the entry of tenant "will" are erased, and nothing brings them back\.\nType will to go on: sqgate: nothing was done`)
	out, status = g.atTerminal("will", "tenant", "purge", "will")
	said(out, status, 0, `.*status +purged.*`)
}

// moments are the times of the events in the history of will.
func (g *gate) moments(t *testing.T) (all []string) {
	t.Helper()
	for _, e := range g.history("will") {
		all = append(all, e.(map[string]any)["time"].(string))
	}
	if strings.Join(all, "") == "" {
		t.Fatal("there is no history")
	}
	return all
}
