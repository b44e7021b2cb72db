package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// foreignFile is a tenants file of another program. In it, DIR stands for the
// directory of the data.
type foreignFile struct {
	name, text string
	steps      []string // that init prints, in their order
}

var foreignFiles = []foreignFile{
	{"SQ", `{"tenants": {"key-of-alice": {"name": "Alice", "data_dir": "DIR/alice"}, "key-of-bob": {"name": "bob", "data_dir": "DIR/bob"}}}`,
		[]string{"Next, in this order:\n  1. stop the SQ that serves these directories\n  2. sqgate check --config /", "\n  3. s"}},
	{"SQ router", `{"tenants": [{"token": "key-of-alice", "port": 1338, "data_dir": "DIR/alice"}, {"token": "key-of-bob", "port": 1339, "data_dir": "DIR/bob"}]}`,
		[]string{"1. stop the router, and", "\n  2. sqgate check"}},
	{"Python gateway", "[gateway]\nlisten_port = 8080\nadmin_key = \"the-old-admin-key\"\n\n[[tenants]]\ntoken = \"key-of-alice\"\nname = \"alice\"\nport = 1337\nphext = \"notes\"\n\n[[tenants]]\ntoken = \"key-of-bob\"\nname = \"bob\"\nport = 1338\nphext = \"bob\"\n",
		[]string{"1. stop the gateway, and", "2. tenant \"alice\": move the *.phext files", "3. tenant \"bob\": move", "4. the gateway listened on port 8080", "5. the gateway's admin_key", "6. sqgate check"}},
}

// TestInitFrom converts each foreign file, and serves its tenants with the keys
// that they had.
func TestInitFrom(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		for _, f := range foreignFiles {
			t.Run(f.name, func(t *testing.T) {
				g := newGate(t, sq)
				if err := os.Remove(g.configPath()); err != nil {
					t.Fatal(err)
				}
				data := filepath.Join(g.dir, "data")
				writeTestFile(t, filepath.Join(data, "alice", "notes.phext"), "hers")
				writeTestFile(t, filepath.Join(data, "bob", "notes.phext"), "his")
				from := filepath.Join(g.dir, "from")
				writeTestFile(t, from, strings.ReplaceAll(f.text, "DIR", data))
				before := snapshot(t, data, ".")
				out, status := sqgateOutput(t, nil, "init", "--from", from, "--config", g.configPath(), "--data-root", data)
				if status != 0 || !strings.Contains(out, "alice: 1 phexts in "+data+"/alice") || strings.Contains(out, "key-of") {
					t.Fatalf("%d %s", status, out)
				}
				for _, want := range f.steps {
					where := strings.Index(out, want)
					if where < 0 {
						t.Errorf("there is no %q, or not in its place, in\n%s", want, out)
					}
					out = out[max(where, 0):]
				}
				if info, err := os.Stat(g.configPath()); err != nil || info.Mode().Perm() != 0o600 || snapshot(t, data, ".") != before {
					t.Errorf("%v: mode %v, or data were touched", err, info.Mode())
				}
				g.start()
				for key, want := range map[string]string{"key-of-alice": "hers", "key-of-bob": "his"} {
					if r, err := g.doKey(key, "GET", at("select", "notes", origin)); err != nil || r.body != want {
						t.Errorf("%s reads %v %d %q", key, err, r.status, r.body)
					}
				}
			})
		}
	})
}

// writeTestFile writes a file, and creates its directory.
func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeScript has another process write a program: one that this process has open for writing cannot be executed, and
// whatever it starts meanwhile has that open, too.
func writeScript(t *testing.T, path, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `umask 077; cat > "$0" && chmod 700 "$0"`, path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestInitFromKeepsExistingFiles has the tenants file of SQ 0.5.6 where sqgate
// keeps its own, which is the usual place for both.
func TestInitFromKeepsExistingFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "tenants.json")
	text := strings.ReplaceAll(foreignFiles[0].text, "DIR", dir)
	writeTestFile(t, config, text)
	convert := func(args ...string) (string, int) {
		return sqgateOutput(t, nil, append([]string{"init", "--config", config, "--from"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{config}, "--replace"},
		{[]string{filepath.Join(dir, "none"), "--replace"}, "none"},
		{[]string{config, "--replace", "--key", "a-new-key"}, "--key"},
		{[]string{config, "--replace", "--adopt", dir}, "--adopt"},
		{[]string{config, "--replace", "--data-root", "data"}, "--data-root"},
	} {
		out, status := convert(c.args...)
		now, err := os.ReadFile(config)
		if status != 2 || !strings.Contains(out, c.says) || err != nil || string(now) != text {
			t.Errorf("%v: %d %s, or the file was changed (%v)", c.args, status, out, err)
		}
	}
	if out, status := convert(config, "--replace"); status != 0 || !strings.Contains(out, "Alice") {
		t.Fatalf("%d %s", status, out)
	}
	if kept, err := os.ReadFile(config + ".before-sqgate"); err != nil || string(kept) != text {
		t.Errorf("%v: kept is %q", err, kept)
	}
	if out, status := sqgateOutput(t, nil, "check", "--config", config); status != 0 {
		t.Errorf("check: %d %s", status, out)
	}
	if out, status := convert(config+".before-sqgate", "--replace"); status != 2 || !strings.Contains(out, "move it away") {
		t.Errorf("a second time: %d %s", status, out)
	}
	if out, status := sqgateOutput(t, nil, "check", "--config", config+".before-sqgate"); status != 2 || !strings.Contains(out, "init --from") {
		t.Errorf("check of the old one: %d %s", status, out)
	}
}
