package systemd

import (
	"os"
	"path/filepath"
	"strings"
)

const backups = "/var/backups/sq"

// backsUp runs the timer's service once, restores from what it has made, and has it
// fail for one tenant.
func backsUp(m *machine) {
	m.sh("install -D -t /etc/systemd/system/sqgate-backup.service.d /usr/share/doc/sqgate/examples/backup-metric.conf && install -d /var/lib/prometheus/node-exporter")
	m.sh("systemctl daemon-reload && systemctl enable --now sqgate-backup.timer && systemctl is-active --quiet sqgate-backup.timer")
	if next := m.out("systemctl show -p NextElapseUSecRealtime --value sqgate-backup.timer"); !strings.Contains(next, " 02:") {
		m.Errorf("the next backup is at %q", next)
	}
	m.sh("systemctl start sqgate-backup.service")
	made := func(pattern string) string {
		m.Helper()
		found, err := filepath.Glob(filepath.Join(backups, pattern))
		if err != nil || len(found) != 1 {
			m.Fatalf("%s: %q, %v; there are %s", pattern, found, err, m.out("ls -l %s", backups))
		}
		return found[0]
	}
	second := made("second.*.tar")
	for _, file := range []string{second, made("default.*.tar"), made("tenants.*.json")} {
		if got := m.out("stat -c %%U:%%a:%%F %s", file); got != "root:600:regular file" {
			m.Errorf("%s is %s", file, got)
		}
	}
	if got := m.out("stat -c %%U:%%a %s", backups); got != "root:700" {
		m.Errorf("%s is %s", backups, got)
	}
	m.sh("cmp %s %s", made("tenants.*.json"), config)
	const metric = "/var/lib/prometheus/node-exporter/sqgate_backup.prom"
	if got := m.out("stat -c %%a %s; cat %[1]s", metric); !strings.HasPrefix(got, "644\nsqgate_backup_last_success_timestamp_seconds 1") {
		m.Errorf("the metric: %s", got)
	}

	m.must(m.secondKey(), "POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "spoilt", "")
	m.sh("curl -fsS -H 'Authorization: Bearer %s' -H 'Content-Type: application/x-tar' --data-binary @%s %s/api/v2/admin/tenants/second/restore", m.adminKey(), second, base)
	m.must(m.secondKey(), "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "of the second")

	// A night on which one directory is not there.
	if err := os.Remove(metric); err != nil {
		m.Fatal(err)
	}
	m.sh("mv %s/tenants/second %[1]s/away", data)
	if m.try("systemctl start sqgate-backup.service") == nil || m.try("systemctl is-failed --quiet sqgate-backup.service") != nil {
		m.Error("a backup without a tenant's directory does not fail")
	}
	m.sh("mv %s/away %[1]s/tenants/second && systemctl reset-failed sqgate-backup.service", data)
	if log := m.out("journalctl -o cat -u sqgate-backup"); !strings.Contains(log, "sqgate: not everything is backed up in "+backups+": tenant second\n") {
		m.Errorf("the journal does not name the tenant: %s", log)
	}
	if _, err := os.Stat(metric); err == nil {
		m.Error("the metric says that everything is backed up")
	}
	m.must(m.secondKey(), "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "of the second")
}

// movesToNewHost restores everything on a host that has nothing but the backups of one
// night, with the commands of operations.md.
func movesToNewHost(m *machine) {
	m.sh("rm -rf /etc/sq %s /var/lib/sqgate /etc/credstore/sqgate.admin-key && dpkg -i %s/sqgate.deb", data, m.share)
	found, err := filepath.Glob(filepath.Join(backups, "second.*.tar"))
	if err != nil || len(found) != 1 {
		m.Fatalf("%q, %v", found, err)
	}
	night := strings.TrimSuffix(found[0], ".tar")
	night = night[strings.LastIndexByte(night, '.')+1:] // behind the incarnation
	m.sh("cd %s && install -o sq -g sq -m 600 tenants.%s.json /etc/sq/tenants.json && systemctl enable --now sq", backups, night)
	m.sh("cd %s && for file in *.%s.tar; do sqgate restore ${file%%%%.*} --from $file || exit 1; done", backups, night)
	m.must(m.secondKey(), "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "of the second")
	m.must(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "from the old world")
	m.must(legacyKey, "POST", "/api/v2/update?p=notes&c=9.1.1/1.1.1/1.1.1", "written on the new host", "")
	m.sh("systemctl stop sq.socket sq.service && dpkg --purge sqgate")
}
