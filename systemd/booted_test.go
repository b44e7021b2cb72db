// Package systemd contains the systemd units, and no code. Its test does with the
// units and the package what an operator does, on a booted Debian. .ci/systemd
// boots one and runs the test there.
package systemd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	config = "/etc/sq/tenants.json"
	data   = "/var/lib/sq"
)

// legacyKey is the key that the clients of the old SQ have.
const legacyKey = `old-"key's-1`

// oldUnit is a unit that runs single-tenant SQ, with syntax that is hard to read.
const oldUnit = `[Unit]
Description=SQ
[Service]
User=sq
Group=sq
WorkingDirectory=/var/lib/sq
Environment="PORT=1337"
EnvironmentFile=/etc/default/sq-old
ExecStart=-/usr/local/bin/sq host ${PORT} \
  # the key stands in a file
  --key ${SQ_KEY} --data-dir /var/lib/sq
Restart=always
[Install]
WantedBy=multi-user.target
`

func TestBooted(t *testing.T) {
	share := os.Getenv("SQTEST_BOOTED")
	if share == "" {
		t.Skip("runs inside the container that .ci/systemd boots")
	}
	h := &machine{T: t, share: share}
	for _, step := range []struct {
		name string
		run  func(*machine)
	}{
		{"a host runs single-tenant SQ", runsLegacySQ},
		{"the package leaves the old SQ alone", installs},
		{"the old clients see the old data", adopts},
		{"the units are clean", cleanUnits},
		{"a second tenant over the API", addsTenant},
		{"a backup of all tenants, and a restore", backsUp},
		{"a reload and an edit take effect", reloads},
		{"a broken file is visible, and everyone is served", showsBrokenFile},
		{"what keeps it from starting has only to be mended", startsWhenMended},
		{"restarts under load lose no request", restartsUnderLoad},
		{"an upgrade over itself loses no request", upgradesUnderLoad},
		{"kill -9 loses no acknowledged write", survivesKill},
		{"a gateway that hangs is replaced", isWatched},
		{"a child cannot be reached, nor reach out", isUnreachable},
		{"a child writes nowhere else", isConfined},
		{"a child keeps to its own directory", keepsToItself},
		{"no key is in the journal", logsNoKey},
		{"rollback serves every byte", rollsBack},
		{"removed, purged, installed again", purges},
		{"all tenants on a new host", movesToNewHost},
		{"data elsewhere", hasDataElsewhere},
		{"one tenant on another disk", movesTenant},
		{"a bucket from the network of its own", hasBucket},
		{"two hosts with one bucket", hasHosts},
		{"webhooks from the network of its own", deliversWebhooks},
		{"an SQ of root, there and back", adoptsRoot},
		{"an SQ of another user, on another port", adoptsAnotherUser},
		{"an SQ in a home, as its user has it", adoptsFromHome},
		{"an SQ and its data below /root", adoptsBelowRoot},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(&machine{T: t, share: share}) }) {
			h.explain()
			t.FailNow()
		}
	}
}

// runsLegacySQ starts single-tenant SQ under the operator's own unit.
func runsLegacySQ(m *machine) {
	m.sh("install -m 755 %s/sq /usr/local/bin/sq", m.share)
	m.sh("useradd --system --home-dir %s --shell /usr/sbin/nologin sq", data)
	m.sh("install -d -o sq -g sq %s", data)
	m.write("/etc/default/sq-old", `SQ_KEY="`+strings.ReplaceAll(legacyKey, `"`, `\"`)+"\"\n")
	m.write("/etc/systemd/system/sq.service", oldUnit)
	m.sh("systemctl daemon-reload && systemctl enable --now sq")
	m.await("the old SQ answers", func() bool { return m.status(legacyKey, "GET", "/api/v2/version", "") == 200 })
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "from the old world", "Updated 18 bytes")
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=2.1.1/1.1.1/1.1.9", "ünïcode", "")
	m.must(legacyKey, "POST", "/api/v2/insert?p=other&c=1.1.1/1.1.1/1.1.1", "another phext", "")
}

