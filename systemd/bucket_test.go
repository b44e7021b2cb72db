package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bucketAt is a bucket at this address of the machine.
func bucketAt(address string) string { return "s3://tests/one?endpoint=http://" + address }

// startS3 starts a server for bucketAt, as a unit with this name.
func (m *machine) startS3(unit, address string) {
	m.Helper()
	m.sh("mkdir -p /srv/s3/tests && systemd-run --unit=%s -E ROOT_ACCESS_KEY=tester -E ROOT_SECRET_KEY=the-secret %s/versitygw --port %s --quiet posix /srv/s3", unit, m.share, address)
	m.await("the S3 server listens", func() bool { return m.try("curl -s -o /dev/null http://%s/", address) == nil })
}

// putsIntoBucket puts a serving host with one tenant into a bucket, as bucket.md says.
func (m *machine) putsIntoBucket(address string) {
	m.Helper()
	if _, err := os.Stat(filepath.Join(m.share, "versitygw")); err != nil {
		m.Skip("there is no S3 server to test with: .ci/systemd takes the versitygw that VERSITYGW names")
	}
	m.fresh()
	m.install()
	m.write("/etc/credstore/sqgate.admin-key", "given-management-key\n")
	m.sh("chmod 600 /etc/credstore/sqgate.admin-key && sqgate init --id will --key key-of-will && systemctl enable --now sq")
	m.writes("key-of-will", "before the bucket", 200)
	m.startS3("s3", address)
	m.write("/etc/credstore/sqgate.bucket", "[default]\naws_access_key_id = tester\naws_secret_access_key = the-secret\n")
	m.sh("chmod 600 /etc/credstore/sqgate.bucket")

	said := m.out("SQGATE_ADMIN_KEY_FILE=/etc/credstore/sqgate.admin-key sqgate bucket init --bucket '%s'", bucketAt(address))
	if !strings.Contains(said, "1 phext of 1 directories are in the bucket") {
		m.Fatalf("init: %s", said)
	}
	m.writes("key-of-will", "after init", 200)
	m.sh("echo \"SQGATE_BUCKET='%s'\" >>/etc/default/sqgate", bucketAt(address))
	m.asItSays("bucket.conf")
	m.await("it is served with the bucket", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })
	m.must("key-of-will", "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "after init")
	m.writes("key-of-will", "with the bucket", 200)
}

// leavesBucket ends what a step with a bucket has started.
func (m *machine) leavesBucket(s3 string) {
	m.Helper()
	m.sh("systemctl stop sq.socket sq && systemctl stop %s sqgate-dialer.socket sqgate-dialer; rm -rf /srv/s3; sed -i /SQGATE_/d /etc/default/sqgate", s3)
}

// hasBucket has a bucket on S3, from the network of its own. Then the server ends, and the
// disk is lost.
func hasBucket(m *machine) {
	const address = "127.0.0.1:7070"
	m.putsIntoBucket(address)
	m.sh("systemctl stop s3")
	m.await("the status says that the bucket is lost", func() bool { return strings.HasPrefix(m.statusLine(), "NOTHING IS SERVED until the bucket") })
	m.startS3("s3-again", address)
	m.await("it is served again", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })

	m.sh("systemctl kill -s KILL sq && systemctl stop sq.socket sq && rm -rf /var/lib/sqgate/* %s/*.phext %[1]s/.phext %[1]s/tenants/* && systemctl start sq", data)
	m.await("a new disk has everything", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })
	m.must("key-of-will", "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "with the bucket")
	m.leavesBucket("s3-again")
}

// hasHosts lets a second host share the bucket, as hosts.md says. That one is sqgate started by
// hand in a network of its own, since both take others' requests at the same port.
func hasHosts(m *machine) {
	const (
		here, there = "10.99.0.1", "10.99.0.2"
		s3          = here + ":7070"
		operator    = "SQGATE_ADMIN_KEY_FILE=/etc/credstore/sqgate.admin-key sqgate host "
	)
	m.sh("ip netns add two && ip link add to-two type veth peer name to-one netns two && ip addr add %s/24 dev to-two && ip link set to-two up", here)
	m.sh("ip -n two addr add %s/24 dev to-one && ip -n two link set to-one up && ip -n two link set lo up", there)
	m.putsIntoBucket(s3)
	m.sh("echo SQGATE_HOST_LISTEN=:1338 >>/etc/default/sqgate && echo SQGATE_HOST_URL=https://%s:1338 >>/etc/default/sqgate", here)
	m.asItSays("hosts.conf")
	name := m.out("hostname")
	m.await("the first host is there", func() bool { return strings.Contains(m.out(operator+"list"), name) })
	m.sh("systemd-run --unit=two -p NetworkNamespacePath=/run/netns/two -E AWS_ACCESS_KEY_ID=tester -E AWS_SECRET_ACCESS_KEY=the-secret sqgate serve --bucket '%s' --host-name two --host-listen :1338 --host-url https://%s:1338 --listen %[2]s:1337 --admin-key-file /etc/credstore/sqgate.admin-key --config /srv/two/tenants.json --state-dir /srv/two/state --data-root /srv/two/data --archive-dir /srv/two/archive", bucketAt(s3), there)
	m.await("the second host is there", func() bool { return strings.Contains(m.out(operator+"list"), "two") })

	read := func(address string) string {
		text, err := exec.Command("curl", "-s", "-H", "Authorization: Bearer key-of-will", "http://"+address+":1337/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1").Output()
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	m.await("the second host sends requests to the first", func() bool { return read(there) == "with the bucket" })
	m.sh(operator + "move will two")
	m.writes("key-of-will", "through the first host", 200)
	if got := read(there); got != "through the first host" {
		m.Errorf("the second host has %q", got)
	}
	m.sh(operator+"move will %s && "+operator+"drain %[1]s", name)
	if got := m.status("", "GET", "/health", ""); got != 503 {
		m.Errorf("the health of a drained host is %d", got)
	}
	m.writes("key-of-will", "to a drained host", 200)
	m.sh("systemctl restart sq")
	m.await("it is back", func() bool { return m.status("", "GET", "/health", "") == 200 })
	if here, there := read("127.0.0.1"), read(there); here != "to a drained host" || there != here {
		m.Errorf("%q here, %q there", here, there)
	}
	m.sh("systemctl stop two && systemctl disable --now sqgate-hosts.socket")
	m.leavesBucket("s3")
	m.sh("ip netns del two && rm -rf /srv/two")
}
