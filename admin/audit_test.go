package admin

import (
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

// TestAnAuditLogThatIsNoFile keeps no change waiting: what is said goes into the file from before.
func TestAnAuditLogThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := openAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.write(auditLine{What: "one"}); err == nil {
		t.Error("nobody is told")
	}
	if text, err := os.ReadFile(path + ".1"); err != nil || !strings.Contains(string(text), `"what":"one"`) {
		t.Errorf("%q, %v", text, err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}
