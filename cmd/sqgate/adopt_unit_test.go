package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	given          []string // owner and path of each chown
	versions       map[string]string
	cannot         string // user and directory, which that user cannot enter
}

// newTestHost is a host with sqgate's package and, enabled, an old sq.service.
// In unit, DATA is replaced by its data directory, which holds one phext.
func newTestHost(t *testing.T, unit string) *testHost {
	t.Helper()
	root := t.TempDir()
	h := &testHost{config: filepath.Join(root, "etc/sq/tenants.json"), data: filepath.Join(root, "data")}
	h.host = host{serves: h.config, etc: filepath.Join(root, "etc/systemd"), packaged: []string{filepath.Join(root, "lib/systemd")}, booted: root,
		systemctl: func(args ...string) error {
			h.systemctlCalls = append(h.systemctlCalls, strings.Join(args, " "))
			return nil
		},
		path:     []string{filepath.Join(root, "usr/local/bin"), filepath.Join(root, "usr/bin")},
		lookPath: func(string) (string, error) { return "", exec.ErrNotFound },
		version:  func(program, _ string) string { return h.versions[program] },
		enters:   func(user, dir string) bool { return user+" "+strings.TrimPrefix(dir, root) != h.cannot },
		made:     []string{filepath.Join(root, "var/lib/sq"), filepath.Join(root, "var/lib/sq/tenants")},
		chown: func(owner, path string) error {
			h.given = append(h.given, owner+" "+strings.TrimPrefix(path, root))
			return nil
		}}
	if err := os.MkdirAll(h.made[1], 0o700); err != nil {
		t.Fatal(err)
	}
	h.put(t, filepath.Join(h.packaged[0], unitName), "[Service]\nExecStart=/usr/bin/sqgate\n")
	h.put(t, filepath.Join(h.etc, unitName), strings.ReplaceAll(unit, "DATA", h.data))
	h.put(t, filepath.Join(h.etc, "multi-user.target.wants", unitName), "")
	h.put(t, filepath.Join(h.data, "notes.phext"), "old")
	h.program(t, filepath.Join(h.path[0], "sq"))
	return h
}