func installs(m *machine) {
	before := m.out("systemctl show -p MainPID --value sq")
	said := m.out("dpkg -i %s/sqgate.deb", m.share)
	if !strings.Contains(said, "next:  sqgate init --adopt ") || strings.Contains(said, "restart") {
		m.Errorf("the package does not say what is next: %s", said)
	}
	if after := m.out("systemctl show -p MainPID --value sq"); after != before {
		m.Errorf("the old SQ was restarted: %s, before %s", after, before)
	}
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "from the old world")
}

func adopts(m *machine) {
	sums := m.out("cd %s && sha256sum *.phext .phext 2>/dev/null; true", data)
	said := m.out("sqgate init --adopt")
	for _, want := range []string{`tenant "default"`, "sq-legacy.service", "To go back", "systemctl restart sq"} {
		if !strings.Contains(said, want) {
			m.Errorf("init does not say %q: %s", want, said)
		}
	}
	if strings.Contains(said, legacyKey) {
		m.Error("init prints the old key")
	}
	m.sh("systemctl restart sq")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "from the old world")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=2.1.1/1.1.1/1.1.9", "", "ünïcode")
	if now := m.out("cd %s && sha256sum *.phext .phext 2>/dev/null; true", data); now != sums {
		m.Errorf("the data have changed:\n%s\nbefore:\n%s", now, sums)
	}
	for _, unit := range []string{"sq.service", "sq.socket"} {
		m.sh("systemctl is-active --quiet %s && systemctl is-enabled --quiet %s", unit, unit)
	}
	if m.try("systemctl is-active --quiet sq-legacy") == nil {
		m.Error("the old SQ still runs")
	}
	if got := m.out("stat -c '%%U %%a' %s", config); got != "sq 600" {
		m.Errorf("the tenants file is %s", got)
	}
}

func cleanUnits(m *machine) {
	if said := m.out("systemd-analyze verify --man=no sq.service sq.socket sqgate-backup.service sqgate-backup.timer 2>&1"); said != "" {
		m.Errorf("verify says %s", said)
	}
	m.sh("systemd-analyze security --threshold=15 sq.service >/dev/null")
	if failed := m.out("systemctl --failed --no-legend --plain"); failed != "" {
		m.Errorf("failed units: %s", failed)
	}
	m.sh("systemd-tmpfiles --create && systemd-sysusers")
	if got := m.out("stat -c %%U:%%a %s", data); got != "sq:755" {
		m.Errorf("the package has changed the old data directory: %s", got)
	}
}

