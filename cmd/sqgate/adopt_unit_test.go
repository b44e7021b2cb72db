package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

func TestOldUnitsAreUnderstood(t *testing.T) {
	env := filepath.Join(t.TempDir(), "sq.env")
	if err := os.WriteFile(env, []byte("# the key\nKEY=\"from file 1\"\nPORT = 1400 \nPLAIN=a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, port, key, dir, user string }{
		"plain":     {"[Unit]\nExecStart=/x/sq host 1 --key no\n[Service]\nUser=sq\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir /var/lib/sq\n", "1337", "oldkey-123", "/var/lib/sq", "sq"},
		"joined":    {"[Service]\nExecStart=/usr/local/bin/sq host 1337 --key=K=1 --data-dir=/d/\n", "1337", "K=1", "/d", ""},
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
			u, err := readLegacyUnit(path)
			if err != nil {
				t.Fatal(err)
			}
			if want := (legacyUnit{file: path, port: c.port, key: c.key, dataDir: c.dir, user: c.user}); *u != want {
				t.Errorf("read  %+v\nwant  %+v", *u, want)
			}
		})
	}
}

func TestUnitsThatAreNotOldSQAreRefused(t *testing.T) {
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
		path := filepath.Join(t.TempDir(), "sq.service")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if u, err := readLegacyUnit(path); err == nil {
			t.Errorf("%s: read as %+v", name, *u)
		}
	}
}

// etc is a host in a directory of its own.
type etc struct {
	host
	config, data string
	said         []string
}

func newEtc(t *testing.T, unit string) *etc {
	t.Helper()
	root := t.TempDir()
	e := &etc{config: filepath.Join(root, "etc/sq/tenants.json"), data: filepath.Join(root, "data")}
	e.host = host{etc: filepath.Join(root, "etc/systemd"), shipped: []string{filepath.Join(root, "lib/systemd")}, booted: root,
		control: func(args ...string) error { e.said = append(e.said, strings.Join(args, " ")); return nil }}
	e.put(t, filepath.Join(e.shipped[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\n")
	e.put(t, filepath.Join(e.etc, unitName), strings.ReplaceAll(unit, "DATA", e.data))
	e.put(t, filepath.Join(e.etc, "multi-user.target.wants", unitName), "")
	e.put(t, filepath.Join(e.data, "notes.phext"), "old")
	return e
}

func (e *etc) put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptingAUnitMakesRoomForOurs(t *testing.T) {
	e := newEtc(t, "[Service]\nUser=phext\nExecStart=/usr/local/bin/sq host 1444 --key wrong-one --data-dir DATA\n")
	e.put(t, filepath.Join(e.etc, "sq.service.d/key.conf"), "[Service]\nExecStart=\nExecStart=/usr/local/bin/sq host 1444 --key oldkey-123 --data-dir "+e.data+"\n")
	before, err := os.ReadFile(filepath.Join(e.etc, unitName))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := e.adopt(&out, e.config, "", ""); err != nil {
		t.Fatal(err)
	}
	known, err := tenants.Load(e.config)
	if err != nil {
		t.Fatal(err)
	}
	adopted, ok := known.ByID(adoptedID)
	if byKey, found := known.ByKey("oldkey-123", time.Now()); !ok || !found || byKey != adopted || adopted.DataDir != e.data {
		t.Errorf("adopted %+v", adopted)
	}
	after, err := os.ReadFile(filepath.Join(e.etc, legacyName))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the old unit is not whole: %v", err)
	}
	if _, err := os.Stat(filepath.Join(e.etc, legacyName+".d/key.conf")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(e.etc, unitName)); err == nil {
		t.Error("the old unit still hides the new one")
	}
	for file, want := range map[string]string{
		"sq.service.d/adopted.conf": "User=phext\nGroup=\nReadWritePaths=\"" + e.data + "\"\n",
		"sq.socket.d/adopted.conf":  "ListenStream=\nListenStream=127.0.0.1:1444\n",
	} {
		if text, err := os.ReadFile(filepath.Join(e.etc, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
	if got := strings.Join(e.said, "; "); got != "daemon-reload; --quiet reenable sq.service sq.socket" {
		t.Errorf("systemctl was told %q", got)
	}
	if strings.Contains(out.String(), "oldkey-123") {
		t.Error("the old key is printed")
	}
	if data, err := os.ReadFile(filepath.Join(e.data, "notes.phext")); err != nil || string(data) != "old" {
		t.Errorf("the data were touched: %q, %v", data, err)
	}
}

func TestAdoptingAUnitElsewhereLeavesUnitsAlone(t *testing.T) {
	e := newEtc(t, "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n")
	other := filepath.Join(t.TempDir(), "mine.service")
	e.put(t, other, "[Service]\nExecStart=/usr/local/bin/sq host 1337 --data-dir "+e.data+"\n")
	var out bytes.Buffer
	if err := e.adopt(&out, e.config, other, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.etc, unitName)); err != nil || len(e.said) > 0 {
		t.Errorf("units were touched: %v, %q", err, e.said)
	}
	if !strings.Contains(out.String(), "asks for no key") || !strings.Contains(out.String(), "API key") {
		t.Errorf("the new key is not explained: %s", out.String())
	}
}

func TestInitTakesADirectoryAfterAdopt(t *testing.T) {
	dir, config := t.TempDir(), filepath.Join(t.TempDir(), "tenants.json")
	for _, args := range [][]string{
		{"init", "--config", config, "--adopt", dir, "extra"},
		{"init", "--config", config, "--adopt=" + dir, "extra"},
		{"init", "--config", config, "extra"},
		{"init", "--config", config, "--adopt", dir, "--unit", "x"},
		{"init", "--config", config, "--adopt=" + dir, "--unit", "x"},
	} {
		if run(args) != 2 {
			t.Errorf("%q is taken", args)
		}
	}
	if run([]string{"init", "--config", config, "--key", "oldkey-123", "--adopt", dir}) != 0 {
		t.Fatal("--adopt DIR is refused")
	}
	known, err := tenants.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	if adopted, ok := known.ByID(adoptedID); !ok || adopted.DataDir != dir {
		t.Errorf("adopted %+v", adopted)
	}
}