func (h *testHost) program(t *testing.T, path string) {
	t.Helper()
	h.put(t, path, "a program")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
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
		"sq.service.d/adopted.conf": "User=phext\nGroup=\nReadWritePaths=-" + h.data + "\n",
		"sq.socket.d/adopted.conf":  "ListenStream=\nListenStream=127.0.0.1:1444\n",
		// The nightly backup finds sqgate there, too.
		"sqgate-backup.service.d/adopted.conf": "[Service]\nEnvironment=SQGATE_URL=http://127.0.0.1:1444\n",
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
	if !strings.Contains(out.String(), "export SQGATE_URL=http://127.0.0.1:1444\n") {
		t.Errorf("init does not say how commands find the port: %s", out.String())
	}
	// The service goes on as the old user, who must be able to replace the tenants file
	// and to make directories for new tenants.
	want := "phext: /etc/sq, phext: /etc/sq/tenants.json, phext: /var/lib/sq, phext: /var/lib/sq/tenants"
	if got := strings.Join(h.given, ", "); os.Geteuid() == 0 && got != want {
		t.Errorf("given are %q, want %q", got, want)
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

// TestAdoptKeepsThePortOfAUnitElsewhere for clients and the nightly backup, and also
// where sqgate is started by hand.
func TestAdoptKeepsThePortOfAUnitElsewhere(t *testing.T) {
	h := newTestHost(t, "")
	other := filepath.Join(t.TempDir(), "mine.service")
	h.put(t, other, "[Service]\nExecStart=/usr/local/bin/sq host 8080 --key oldkey-123 --data-dir "+h.data+"\n")
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, other, ""); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"sq.socket.d/adopted.conf":             "[Socket]\nListenStream=\nListenStream=127.0.0.1:8080\n",
		"sqgate-backup.service.d/adopted.conf": "[Service]\nEnvironment=SQGATE_URL=http://127.0.0.1:8080\n",
	} {
		if text, err := os.ReadFile(filepath.Join(h.etc, file)); err != nil || !strings.HasSuffix(string(text), "\n"+want) {
			t.Errorf("%s: %q, %v", file, text, err)
		}
	}
	if got := strings.Join(h.systemctlCalls, "; "); got != "daemon-reload" {
		t.Errorf("systemctl was told %q", got)
	}

	h = newTestHost(t, "")
	h.packaged = nil
	out.Reset()
	if err := h.adopt(&out, h.config, other, "oldkey-123"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  2. sqgate serve --config " + h.config + " --listen 127.0.0.1:8080\n", "export SQGATE_URL=http://127.0.0.1:8080\n", "sqgate init --adopt --unit " + other + " --key K\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nwant in it %q", out.String(), want)
		}
	}
	if _, err := os.Stat(filepath.Join(h.etc, "sq.socket.d")); err == nil {
		t.Error("a socket that is not there is set")
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
	const back = `To try the old SQ again: systemctl start sq-legacy
To return to sqgate: systemctl start sq
To go back for good:
  1. systemctl disable sq.socket sq.service sqgate-backup.timer && systemctl stop sq.socket sq.service sqgate-backup.timer sq-legacy
  2. rm ETC/systemd/sq.service.d/adopted.conf && rmdir --ignore-fail-on-non-empty ETC/systemd/sq.service.d
  3. test ! -d ETC/systemd/sq.service.d || mv ETC/systemd/sq.service.d ETC/systemd/sqgate.service.d     # your own drop-ins for sqgate; ` + "`sqgate init --adopt`" + ` brings them back
  4. mv ETC/systemd/sq-legacy.service ETC/systemd/sq.service
  5. systemctl daemon-reload && systemctl enable --now sq
`
	rootsBack := strings.Replace(back, "systemctl start sq\n", "systemctl stop sq-legacy && chown -R sq:sq DATA && systemctl start sq\n", 1)
	const chown = "chown -R sq:sq DATA     # the files are root's, and sqgate runs as sq\n"
	const letWrite = `printf '%s\n' '[Service]' ReadWritePaths=-DATA | install -D -m 644 /dev/stdin ETC/systemd/sq.service.d/data.conf && systemctl daemon-reload` + "\n"
	const again = "To return to sqgate: sqgate init --adopt --unit ETC/mine.service\n"
	for name, c := range map[string]struct{ unit, file, want string }{
		"root's":   {unit, "", "Next, in this order:\n  1. systemctl stop sq\n  2. " + chown + "  3. systemctl start sq\n" + rootsBack},
		"a user's": {strings.Replace(unit, "[Service]", "[Service]\nUser=phext", 1), "", "Next, in this order:\n  1. systemctl restart sq\n" + back},
		"elsewhere": {unit, "mine.service", "Units are left as they are\nNext, in this order:\n  1. systemctl disable --now mine.service\n  2. " + chown +
			"  3. " + letWrite + "  4. systemctl enable --now sq\nTo go back: systemctl disable --now sq.socket sq.service sqgate-backup.timer && systemctl enable --now mine.service\n" + again},
		"a user's elsewhere": {strings.Replace(unit, "[Service]", "[Service]\nUser=phext", 1), "mine.service", "  2. " + strings.Replace(chown, "root", "phext", 1) +
			"  3. " + letWrite + "  4. systemctl enable --now sq\nTo go back: systemctl disable --now sq.socket sq.service sqgate-backup.timer && chown -R phext: DATA && systemctl enable --now mine.service\n" + again},
		"elsewhere, on another port": {strings.Replace(unit, "1337", "8080", 1), "mine.service", "Units are left as they are\n" +
			"ETC/systemd/sq.socket.d/adopted.conf carries over what was set there\nETC/systemd/sqgate-backup.service.d/adopted.conf carries over what was set there\n" +
			"sqgate listens on port 8080. For `sqgate tenant` and the like: export SQGATE_URL=http://127.0.0.1:8080\n" +
			"Next, in this order:\n  1. systemctl disable --now mine.service\n  2. " + chown + "  3. " + letWrite + "  4. systemctl stop sq.socket sq.service\n  5. systemctl enable --now sq\n" +
			"To go back: systemctl disable --now sq.socket sq.service sqgate-backup.timer && rm ETC/systemd/sq.socket.d/adopted.conf ETC/systemd/sqgate-backup.service.d/adopted.conf && " +
			"rmdir --ignore-fail-on-non-empty ETC/systemd/sq.socket.d ETC/systemd/sqgate-backup.service.d && systemctl daemon-reload && systemctl enable --now mine.service\n" + again},
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
	want := "Next, in this order:\n  1. stop the SQ that serves DATA\n  2. " + letWrite + "  3. systemctl enable --now sq\nTo go back: stop sqgate, delete CONFIG, and start SQ on DATA again\n"
	if os.Geteuid() == 0 {
		want = strings.NewReplacer("  2. ", "  2. "+chown+"  3. ", "  3. ", "  4. ").Replace(want)
	}
	if got := strings.NewReplacer(h.config, "CONFIG", h.data, "DATA", filepath.Dir(h.etc), "ETC").Replace(out.String()); !strings.HasSuffix(got, want) {
		t.Errorf("%s\nwant at its end\n%s", got, want)
	}
	if got := strings.Join(h.start(h.config), ""); got != "systemctl enable --now sq" {
		t.Error(got)
	}
	if got := strings.Join(h.start("/c"), ""); got != "sqgate serve --config /c" {
		t.Errorf("the unit does not serve /c: %s", got)
	}
	h.packaged = nil
	if got := strings.Join(h.start(h.config), ""); got != "sqgate serve --config "+h.config {
		t.Error(got)
	}
}

// TestAdoptAgain adopts once more after the operator went back to the old SQ for good.
func TestAdoptAgain(t *testing.T) {
	const unit = "[Service]\nUser=sq\nExecStart=/usr/local/bin/sq host 1337 --key oldkey-123 --data-dir DATA\n"
	h := newTestHost(t, unit)
	adopt := func() (string, error) {
		var out bytes.Buffer
		err := h.adopt(&out, h.config, "", "")
		return out.String(), err
	}
	if _, err := adopt(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	unitFile := filepath.Join(h.etc, unitName)
	back := func() {
		if err := os.Rename(filepath.Join(h.etc, legacyName), unitFile); err != nil {
			t.Fatal(err)
		}
	}
	back()
	said, err := adopt()
	if err != nil || !strings.Contains(said, "stays as it is") || !strings.Contains(said, "systemctl restart sq") || !strings.Contains(said, "The nightly backups are off: ") {
		t.Errorf("%s, %v", said, err)
	}
	if after, err := os.ReadFile(h.config); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the tenants file has changed: %s, %v", after, err)
	}
	back()
	h.put(t, unitFile, strings.Replace(strings.ReplaceAll(unit, "DATA", h.data), "oldkey-123", "another-key", 1))
	if said, err := adopt(); err == nil || !strings.Contains(err.Error(), "move the file aside") {
		t.Errorf("with another key: %s, %v", said, err)
	}
	if _, err := os.Stat(unitFile); err != nil {
		t.Errorf("the unit was moved: %v", err)
	}
}

// TestGoingBackTakesDropInsAlong shows that the old unit gets its own drop-ins back.
func TestGoingBackTakesDropInsAlong(t *testing.T) {
	h := newTestHost(t, "[Service]\nUser=sq\nExecStart=/usr/local/bin/sq host 1444 --data-dir DATA\n")
	h.put(t, filepath.Join(h.etc, "sq.service.d/key.conf"), "[Service]\nEnvironment=A=b\n")
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, "", ""); err != nil {
		t.Fatal(err)
	}
	h.put(t, filepath.Join(h.etc, "sq.service.d/data.conf"), "[Service]\nBindPaths=-/home/x\n")
	h.goBack(t, out.String())
	for file, there := range map[string]bool{"sq.service": true, "sq.service.d/key.conf": true, "sq.service.d/adopted.conf": false, "sq.socket.d": false, "sq-legacy.service.d": false,
		"sq.service.d/data.conf": false, "sqgate.service.d/data.conf": true} {
		if _, err := os.Stat(filepath.Join(h.etc, file)); (err == nil) != there {
			t.Errorf("%s: %v", file, err)
		}
	}
	// And so does sqgate's unit, the next time.
	if err := h.adopt(&out, h.config, "", ""); err != nil {
		t.Fatal(err)
	}
	for file, there := range map[string]bool{"sq-legacy.service.d/key.conf": true, "sq.service.d/data.conf": true, "sq.service.d/adopted.conf": true, "sq.service.d/key.conf": false, "sqgate.service.d": false} {
		if _, err := os.Stat(filepath.Join(h.etc, file)); (err == nil) != there {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// goBack does what init has printed to go back for good, but for systemctl.
func (h *testHost) goBack(t *testing.T, said string) {
	t.Helper()
	_, list, ok := strings.Cut(said, "To go back for good:\n")
	steps := regexp.MustCompile(`(?m)^  \d\. (.*)$`).FindAllStringSubmatch(list, -1)
	if !ok || len(steps) < 3 {
		t.Fatal(said)
	}
	for _, step := range steps[1 : len(steps)-1] {
		if out, err := exec.Command("sh", "-ec", step[1]).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", step[1], err, out)
		}
	}
}

// TestAdoptLeavesDropInsOfSqgate where they are, of an operator who went back with
// commands of their own, and does not move a directory with nothing in it.
func TestAdoptLeavesDropInsOfSqgate(t *testing.T) {
	h := newTestHost(t, "[Service]\nUser=sq\nExecStart=/usr/local/bin/sq host 1337 --data-dir DATA\n")
	h.put(t, filepath.Join(h.etc, "sq.service.d/data.conf"), "[Service]\nReadWritePaths=-/srv/acme\n")
	h.put(t, filepath.Join(h.etc, "sq.service.d/flags.conf"), "[Service]\nEnvironment=SQGATE_DATA_ROOT=/srv/sq\n")
	var out bytes.Buffer
	if err := h.adopt(&out, h.config, "", ""); err != nil {
		t.Fatal(err)
	}
	for file, there := range map[string]bool{"sq.service.d/data.conf": true, "sq.service.d/flags.conf": true, "sq-legacy.service.d": false} {
		if _, err := os.Stat(filepath.Join(h.etc, file)); (err == nil) != there {
			t.Errorf("%s: %v", file, err)
		}
	}
	if want := h.etc + "/sq.service.d/data.conf " + h.etc + "/sq.service.d/flags.conf: for sqgate, as before\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%s\nwant %s", out.String(), want)
	}
}