func addsTenant(m *machine) {
	var added struct {
		APIKey string `json:"api_key"`
	}
	text := m.call(m.adminKey(), "POST", "/api/v2/admin/tenants/add", `{"tenant_id":"second"}`, http.StatusCreated)
	if err := json.Unmarshal([]byte(text), &added); err != nil {
		m.Fatal(err)
	}
	m.write(secondKeyFile, added.APIKey)
	m.must(added.APIKey, "POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "of the second", "Updated 13 bytes")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "from the old world")
	m.await("the status line counts them", func() bool { return strings.Contains(m.statusLine(), "2 tenants") })
	// The commands find the same key.
	if list := m.out("sqgate tenant list"); !strings.Contains(list, "second") {
		m.Errorf("tenant list: %s", list)
	}
}

func reloads(m *machine) {
	second := func(want int) func() bool {
		return func() bool { return m.status(m.secondKey(), "GET", "/api/v2/toc?p=notes", "") == want }
	}
	m.edit(`"enabled": true`, `"enabled": false`)
	m.await("an edit is in force", second(403))
	m.edit(`"enabled": false`, `"enabled": true`)
	m.await("an edit is in force", second(200))
	m.edit(`"tenants": [`, `"reload_on_change": false, "tenants": [`)
	m.sh("systemctl reload sq")
	m.edit(`"enabled": true`, `"enabled": false`)
	m.sh("systemctl reload sq")
	m.await("systemctl reload takes effect", second(403))
	m.edit(`"enabled": false`, `"enabled": true`)
	m.edit(`"reload_on_change": false, `, "")
	m.sh("systemctl reload sq")
	m.await("systemctl reload takes effect", second(200))
}

func showsBrokenFile(m *machine) {
	good, err := os.ReadFile(config)
	if err != nil {
		m.Fatal(err)
	}
	m.write(config, strings.Replace(string(good), `"id": "second"`, `"idd": "second"`, 1))
	m.await("systemctl status shows it", func() bool { return strings.Contains(m.statusLine(), "TENANTS FILE REFUSED") })
	m.sh("systemctl reload sq && systemctl is-active --quiet sq")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "from the old world")
	m.must(m.secondKey(), "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "of the second")
	m.write(config, string(good))
	m.await("systemctl status is well again", func() bool { return !strings.Contains(m.statusLine(), "REFUSED") })
}

func restartsUnderLoad(m *machine) {
	l := m.startLoad("restarts", 200)
	for range 3 {
		l.awaitMore(200)
		m.sh("systemctl restart sq")
	}
	l.awaitMore(200)
	l.end(true)
}

func upgradesUnderLoad(m *machine) {
	before := m.out("systemctl show -p MainPID --value sq")
	l := m.startLoad("upgrade", 200)
	l.awaitMore(100)
	m.sh("dpkg -i %s/sqgate.deb", m.share)
	l.awaitMore(100)
	l.end(true)
	if m.out("systemctl show -p MainPID --value sq") == before {
		m.Error("the upgrade goes on running the old program")
	}
}

func survivesKill(m *machine) {
	l := m.startLoad("kill", 200)
	for range 3 {
		l.awaitMore(100)
		pid, left := m.out("systemctl show -p MainPID --value sq"), m.child()
		m.sh("kill -9 %s", pid)
		m.await("systemd starts it again", func() bool {
			now := m.out("systemctl show -p MainPID --value sq")
			return now != "0" && now != pid && m.status(legacyKey, "GET", "/health", "") == 200
		})
		m.await("the child that was left is replaced", func() bool {
			now := childrenOf(data)
			return len(now) == 1 && now[0].pid != left.pid
		})
	}
	l.awaitMore(100)
	l.end(false)
	m.await("there is one child for a directory", func() bool {
		return len(childrenOf(data)) == 1 && len(childrenOf(data+"/tenants/second")) <= 1
	})
}

func isWatched(m *machine) {
	m.write("/etc/systemd/system/sq.service.d/watchdog.conf", "[Service]\nWatchdogSec=3\n")
	m.sh("systemctl daemon-reload && systemctl restart sq")
	pid := m.out("systemctl show -p MainPID --value sq")
	// The watchdog leaves a gateway alone that answers, for longer than its limit.
	notified := func() int {
		at, err := strconv.Atoi(m.out("systemctl show -p WatchdogTimestampMonotonic --value sq"))
		if err != nil {
			m.Fatal(err)
		}
		return at // in microseconds
	}
	first := notified()
	m.await("the watchdog is notified for 4 seconds", func() bool { return notified() > first+4_000_000 })
	if now := m.out("systemctl show -p MainPID --value sq"); now != pid {
		m.Errorf("a gateway that answers was replaced: %s, before %s", now, pid)
	}
	m.sh("kill -STOP %s", pid)
	m.await("systemd replaces it", func() bool {
		now := m.out("systemctl show -p MainPID --value sq")
		return now != "0" && now != pid && m.status(legacyKey, "GET", "/health", "") == 200
	})
	m.sh("rm /etc/systemd/system/sq.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart sq")
}

func isUnreachable(m *machine) {
	m.sh("ip netns add outside && ip link add here type veth peer name there && ip link set there netns outside")
	m.sh("ip addr add 10.77.0.1/24 dev here && ip link set here up")
	m.sh("ip netns exec outside sh -c 'ip addr add 10.77.0.2/24 dev there && ip link set there up && ip link set lo up'")
	m.sh("systemd-run --quiet --unit=outside-sq --working-directory=/tmp ip netns exec outside sq host 7778 --key k")
	m.await("the outside is reached by a plain process", func() bool { return m.try(reachOut) == nil })

	// Without a network of its own, sqgate says what that means, and it is true.
	m.write(networkDropIn, "[Service]\nPrivateNetwork=no\n")
	m.sh("systemctl daemon-reload && systemctl restart sq")
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=3.1.1/1.1.1/1.1.1", "awake", "")
	if !m.saysReachable() {
		m.Error("sqgate does not say that its children can be reached")
	}
	for _, how := range waysIn {
		m.sh(how, m.child().port)
	}

	// A child that was left in the host's network is found and replaced.
	m.sh("rm %s && systemctl daemon-reload && kill -9 $(systemctl show -p MainPID --value sq)", networkDropIn)
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=3.1.1/1.1.1/1.1.1", "awake", "")
	if m.saysReachable() {
		m.Error("sqgate says that its children can be reached")
	}
	child := m.child()
	for _, how := range waysIn {
		if err := m.try(how, child.port); err == nil || !strings.Contains(err.Error(), refused) {
			m.Errorf("%s: %v", how, err)
		}
	}
	in := fmt.Sprintf("nsenter --net --target %d ", child.pid)
	m.sh(in+waysIn[0], child.port)
	if m.try("%s", in+reachOut) == nil {
		m.Error("a child reaches out")
	}
	m.sh("systemctl stop outside-sq; ip netns del outside")
}

// reachOut connects to what listens outside, and waysIn to a port of this host, in
// each way that there is.
const reachOut = "curl -s -o /dev/null --max-time 3 http://10.77.0.2:7778/"

var waysIn = []string{
	"curl -sS -o /dev/null --max-time 3 http://127.0.0.1:%d/",
	"runuser -u nobody -- curl -sS -o /dev/null --max-time 3 http://127.0.0.1:%d/",
	"runuser -u nobody -- curl -sS -o /dev/null --max-time 3 http://10.77.0.1:%d/",
	"ip netns exec outside curl -sS -o /dev/null --max-time 3 http://10.77.0.1:%d/",
}

const (
	refused       = "exit status 7" // curl's, if it cannot connect
	networkDropIn = "/etc/systemd/system/sq.service.d/network.conf"
)

// saysReachable looks for sqgate's warning since the last start of the unit.
func (m *machine) saysReachable() bool {
	return strings.Contains(m.out("journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value sq)"), "any local user can read and write")
}

func isConfined(m *machine) {
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=3.1.1/1.1.1/1.1.1", "awake", "")
	child := m.child()
	// Run as root, so that only the unit's mounts can refuse a write.
	in := fmt.Sprintf("nsenter -t %d -m ", child.pid)
	for _, dir := range []string{"/", "/etc", "/usr", "/usr/local/bin", "/opt", "/var", "/var/lib", "/var/log", "/boot", "/srv", "/etc/systemd/system"} {
		if m.try("%stouch %s/x", in, dir) == nil {
			m.Errorf("%s can be written", dir)
		}
	}
	if seen := m.out("%sls -A /root 2>/dev/null; true", in); seen != "" {
		m.Error("homes can be seen")
	}
	m.sh("%stouch %s/x && rm %s/x", in, data, data)
	status := m.out("cat /proc/%d/status", child.pid)
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			m.Errorf("a child lacks %q", want)
		}
	}
}

