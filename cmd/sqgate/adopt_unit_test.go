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

// testHost is a host whose unit directories are temporary, and which records
// what systemctl is told.
type testHost struct {
	host
	config, data   string
	systemctlCalls []string
}

// newTestHost is a host with sqgate's package and, enabled, an old sq.service.
// In unit, DATA is replaced by its data directory, which holds one phext.
func newTestHost(t *testing.T, unit string) *testHost {
	t.Helper()
	root := t.TempDir()
	h := &testHost{config: filepath.Join(root, "etc/sq/tenants.json"), data: filepath.Join(root, "data")}
	h.host = host{etc: filepath.Join(root, "etc/systemd"), packaged: []string{filepath.Join(root, "lib/systemd")}, booted: root,
		systemctl: func(args ...string) error {
			h.systemctlCalls = append(h.systemctlCalls, strings.Join(args, " "))
			return nil
		}}
	h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\n")
	h.put(t, filepath.Join(h.etc, unitName), strings.ReplaceAll(unit, "DATA", h.data))
	h.put(t, filepath.Join(h.etc, "multi-user.target.wants", unitName), "")
	h.put(t, filepath.Join(h.data, "notes.phext"), "old")
	return h
}

func (h *testHost) put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptMovesLegacyUnit(t *testing.T) {
	h := newTestHost(t, "[Service]\nUser=phext\nExecStart=/usr/local/bin/sq host 1444 --key wrong-one --data-dir DATA\n")
	h.put(t, filepath.Join(h.etc, "sq.service.d/key.conf"), "[Service]\nExecStart=\nExecStart=/usr/local/bin/sq host 1444 --key oldkey-123 --data-dir "+h.data+"\n")
	before, err := os.ReadFile(filepath.Join(h.etc, unitName))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, "", ""); err != nil {
		t.Fatal(err)
	}
	known, err := tenants.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	adopted, ok := known.ByID(adoptedID)
	if byKey, found := known.ByKey("oldkey-123", time.Now()); !ok || !found || byKey != adopted || adopted.DataDir != h.data {
		t.Errorf("adopted %+v", adopted)
	}
	after, err := os.ReadFile(filepath.Join(h.etc, legacyName))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the old unit is not whole: %v", err)
	}
	if _, err := os.Stat(filepath.Join(h.etc, legacyName+".d/key.conf")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.etc, unitName)); err == nil {
		t.Error("the old unit still hides the new one")
	}
	for file, want := range map[string]string{
		"sq.service.d/adopted.conf": "User=phext\nGroup=\nReadWritePaths=\"" + h.data + "\"\n",
		"sq.socket.d/adopted.conf":  "ListenStream=\nListenStream=127.0.0.1:1444\n",
	} {
		if text, err := os.ReadFile(filepath.Join(h.etc, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
	if got := strings.Join(h.systemctlCalls, "; "); got != "daemon-reload; --quiet reenable sq.service sq.socket" {
		t.Errorf("systemctl was told %q", got)
	}
	if strings.Contains(out.String(), "oldkey-123") {
		t.Error("the old key is printed")
	}
	if data, err := os.ReadFile(filepath.Join(h.data, "notes.phext")); err != nil || string(data) != "old" {
		t.Errorf("the data were touched: %q, %v", data, err)
	}
}

func TestAdoptUnitElsewhere(t *testing.T) {
	h := newTestHost(t, "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n")
	other := filepath.Join(t.TempDir(), "mine.service")
	h.put(t, other, "[Service]\nExecStart=/usr/local/bin/sq host 1337 --data-dir "+h.data+"\n")
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, other, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.etc, unitName)); err != nil || len(h.systemctlCalls) > 0 {
		t.Errorf("units were touched: %v, %q", err, h.systemctlCalls)
	}
	if !strings.Contains(out.String(), "asks for no key") || !strings.Contains(out.String(), "API key") {
		t.Errorf("the new key is not explained: %s", out.String())
	}
}

func TestInitAdoptDirectory(t *testing.T) {
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

// TestInitPrintsWhatIsLeftToDo in the order in which it has to be done: the chown while
// nothing runs, and the way back last.
func TestInitPrintsWhatIsLeftToDo(t *testing.T) {
	const unit = "[Service]\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n"
	const back = `To try the old one again: systemctl start sq-legacy, and systemctl start sq to return
To go back for good:
  1. systemctl disable sq.socket sq.service && systemctl stop sq.socket sq.service
  2. mv ETC/systemd/sq-legacy.service ETC/systemd/sq.service && systemctl daemon-reload
  3. systemctl enable --now sq
`
	const chown = "chown -R sq:sq DATA     (root has written it; sqgate does not run as root)\n"
	for name, c := range map[string]struct{ unit, file, want string }{
		"root's":   {unit, "", "Next, in this order:\n  1. systemctl stop sq\n  2. " + chown + "  3. systemctl start sq\n" + back},
		"a user's": {strings.Replace(unit, "[Service]", "[Service]\nUser=phext", 1), "", "Next, in this order:\n  1. systemctl restart sq\n" + back},
		"elsewhere": {unit, "mine.service", "Units are left as they are\nNext, in this order:\n  1. systemctl disable --now mine.service\n  2. " + chown +
			"  3. systemctl enable --now sq\nTo go back: stop sqgate, and systemctl enable --now mine.service\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHost(t, c.unit)
			etc := filepath.Dir(h.etc)
			if c.file != "" {
				c.file = filepath.Join(etc, c.file)
				h.put(t, c.file, strings.ReplaceAll(c.unit, "DATA", h.data))
			}
			var out bytes.Buffer
			if err := h.adopt(&out, h.config, c.file, ""); err != nil {
				t.Fatal(err)
			}
			if got := strings.NewReplacer(h.data, "DATA", etc, "ETC").Replace(out.String()); !strings.HasSuffix(got, c.want) {
				t.Errorf("%s\nwant at its end\n%s", got, c.want)
			}
		})
	}
	h := newTestHost(t, unit)
	var out bytes.Buffer
	if err := h.adoptDirectory(&out, h.config, h.data, "oldkey-123"); err != nil {
		t.Fatal(err)
	}
	want := "Next, in this order:\n  1. stop the SQ that serves DATA\n  2. systemctl enable --now sq\nTo go back: stop sqgate, delete CONFIG, and start SQ on DATA again\n"
	if os.Geteuid() == 0 {
		want = strings.Replace(want, "  2. ", "  2. "+chown+"  3. ", 1)
	}
	if got := strings.NewReplacer(h.data, "DATA", h.config, "CONFIG").Replace(out.String()); !strings.HasSuffix(got, want) {
		t.Errorf("%s\nwant at its end\n%s", got, want)
	}
	if got := strings.Join(h.start("/c"), ""); got != "systemctl enable --now sq" {
		t.Error(got)
	}
	h.packaged = nil
	if got := strings.Join(h.start("/c"), ""); got != "sqgate serve --config /c" {
		t.Error(got)
	}
}
