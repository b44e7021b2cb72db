package systemd

import (
	"fmt"
	"regexp"
	"strings"
)

// fresh makes the host one on which neither sqgate nor an old SQ ever was.
func (m *machine) fresh() {
	m.Helper()
	m.sh("systemctl stop sq.socket sq.service sq-legacy.service 2>/dev/null; dpkg --purge sqgate 2>/dev/null; true")
	m.sh("rm -rf /etc/sq %s /var/lib/sqgate %s /etc/credstore /etc/systemd/system/sq* && systemctl daemon-reload && systemctl reset-failed", data, backups)
	m.sh("install -m 755 %s/sq /usr/local/bin/sq", m.share)
}

func (m *machine) install() {
	m.Helper()
	m.sh("dpkg -i %s/sqgate.deb", m.share)
}

var printedStep = regexp.MustCompile(`(?m)^  \d\. (.*)$`)

// follow does what a command has printed below a line, step by step.
func (m *machine) follow(said, head string) {
	m.Helper()
	_, list, ok := strings.Cut(said, head+"\n")
	steps := printedStep.FindAllStringSubmatchIndex(list, -1)
	if !ok || len(steps) == 0 {
		m.Fatalf("there are no steps below %q: %s", head, said)
	}
	end := 0
	for _, at := range steps {
		if strings.TrimSpace(list[end:at[0]]) != "" {
			break // another list
		}
		end = at[1]
		if err := m.try("%s", list[at[2]:at[3]]); err != nil {
			m.Fatalf("%s: %v", list[at[2]:at[3]], err)
		}
	}
}

// asItSays runs the commands in the comment at the top of a shipped example.
func (m *machine) asItSays(example string) {
	m.Helper()
	m.sh("cd /usr/share/doc/sqgate/examples && sed -n 's/^#   //p' %s >/tmp/commands && test -s /tmp/commands && sh -e /tmp/commands", example)
}

func (m *machine) writes(key, what string, want int) {
	m.Helper()
	m.call(key, "POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", what, want)
}

// hasDataElsewhere has data where the unit may write only if it is told to, and starts
// without one of the places.
func hasDataElsewhere(m *machine) {
	m.fresh()
	m.install()
	m.write("/etc/credstore/sqgate.admin-key", "given-management-key\n")
	m.sh("chmod 600 /etc/credstore/sqgate.admin-key && sqgate init --id will --key key-of-will && systemctl enable --now sq")
	m.writes("key-of-will", "at home", 200)
	m.asItSays("flags.conf")
	const tenant = "SQGATE_ADMIN_KEY_FILE=/etc/credstore/sqgate.admin-key sqgate tenant "
	added := m.out(tenant + "add second")
	if !strings.Contains(added, "/srv/sq/tenants/second") {
		m.Fatalf("added: %s", added)
	}
	m.write(secondKeyFile, added[strings.Index(added, "pmb-v1-"):])
	m.writes(m.secondKey(), "elsewhere", 200)

	m.sh("install -d -o sq -g sq -m 700 /opt/third")
	m.edit(`"tenants": [`, `"tenants": [{"id": "third", "api_key": "key-of-third", "data_dir": "/opt/third"},`)
	m.await("the third tenant is served", func() bool { return m.status("key-of-third", "GET", "/api/v2/toc?p=notes", "") == 200 })
	m.writes("key-of-third", "x", 502)
	if shown := m.out(tenant + "show third"); !strings.Contains(shown, "ReadWritePaths=") {
		m.Errorf("the tenant does not say that it cannot write: %s", shown)
	}
	if log := m.out("journalctl -u sq -o cat"); !strings.Contains(log, `msg="a tenant cannot write" tenant=third`) {
		m.Errorf("the log does not say that it cannot write: %s", log)
	}

	for _, c := range []struct {
		name, before, after string
		write               int // the answer to one without a restart
	}{
		{"a directory that is away", "mv /srv/sq /srv/away", "mv /srv/away /srv/sq", 502},
		{"a disk that is not mounted", "mv /srv/sq /srv/disk && mkdir /srv/sq && chown sq:sq /srv/sq", "mount --bind /srv/disk /srv/sq", 200},
	} {
		m.sh("systemctl stop sq.socket sq.service && %s && systemctl start sq", c.before)
		m.writes("key-of-will", c.name, 200)
		m.call(m.secondKey(), "GET", "/api/v2/toc?p=notes", "", 503)
		m.sh("%s", c.after)
		m.await(c.name+": it is served", func() bool { return m.status(m.secondKey(), "GET", "/api/v2/toc?p=notes", "") == 200 })
		m.writes(m.secondKey(), "back", c.write)
		m.sh("systemctl restart sq")
		m.writes(m.secondKey(), "back", 200)
	}
	m.sh("systemctl stop sq.socket sq.service; umount /srv/sq; rm -rf /srv/sq /srv/disk /opt/third")
}

// runsOldSQ starts an old SQ on a port, as a user whose line it is.
func (m *machine) runsOldSQ(user, port, dir string) {
	m.Helper()
	m.fresh()
	m.write("/etc/systemd/system/sq.service", fmt.Sprintf("[Service]\n%sExecStart=/usr/local/bin/sq host %s --key %s --data-dir %s\nWorkingDirectory=%[4]s\n[Install]\nWantedBy=multi-user.target\n", user, port, "old-key-of-all", dir))
	m.sh("systemctl daemon-reload && systemctl enable --now sq")
	m.awaitAt(port)
	m.writesAt(port, "old-key-of-all", "notes", "of the old SQ")
	m.install()
}

