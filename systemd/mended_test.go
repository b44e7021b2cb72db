package systemd

import (
	"net"
	"strings"
	"time"
)

// startsWhenMended breaks what the start needs, one thing after the other, and restarts
// the unit while clients connect. When the thing is mended, sqgate serves without any
// other command.
func startsWhenMended(m *machine) {
	const aside = "/root/tenants.json"
	m.sh("cp -p %s %s", config, aside)
	restore := "cp -p " + aside + " /etc/sq/tenants.json.new && mv /etc/sq/tenants.json.new " + config
	const badSetting = "echo SQGATE_IDLE_TIMEOUT=soon >>/etc/default/sqgate"
	for _, c := range []struct{ name, broken, mended, status string }{
		{"a tenants file that is no JSON", "truncate -s 40 " + config, restore, "NO TENANT IS SERVED"},
		{"a mistake in the tenants file", `sed -i s/data_dir/dir/ ` + config, restore, `field "dir" is unknown`},
		{"no tenants file", "rm " + config, restore, "no such file"},
		{"an empty tenants file", "truncate -s 0 " + config, restore, "empty"},
		{"a FIFO", "rm " + config + " && mkfifo " + config, "rm " + config + " && " + restore, "not a regular file"},
		{"a file of root", "chown root " + config, "chown sq:sq " + config, "chown sq:sq " + config},
		{"a directory of root", "chmod 700 /etc/sq && chown root /etc/sq", "chown sq /etc/sq && chmod 750 /etc/sq", "chown sq:sq " + config},
		{"a bad setting", "cp /etc/default/sqgate /root && " + badSetting, "cp /root/sqgate /etc/default", "CANNOT START"},
		{"no SQ", "mv /usr/local/bin/sq /root", "mv /root/sq /usr/local/bin", "cargo install sq"},
		{"a bad management key", "install -D -m 600 /dev/null /etc/credstore/sqgate.admin-key", "rm /etc/credstore/sqgate.admin-key", "management key"},
		{"no sqgate", "mv /usr/bin/sqgate /root", "mv /root/sqgate /usr/bin", ""},
		{"a place for state that is a file", "systemctl stop sq && mv /var/lib/sqgate /root/state && touch /var/lib/sqgate", "rm /var/lib/sqgate && mv /root/state /var/lib/sqgate", ""},
	} {
		m.sh("%s", c.broken)
		clients := connect()
		_ = m.try("timeout 20 systemctl restart sq") // it fails if sqgate cannot start
		m.await(c.name+": 25 clients have tried", clients.more(25))
		if c.status != "" {
			m.await(c.name+": the status says so", func() bool { return strings.Contains(m.statusLine(), c.status) })
			m.await(c.name+": callers are told", func() bool { return m.status(legacyKey, "GET", "/health", "") == 503 })
		}
		m.sh("%s", c.mended)
		began := time.Now()
		m.await(c.name+": it is served", func() bool {
			return m.status(legacyKey, "GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1", "") == 200
		})
		m.Logf("%s: served %v after it was mended", c.name, time.Since(began).Round(10*time.Millisecond))
		clients.end()
		m.await(c.name+": the units are active", func() bool { return m.try("systemctl is-active --quiet sq.service sq.socket") == nil })
	}
	if said := m.out("systemctl --failed --no-legend --plain"); said != "" {
		m.Errorf("failed: %s", said)
	}
	m.await("the status is well", func() bool { return strings.HasPrefix(m.statusLine(), "2 tenants") })
}

// clients connect over and over.
type clients struct {
	stop, tries chan struct{}
	done        chan struct{}
}

func connect() *clients {
	c := &clients{stop: make(chan struct{}), tries: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), time.Second); err == nil {
				_, _ = conn.Write([]byte("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) // it may be cut off
				_ = conn.Close()
			}
			select {
			case c.tries <- struct{}{}:
			case <-tick.C:
			case <-c.stop:
				return
			}
		}
	}()
	return c
}

// more holds when n further ones have tried.
func (c *clients) more(n int) func() bool {
	return func() bool {
		select {
		case <-c.tries:
			n--
		default:
		}
		return n <= 0
	}
}

func (c *clients) end() {
	close(c.stop)
	<-c.done
}
