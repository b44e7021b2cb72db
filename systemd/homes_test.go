package systemd

import (
	"fmt"
	"regexp"
	"strings"
)

// inHome runs an old SQ under some unit that is a program in a home, as `cargo install sq`
// puts it, with its data there. No other SQ is on the host.
func (m *machine) inHome(unit, user, home, port string) {
	m.Helper()
	m.fresh()
	m.sh("rm /usr/local/bin/sq && install -D -o %s -m 755 %s/sq %s/.cargo/bin/sq && install -d -o %[1]s -m 755 %[3]s/phext && chmod 700 %[3]s", user, m.share, home)
	m.write("/etc/systemd/system/"+unit, fmt.Sprintf("[Service]\nUser=%s\nExecStart=%s/.cargo/bin/sq host %s --key old-key-of-all\nWorkingDirectory=%[2]s/phext\n[Install]\nWantedBy=multi-user.target\n", user, home, port))
	m.sh("systemctl daemon-reload && systemctl enable --now %s", unit)
	m.awaitAt(port)
	m.writesAt(port, "old-key-of-all", "notes", "of the old SQ")
}

// servesOldData checks that what init has printed ends in a service that works, and that
// check finds nothing.
func (m *machine) servesOldData(home, port string) {
	m.Helper()
	if text := m.out("curl -fsS -H 'Authorization: Bearer old-key-of-all' 'http://127.0.0.1:%s/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1'", port); text != "of the old SQ" {
		m.Errorf("the phext has %q", text)
	}
	m.writesAt(port, "old-key-of-all", "notes", "by sqgate")
	if text := m.out("cat %s/phext/notes.phext", home); text != "by sqgate" {
		m.Errorf("the phext is %q", text)
	}
	if said := m.out("sqgate check"); !strings.HasSuffix(said, "1 tenant, nothing wrong") {
		m.Error(said)
	}
	pid := m.out("systemctl show -p MainPID --value sq")
	if seen := m.out("nsenter -t %s -m ls -A %s", pid, home); seen != "phext" {
		m.Errorf("of the home, sqgate sees %q", seen)
	}
	if m.try("nsenter -t %s -m touch %s/x", pid, home) == nil {
		m.Error("the home can be written")
	}
}

// movesTenant does what operations.md says, and the history comes along.
func movesTenant(m *machine) {
	const at = "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1"
	m.fresh()
	m.install()
	m.sh("sqgate init --id will --key key-of-will && systemctl enable --now sq && mkdir /srv/disk")
	added := m.out("sqgate tenant add acme")
	key := strings.TrimSpace(added[strings.Index(added, "pmb-v1-"):])
	m.writes(key, "before", 200)
	m.sh("cd /usr/share/doc/sqgate && sed -n '/^## Move a tenant/,/^With another/s/^    //p' operations.md >/tmp/commands && test -s /tmp/commands && sh -ex /tmp/commands")
	m.must(key, "GET", at, "", "before")
	m.writes(key, "after", 200)
	if text := m.out("cat /srv/disk/acme/notes.phext"); text != "after" {
		m.Errorf("on the disk is %q", text)
	}
	m.sh("systemctl restart sq")
	m.must(key, "GET", at, "", "after")
	if history := m.out("sqgate history acme notes"); strings.Count(history, "update") != 2 {
		m.Errorf("the history: %s", history)
	}
	if said := m.out("sqgate check"); !strings.HasSuffix(said, "2 tenants, nothing wrong") {
		m.Error(said)
	}
	m.sh("systemctl stop sq.socket sq.service; umount %s/tenants/acme; sed -i /acme/d /etc/fstab; systemctl daemon-reload; rm -r /srv/disk", data)
}

// adoptsFromHome has a unit of another name, so that sqgate runs as its own user, who may
// not enter the home. sqgate keeps the port, gives it back, and gets it again.
func adoptsFromHome(m *machine) {
	m.sh("useradd --create-home at-home")
	m.inHome("phext.service", "at-home", "/home/at-home", "8080")
	if said := m.out("dpkg -i %s/sqgate.deb", m.share); !strings.Contains(said, "next:  sqgate init --adopt --unit /etc/systemd/system/phext.service ") {
		m.Errorf("the package does not name the unit: %s", said)
	}
	if err := m.try("sqgate init --adopt"); err == nil || !strings.Contains(err.Error(), "sqgate init --adopt --unit /etc/systemd/system/phext.service") {
		m.Errorf("init does not name the unit: %v", err)
	}
	said := m.out("sqgate init --adopt --unit /etc/systemd/system/phext.service")
	m.follow(said, "Next, in this order:")
	m.servesOldData("/home/at-home", "8080")
	m.sh("systemctl enable --now sqgate-backup.timer && systemctl start sqgate-backup.service && ls %s/default.*.tar", backups)
	m.sh("export SQGATE_URL=http://127.0.0.1:8080; sqgate tenant list")

	line := func(head string) string {
		found := regexp.MustCompile("(?m)^" + head + ": (.*)$").FindStringSubmatch(said)
		if found == nil {
			m.Fatalf("init has no line %q: %s", head, said)
		}
		return found[1]
	}
	m.sh("%s", line("To go back"))
	m.awaitAt("8080")
	m.writesAt("8080", "old-key-of-all", "notes", "of the old SQ")
	if m.try("systemctl is-active --quiet phext") != nil || m.try("pgrep -x sqgate") == nil || m.try("systemctl is-enabled --quiet sqgate-backup.timer") == nil {
		m.Error("the old SQ does not run alone")
	}
	again := m.out("%s", line("To return to sqgate"))
	if !strings.Contains(again, "The nightly backups are off: systemctl enable --now sqgate-backup.timer") {
		m.Errorf("init does not say that there are no backups: %s", again)
	}
	m.follow(again, "Next, in this order:")
	m.servesOldData("/home/at-home", "8080")

	// check says what is wrong before somebody is answered 503.
	const dropIn = "/etc/systemd/system/sq.service.d/data.conf"
	for _, c := range []struct{ settings, want string }{
		{"ReadWritePaths=-/home/at-home/phext", "is in a home"},
		{"ProtectHome=no\nReadWritePaths=-/home/at-home/phext", "cannot be reached"},
	} {
		m.write(dropIn, "[Service]\n"+c.settings+"\n")
		m.sh("systemctl daemon-reload && systemctl restart sq")
		if status := m.out("curl -s -o /dev/null -w '%%{http_code}' -H 'Authorization: Bearer old-key-of-all' 'http://127.0.0.1:8080/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1'"); status != "503" {
			m.Errorf("%s: answered %s", c.settings, status)
		}
		if said := m.out("sqgate check"); !strings.Contains(said, c.want) || !strings.Contains(said, "BindPaths=-/home/at-home/phext") {
			m.Errorf("%s: %s", c.settings, said)
		}
	}
	m.fresh()
	m.sh("rm -f /etc/systemd/system/phext.service /etc/systemd/system/*/phext.service && systemctl daemon-reload && userdel -r at-home")
}

// adoptsBelowRoot has an SQ of root, and goes there and back.
func adoptsBelowRoot(m *machine) {
	m.inHome("sq.service", "root", "/root", "1337")
	m.install()
	said := m.out("sqgate init --adopt")
	m.follow(said, "Next, in this order:")
	m.servesOldData("/root", "1337")
	if mode := m.out("stat -c %%a /root"); mode != "700" {
		m.Errorf("/root has mode %s", mode)
	}
	m.returns(said, "1337")
	m.fresh()
	m.sh("rm -r /root/phext /root/.cargo")
}