// TestAdoptNamesTheUnit of an SQ that is not called sq.service, and does not complain of
// that of the package.
func TestAdoptNamesTheUnit(t *testing.T) {
	h := newTestHost(t, "")
	h.packaged = append(h.packaged, h.packaged[0]) // as /lib and /usr/lib are one
	if err := os.Remove(filepath.Join(h.etc, unitName)); err != nil {
		t.Fatal(err)
	}
	if err := h.adopt(io.Discard, h.config, "", ""); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "no unit of a single-tenant SQ was found") {
		t.Errorf("without any: %v", err)
	}
	h.put(t, filepath.Join(h.etc, "phext.service"), "[Service]\nExecStart=/usr/local/bin/sq host 1337 --data-dir "+h.data+"\n")
	h.put(t, filepath.Join(h.etc, "other.service"), "[Service]\nExecStart=/bin/true\n")
	want := "no sq.service runs a single-tenant SQ, but another unit does: sqgate init --adopt --unit " + filepath.Join(h.etc, "phext.service")
	if err := h.adopt(io.Discard, h.config, "", ""); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// TestExampleWantsAKey shows that the shipped example of a tenants file is refused until
// its key is replaced, and right then.
func TestExampleWantsAKey(t *testing.T) {
	text, err := os.ReadFile("../../packaging/tenants.json.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tenants.Parse(text); err == nil || !strings.Contains(err.Error(), "api_key") {
		t.Errorf("as it is: %v", err)
	}
	if _, err := tenants.Parse(bytes.Replace(text, []byte("REPLACE THIS: pmb-v1- and 32 hexadecimal digits"), []byte("pmb-v1-00112233445566778899aabbccddeeff"), 1)); err != nil {
		t.Errorf("with a key: %v", err)
	}
}
