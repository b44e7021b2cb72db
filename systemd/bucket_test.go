package systemd

import (
	"os"
	"path/filepath"
	"strings"
)

// hasBucket puts a serving host into a bucket on S3, as bucket.md says, from the network of
// its own. Then its disk is lost.
func hasBucket(m *machine) {
	server := filepath.Join(m.share, "versitygw")
	if _, err := os.Stat(server); err != nil {
		m.Skip("there is no S3 server to test with: .ci/systemd takes the versitygw that VERSITYGW names")
	}
	m.fresh()
	m.install()
	m.write("/etc/credstore/sqgate.admin-key", "given-management-key\n")
	m.sh("chmod 600 /etc/credstore/sqgate.admin-key && sqgate init --id will --key key-of-will && systemctl enable --now sq")
	m.writes("key-of-will", "before the bucket", 200)
	m.sh("mkdir -p /srv/s3/tests && systemd-run --unit=s3 -E ROOT_ACCESS_KEY=tester -E ROOT_SECRET_KEY=the-secret %s --port 127.0.0.1:7070 --quiet posix /srv/s3", server)
	m.await("the S3 server listens", func() bool { return m.try("curl -s -o /dev/null http://127.0.0.1:7070/") == nil })
	m.write("/etc/credstore/sqgate.bucket", "[default]\naws_access_key_id = tester\naws_secret_access_key = the-secret\n")
	m.sh("chmod 600 /etc/credstore/sqgate.bucket")

	const url = "s3://tests/one?endpoint=http://127.0.0.1:7070"
	said := m.out("SQGATE_ADMIN_KEY_FILE=/etc/credstore/sqgate.admin-key sqgate bucket init --bucket '%s'", url)
	if !strings.Contains(said, "1 phext of 1 directories are in the bucket") {
		m.Fatalf("init: %s", said)
	}
	m.writes("key-of-will", "after init", 200)
	m.sh("echo \"SQGATE_BUCKET='%s'\" >>/etc/default/sqgate", url)
	m.asItSays("bucket.conf")
	m.await("it is served with the bucket", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })
	m.must("key-of-will", "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "after init")
	m.writes("key-of-will", "with the bucket", 200)

	m.sh("systemctl stop s3")
	m.await("the status says that the bucket is lost", func() bool { return strings.HasPrefix(m.statusLine(), "NOTHING IS SERVED until the bucket") })
	m.sh("systemd-run --unit=s3-again -E ROOT_ACCESS_KEY=tester -E ROOT_SECRET_KEY=the-secret %s --port 127.0.0.1:7070 --quiet posix /srv/s3", server)
	m.await("it is served again", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })

	m.sh("systemctl kill -s KILL sq && systemctl stop sq.socket sq && rm -rf /var/lib/sqgate/* %s/*.phext %[1]s/.phext %[1]s/tenants/* && systemctl start sq", data)
	m.await("a new disk has everything", func() bool { return m.status("key-of-will", "GET", "/api/v2/toc?p=notes", "") == 200 })
	m.must("key-of-will", "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "", "with the bucket")
	m.sh("systemctl stop sq.socket sq s3-again sqgate-dialer.socket sqgate-dialer; rm -rf /srv/s3; sed -i /SQGATE_BUCKET/d /etc/default/sqgate")
}