func logsNoKey(m *machine) {
	log := m.out("journalctl -b -u sq -o cat")
	if !strings.Contains(log, "msg=serving") {
		m.Fatalf("the journal lacks sqgate's log: %.300s", log)
	}
	for _, key := range []string{legacyKey, m.secondKey(), m.adminKey()} {
		if strings.Contains(log, key) {
			m.Error("a key is in the journal")
		}
	}
}

func rollsBack(m *machine) {
	phexts := map[string]string{}
	names, err := filepath.Glob(filepath.Join(data, "*.phext"))
	if err != nil || len(names) < 4 {
		m.Fatalf("phexts %q, %v", names, err)
	}
	for _, path := range names {
		name := strings.TrimSuffix(filepath.Base(path), ".phext")
		phexts[name] = m.call(legacyKey, "GET", "/api/v2/get?p="+name, "", 200)
	}
	m.sh("systemctl start sq-legacy")
	m.await("the old SQ answers", func() bool { return m.status(legacyKey, "GET", "/api/v2/version", "") == 200 })
	if m.try("systemctl is-active --quiet sq.service") == nil || m.try("systemctl is-active --quiet sq.socket") == nil || len(childrenOf(data)) != 1 {
		m.Error("sqgate still runs beside the old SQ")
	}
	for name, want := range phexts {
		file, err := os.ReadFile(filepath.Join(data, name+".phext"))
		if err != nil {
			m.Fatal(err)
		}
		if got := m.call(legacyKey, "GET", "/api/v2/get?p="+name, "", 200); got != want || !bytes.Equal([]byte(got), file) {
			m.Errorf("%s: the old SQ serves %d bytes, sqgate served %d, the file has %d", name, len(got), len(want), len(file))
		}
	}
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=4.1.1/1.1.1/1.1.1", "written after the rollback", "")
	m.sh("systemctl start sq")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=4.1.1/1.1.1/1.1.1", "", "written after the rollback")
	if m.try("systemctl is-active --quiet sq-legacy") == nil {
		m.Error("the old SQ still runs beside sqgate")
	}
}