func (m *machine) awaitAt(port string) {
	m.Helper()
	m.await("something answers", func() bool {
		return m.try("curl -fsS -H 'Authorization: Bearer old-key-of-all' http://127.0.0.1:%s/api/v2/version", port) == nil
	})
}

// writesAt is for ports that are not sqgate's own.
func (m *machine) writesAt(port, key, phext, text string) {
	m.Helper()
	m.sh("curl -fsS -H 'Authorization: Bearer %s' 'http://127.0.0.1:%s/api/v2/update?p=%s&c=1.1.1/1.1.1/1.1.1' -d '%s'", key, port, phext, text)
}

// returns goes back to the old SQ and to sqgate, then back for good and adopts again,
// each with the lines that init has printed.
func (m *machine) returns(said, port string) {
	m.Helper()
	const key = "old-key-of-all"
	m.sh("systemctl start sq-legacy")
	m.awaitAt(port)
	m.writesAt(port, key, "new", "made by the old SQ")
	line := regexp.MustCompile(`(?m)^To return to sqgate: (.*)$`).FindStringSubmatch(said)
	if line == nil {
		m.Fatalf("init does not say how to return: %s", said)
	}
	m.sh("%s", line[1])
	m.writesAt(port, key, "new", "by sqgate")

	m.sh("systemctl start sq-legacy")
	m.awaitAt(port)
	m.follow(said, "To go back for good:")
	m.awaitAt(port)
	m.writesAt(port, key, "newer", "made by the old SQ")
	if failed := m.out("systemctl --failed --no-legend --plain"); failed != "" || m.try("systemctl is-active --quiet sq.service") != nil {
		m.Errorf("the old SQ does not run as it did: %s", failed)
	}
	if m.try("pgrep -x sqgate") == nil {
		m.Error("sqgate still runs")
	}
	m.follow(m.out("sqgate init --adopt"), "Next, in this order:")
	m.awaitAt(port)
	for _, phext := range []string{"notes", "new", "newer"} {
		m.writesAt(port, key, phext, "by sqgate again")
	}
}

func adoptsRoot(m *machine) {
	m.sh("install -d /srv/old")
	m.runsOldSQ("", "1337", "/srv/old")
	said := m.out("sqgate init --adopt")
	m.follow(said, "Next, in this order:")
	m.writes("old-key-of-all", "by sqgate", 200)
	m.returns(said, "1337")
	m.sh("rm -r /srv/old")
}

func adoptsAnotherUser(m *machine) {
	m.sh("useradd --create-home old-phext && install -d -o old-phext -g old-phext -m 700 /home/old-phext/data")
	m.runsOldSQ("User=old-phext\n", "8080", "/home/old-phext/data")
	said := m.out("sqgate init --adopt")
	m.follow(said, "Next, in this order:")
	m.writesAt("8080", "old-key-of-all", "notes", "by sqgate")
	m.sh("export SQGATE_URL=http://127.0.0.1:8080; sqgate tenant add second && sqgate tenant list")
	m.sh("systemctl start sqgate-backup.service && ls %s/default.*.tar %[1]s/second.*.tar", backups)
	m.sh("systemd-tmpfiles --create && dpkg -i %s/sqgate.deb && systemctl restart sq", m.share)
	m.writesAt("8080", "old-key-of-all", "notes", "after an upgrade and a boot")
	m.returns(said, "8080")
	m.movesWithDropIns()
	m.fresh()
	m.sh("userdel -r old-phext && rm -r /root/old")
}

// movesWithDropIns brings the adopted SQ to a host that has the backups of one night, the
// drop-ins and the user, with the commands of operations.md.
func (m *machine) movesWithDropIns() {
	m.Helper()
	m.sh("systemctl start sqgate-backup.service && mkdir /root/old && cp -a %s /root/old/night && cp -a /etc/systemd/system/sq*.d /root/old", backups)
	m.fresh()
	m.sh("rm -r /home/old-phext/data")
	m.install()
	m.sh("cp -a /root/old/*.d /etc/systemd/system/")
	m.sh("chown old-phext: /etc/sq /var/lib/sq /var/lib/sq/tenants /var/lib/sq/archive && install -d -o old-phext -g old-phext -m 700 /home/old-phext/data")
	const night = "cd /root/old/night && night=$(ls tenants.*.json | tail -n 1 | cut -d. -f2) && "
	m.sh(night + "install -o old-phext -g old-phext -m 600 tenants.$night.json /etc/sq/tenants.json && sqgate check && systemctl daemon-reload && systemctl enable --now sq")
	m.sh(night + "export SQGATE_URL=http://127.0.0.1:8080 && for file in *.$night.tar; do sqgate restore ${file%%%%.*} --from $file --yes || exit 1; done")
	m.writesAt("8080", "old-key-of-all", "notes", "on the new host")
	if got := m.out("curl -fsS -H 'Authorization: Bearer old-key-of-all' 'http://127.0.0.1:8080/api/v2/select?p=new&c=1.1.1/1.1.1/1.1.1'"); got != "by sqgate again" {
		m.Errorf("the phext of before has %q", got)
	}
}
