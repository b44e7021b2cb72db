package squnit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	env := filepath.Join(t.TempDir(), "sq.env")
	if err := os.WriteFile(env, []byte("# the key\nKEY=\"from file 1\"\nPORT = 1400 \nPLAIN=a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, port, key, dir, user string }{
		"plain":     {"[Unit]\nExecStart=/x/sq host 1 --key no\n[Service]\nUser=sq\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir /var/lib/sq\n", "1337", "oldkey-123", "/var/lib/sq", "sq"},
		"joined":    {"[Service]\nExecStart=/home/phext/.cargo/bin/sq host 1337 --key=K=1 --data-dir=/d/\n", "1337", "K=1", "/d", ""},
		"prefixes":  {"[Service]\nExecStart=-+!/usr/local/bin/sq host 1337 --key k --data-dir /d\n", "1337", "k", "/d", ""},
		"named":     {"[Service]\nExecStart=@/usr/local/bin/sq sq host 1337 --key k --data-dir /d\n", "1337", "k", "/d", ""},
		"literal":   {"[Service]\nEnvironment=K=x\nExecStart=:/usr/local/bin/sq host 1337 --key ${K}$K --data-dir /d\n", "1337", "${K}$K", "/d", ""},
		"quotes":    {"[Service]\nExecStart=\"/opt/my sq/sq\" host 1337 --key 'a \"b\\' --data-dir \"/d\\\"\\\\ e\"\n", "1337", `a "b\`, `/d"\ e`, ""},
		"continued": {"[Service]\nExecStart=/usr/local/bin/sq host 1337 \\\n# why\n  --key k \\\n; and\n  --data-dir /d\nUser=a\n", "1337", "k", "/d", "a"},
		"variables": {"[Service]\nEnvironment=\"A=x y\" B=z\nExecStart=/usr/local/bin/sq host 1337 --key ${A}-$B$$ --data-dir /${B}\n", "1337", "x y-$B$", "/z", ""},
		"split":     {"[Service]\nEnvironment=\"A=--key k\"\nExecStart=/usr/local/bin/sq host 1337 $A $NONE --data-dir /d\n", "1337", "k", "/d", ""},
		"file wins": {"[Service]\nEnvironmentFile=-/nowhere\nEnvironmentFile=" + env + "\nEnvironment=PORT=1\nExecStart=/usr/local/bin/sq host ${PORT} --key ${KEY} --data-dir /${PLAIN}\n", "1400", "from file 1", "/a b", ""},
		"reset":     {"[Service]\nExecStart=/usr/local/bin/sq host 1 --data-dir /no\nExecStart=\nExecStart=/usr/local/bin/sq host 2 --data-dir /d\n", "2", "", "/d", ""},
		"relative":  {"[Service]\nWorkingDirectory=-/srv/sq\nExecStart=/usr/local/bin/sq host 1337 --data-dir data\n", "1337", "", "/srv/sq/data", ""},
		"no dir":    {"[Service]\nWorkingDirectory=/srv/sq\nExecStart=/usr/local/bin/sq host 1337 --key 50%%off\n", "1337", "50%off", "/srv/sq", ""},
		"wrapped":   {"[Service]\nExecStartPre=/bin/true\nExecStart=/usr/bin/env RUST_LOG=1 sq host 1337 --key k --data-dir /d\n", "1337", "k", "/d", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sq.service")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			u, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			program := "/usr/local/bin/sq"
			if other, ok := map[string]string{"joined": "/home/phext/.cargo/bin/sq", "quotes": "/opt/my sq/sq", "wrapped": "sq"}[name]; ok {
				program = other
			}
			if want := (Unit{File: path, Program: program, Port: c.port, Key: c.key, DataDir: c.dir, User: c.user}); *u != want {
				t.Errorf("read  %+v\nwant  %+v", *u, want)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"sqgate":         "[Service]\nExecStart=/usr/bin/sqgate host 1337\n",
		"no port":        "[Service]\nExecStart=/usr/local/bin/sq host --key k\n",
		"another":        "[Service]\nExecStart=/usr/local/bin/sq basic\n",
		"specifier":      "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key k --data-dir /d/%i\n",
		"open quote":     "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key 'k\n",
		"missing value":  "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key\n",
		"no environment": "[Service]\nEnvironmentFile=/nowhere/at/all\nExecStart=/usr/local/bin/sq host 1337 --key k\n",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sq.service")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if u, err := Read(path); err == nil {
				t.Errorf("read as %+v", *u)
			}
		})
	}
}

// TestReadService reads whom a unit of sqgate's package runs as, and where it may write,
// with drop-ins of the operator's.
func TestReadService(t *testing.T) {
	packaged, etc := t.TempDir(), t.TempDir()
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unit, dropIns := filepath.Join(packaged, "sq.service"), filepath.Join(etc, "sq.service.d")
	want := func(user string, writable ...string) {
		t.Helper()
		s, err := ReadService(unit, dropIns)
		if err != nil || s.User != user || !slices.Equal(s.Writable, writable) {
			t.Errorf("%+v %v, want %s %q", s, err, user, writable)
		}
	}
	put(unit, "[Service]\nUser=sq\nProtectSystem=strict\nStateDirectory=sqgate\nReadWritePaths=-/var/lib/sq -/etc/sq\n")
	want("sq", "/var/lib/sqgate", "/var/lib/sq", "/etc/sq")
	put(unit+".d/a.conf", "[Service]\nUser=no\n")
	put(filepath.Join(dropIns, "a.conf"), "[Service]\nUser=phext\nReadWritePaths=\"-/srv/my data\"\n")
	want("phext", "/var/lib/sqgate", "/var/lib/sq", "/etc/sq", "/srv/my data")
	put(filepath.Join(dropIns, "b.conf"), "[Service]\nProtectSystem=\nProtectHome=no\nTemporaryFileSystem=/home:ro /root:ro\nBindPaths=-/home/x\nBindPaths=\"-/home/my data\" /srv/y\nEnvironment=SQGATE_SQ=/opt/sq\n")
	want("phext")
	sees := func(bound string, hidden ...string) {
		t.Helper()
		s, err := ReadService(unit, dropIns)
		if err != nil || strings.Join(s.Bound, ",") != bound || !slices.Equal(s.Hidden, hidden) || s.Environment["SQGATE_SQ"] != "/opt/sq" {
			t.Errorf("%+v %v", s, err)
		}
	}
	sees("/home/x,/home/my data,/srv/y", "/home", "/root")
	put(filepath.Join(dropIns, "c.conf"), "[Service]\nProtectHome=yes\n")
	sees("/srv/y", "/home", "/root", "/home", "/root", "/run/user")
}
