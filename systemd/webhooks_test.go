package systemd

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
)

// deliversWebhooks has the shipped dialer reach a receiver from the unit's own network, as
// webhooks.md says, and no address that is not allowed.
func deliversWebhooks(m *machine) {
	m.fresh()
	m.install()
	m.write("/etc/credstore/sqgate.admin-key", "given-management-key\n")
	m.sh("chmod 600 /etc/credstore/sqgate.admin-key && sqgate init --id will --key key-of-will && systemctl enable --now sq")
	var told atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && r.Header.Get("webhook-signature") != "" && strings.Contains(string(body), `"op":`) {
			told.Add(1)
		}
	}))
	defer receiver.Close()
	const webhook = "SQGATE_ADMIN_KEY_FILE=/etc/credstore/sqgate.admin-key sqgate webhook "
	m.sh(webhook+"add will %s --id mine", receiver.URL)
	list := func() string { return m.out(webhook + "list will --json") }
	m.await("it is said that there is no way out", func() bool { return strings.Contains(list(), "sqgate-dialer.socket") })
	m.asItSays("webhooks.conf")
	m.await("the dialer refuses loopback", func() bool { return strings.Contains(list(), "--webhook-allow does not name it") })
	if n := told.Load(); n > 0 {
		m.Errorf("%d requests were made", n)
	}
	m.sh("echo SQGATE_WEBHOOK_ALLOW=127.0.0.1 >>/etc/default/sqgate && systemctl restart sqgate-dialer sq")
	m.await("the receiver is told", func() bool { return told.Load() == 1 })
	m.writes("key-of-will", "a text", 200)
	m.await("the receiver is told of the write", func() bool { return told.Load() == 2 })
	m.sh("systemctl stop sq.socket sq sqgate-dialer.socket sqgate-dialer; rm /etc/systemd/system/sq.service.d/webhooks.conf; sed -i /SQGATE_WEBHOOK/d /etc/default/sqgate; systemctl daemon-reload")
}
