package admin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTheAuditLogFollowsItsName renames the file, as logrotate does, with and
// without another file in its place.
func TestTheAuditLogFollowsItsName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := openAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(what string) {
		t.Helper()
		if err := l.write(auditLine{What: what}); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(path, what string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"what":"`+what+`"`) {
			t.Errorf("%s holds %q, %v, want one line of %q", filepath.Base(path), text, err, what)
		}
	}
	write("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two")
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	write("three")
	holds(path+".1", "one")
	holds(path+".2", "two")
	holds(path, "three")
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

// TestAnAuditLogThatIsNoFile keeps nobody waiting: what is said goes into the file from before, and
// not into what a link leads to.
func TestAnAuditLogThatIsNoFile(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a FIFO":                 func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a link to another file": func(path string) error { return os.Symlink("tenants.json", path) },
		"a link to nothing":      func(path string) error { return os.Symlink("nothing", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "audit.log"), filepath.Join(dir, "tenants.json")
			l, err := openAudit(path)
			if err = errors.Join(err, os.Rename(path, path+".1"), put(path), os.WriteFile(other, []byte("{}"), 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := l.write(auditLine{What: "one"}); err == nil {
				t.Error("nobody is told")
			}
			if text := l.tail(); len(text) > 0 {
				t.Errorf("the newest lines are %q", text)
			}
			if text, err := os.ReadFile(path + ".1"); err != nil || !strings.Contains(string(text), `"what":"one"`) {
				t.Errorf("%q, %v", text, err)
			}
			if text, err := os.ReadFile(other); err != nil || string(text) != "{}" {
				t.Errorf("the other file has %q, %v", text, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "nothing")); err == nil {
				t.Error("what the link leads to was made")
			}
			if err := l.close(); err != nil {
				t.Error(err)
			}
			if _, err := openAudit(path); err == nil || !strings.Contains(err.Error(), path+" is no regular file") {
				t.Errorf("at a start: %v", err)
			}
		})
	}
}