func purges(m *machine) {
	sums := m.out("find %s /var/lib/sqgate -name '*.phext' -exec sha256sum {} + | sort", data)
	m.sh("dpkg -r sqgate")
	if m.status(legacyKey, "GET", "/health", "") != 0 || len(childrenOf(data)) != 0 {
		m.Error("something is still served after the removal")
	}
	m.sh("dpkg --purge sqgate")
	for _, gone := range []string{"/usr/bin/sqgate", "/etc/default/sqgate", "/etc/sq/tenants.json.example", "/lib/systemd/system/sq.service", "/etc/systemd/system/timers.target.wants/sqgate-backup.timer"} {
		if _, err := os.Lstat(gone); err == nil {
			m.Errorf("%s is left", gone)
		}
	}
	if now := m.out("find %s /var/lib/sqgate -name '*.phext' -exec sha256sum {} + | sort", data); now != sums {
		m.Errorf("data have changed:\n%s\nbefore:\n%s", now, sums)
	}
	m.sh("test -s %s", config)
	m.sh("systemctl enable --now sq-legacy")
	m.await("the old SQ answers", func() bool { return m.status(legacyKey, "GET", "/api/v2/version", "") == 200 })
	m.sh("systemctl disable --now sq-legacy")

	// A new host, with a management key from the credential store.
	m.sh("rm -rf /etc/sq /var/lib/sq /var/lib/sqgate /etc/systemd/system/sq-legacy.service && userdel sq && systemctl daemon-reload")
	said := m.out("dpkg -i %s/sqgate.deb", m.share)
	for _, want := range []string{"next:  sqgate init --id NAME ", "the nightly backups are off:  systemctl enable --now sqgate-backup.timer"} {
		if !strings.Contains(said, want) {
			m.Errorf("the package does not say %q: %s", want, said)
		}
	}
	m.write("/etc/credstore/sqgate.admin-key", "given-management-key\n")
	m.sh("chmod 600 /etc/credstore/sqgate.admin-key")
	m.sh("sqgate init --id will --key key-of-will && systemctl enable --now sq")
	m.must("key-of-will", "POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "new", "Updated 3 bytes")
	m.call("given-management-key", "GET", "/api/v2/admin/tenants", "", 200)
	m.sh("systemctl stop sq.socket sq.service && dpkg --purge sqgate")
}
