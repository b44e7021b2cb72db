package systemd

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waitTimeout bounds every wait. Only a broken sqgate makes a test wait that long.
const waitTimeout = 60 * time.Second

const (
	base          = "http://127.0.0.1:1337"
	secondKeyFile = "/root/second-key"
)

// machine is the booted host, on which the test runs as root.
type machine struct {
	*testing.T
	share string
}

func (m *machine) try(format string, args ...any) error {
	out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf(format, args...)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (m *machine) sh(format string, args ...any) {
	m.Helper()
	if err := m.try(format, args...); err != nil {
		m.Fatalf(format+": %v", append(args, err)...)
	}
}

// out is what a command prints, without the last newline.
func (m *machine) out(format string, args ...any) string {
	m.Helper()
	text, err := exec.Command("/bin/sh", "-c", fmt.Sprintf(format, args...)).Output()
	if err != nil {
		m.Fatalf(format+": %v %s", append(args, err, text)...)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// write writes a file, and keeps the owner of one that exists, as an editor does.
func (m *machine) write(path, text string) {
	m.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

// edit replaces a text in the tenants file.
func (m *machine) edit(from, to string) {
	m.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		m.Fatal(err)
	}
	if !bytes.Contains(text, []byte(from)) {
		m.Fatalf("the tenants file has no %q:\n%s", from, text)
	}
	m.write(config, strings.Replace(string(text), from, to, 1))
}

// await polls until a condition holds.
func (m *machine) await(what string, holds func() bool) {
	m.Helper()
	timeout := time.After(waitTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			m.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}

func (m *machine) statusLine() string { return m.out("systemctl show -p StatusText --value sq") }

func (m *machine) read(path string) string {
	m.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (m *machine) adminKey() string  { return m.read("/var/lib/sqgate/admin-key") }
func (m *machine) secondKey() string { return m.read(secondKeyFile) }

// explain logs what a person would look at first after a failure.
func (m *machine) explain() {
	out, _ := exec.Command("/bin/sh", "-c", "systemctl --no-pager status sq.service sq.socket sq-legacy; journalctl --no-pager -b -u 'sq*' | grep -v status=200 | tail -n 40; cat /etc/sq/tenants.json | sed 's/key[^,]*/key/'").CombinedOutput() // a command that fails says so in its output
	m.Logf("%s", out)
}

func request(client *http.Client, key, method, target, body string) (int, string, error) {
	r, err := http.NewRequest(method, base+target, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// once sends each request on a new connection, as SQ requires.
var once = &http.Client{Timeout: waitTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// status is the status of an answer, or 0 if nobody answers.
func (m *machine) status(key, method, target, body string) int {
	status, _, err := request(once, key, method, target, body)
	if err != nil {
		return 0
	}
	return status
}

func (m *machine) call(key, method, target, body string, want int) string {
	m.Helper()
	status, text, err := request(once, key, method, target, body)
	if err != nil || status != want {
		m.Fatalf("%s %s: %d %q %v, want %d", method, target, status, text, err, want)
	}
	return text
}

// must expects status 200 and, unless want is empty, that body.
func (m *machine) must(key, method, target, body, want string) {
	m.Helper()
	if got := m.call(key, method, target, body, 200); want != "" && got != want {
		m.Fatalf("%s %s: %q, want %q", method, target, got, want)
	}
}

// child is the SQ process of the adopted directory.
type child struct{ pid, port int }

func (m *machine) child() child {
	m.Helper()
	found := childrenOf(data)
	if len(found) != 1 {
		m.Fatalf("%d children serve %s", len(found), data)
	}
	return found[0]
}

func childrenOf(dir string) []child {
	var found []child
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, line := range lines {
		text, err := os.ReadFile(line)
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if err != nil || len(args) < 7 || args[1] != "host" {
			continue
		}
		of, _ := os.ReadFile(filepath.Join(filepath.Dir(line), "environ")) // of none, if it has ended
		if args[len(args)-1] != dir && !strings.HasPrefix(string(of), "SQGATE_DATA_DIR="+dir+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line))) // digits, by the pattern
		port, _ := strconv.Atoi(args[2])                          // a wrong port fails whoever uses it
		found = append(found, child{pid, port})
	}
	return found
}

// load sends writes at a steady rate, half of them on kept connections. Each writes
// its own scroll, and is sent once.
type load struct {
	m      *machine
	phext  string
	stop   chan struct{}
	done   sync.WaitGroup
	sent   atomic.Int64
	acked  sync.Map // scroll number -> true
	count  atomic.Int64
	failed atomic.Int64
	first  atomic.Pointer[string]
}

// mostWaiting is fewer requests than a tenant may have in flight.
const mostWaiting = 384

func (m *machine) startLoad(phext string, perSecond int) *load {
	l := &load{m: m, phext: phext, stop: make(chan struct{})}
	kept := &http.Client{Timeout: waitTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	l.done.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-ticker.C:
			}
			// On a slow disk the requests would queue up and be refused, which is
			// not what this tests.
			if l.sent.Load()-l.count.Load()-l.failed.Load() >= mostWaiting {
				continue
			}
			n := l.sent.Add(1)
			client := []*http.Client{once, kept}[n%2]
			l.done.Go(func() { l.send(client, n) })
		}
	})
	return l
}

func (l *load) target(op string, n int64) string {
	return fmt.Sprintf("/api/v2/%s?p=%s&c=1.1.1/1.1.1/%d.%d.1", op, l.phext, 1+n/900, 1+n%900)
}

func (l *load) send(client *http.Client, n int64) {
	status, text, err := request(client, legacyKey, "POST", l.target("insert", n), fmt.Sprintf("scroll %d", n))
	if err == nil && status == 200 {
		l.acked.Store(n, true)
		l.count.Add(1)
		return
	}
	l.failed.Add(1)
	what := fmt.Sprintf("request %d, kept connection %v: %d %q %v", n, n%2 == 1, status, text, err)
	l.first.CompareAndSwap(nil, &what)
}

func (l *load) awaitMore(n int64) {
	l.m.Helper()
	from := l.count.Load()
	l.m.await("the load goes on", func() bool { return l.count.Load() >= from+n })
}

// end reads back what was acknowledged. A text that is there twice would mean that
// a write was made twice.
func (l *load) end(noneFails bool) {
	l.m.Helper()
	close(l.stop)
	l.done.Wait()
	if failed := l.failed.Load(); noneFails && failed > 0 {
		l.m.Errorf("%d of %d requests failed, first: %s", failed, l.sent.Load(), *l.first.Load())
	}
	lost := 0
	l.acked.Range(func(n, _ any) bool {
		want := fmt.Sprintf("scroll %d", n)
		if _, got, err := request(once, legacyKey, "GET", l.target("select", n.(int64)), ""); err != nil || got != want {
			lost++
			l.m.Logf("%s: %q %v", want, got, err)
		}
		return lost < 5
	})
	if lost > 0 {
		l.m.Errorf("%d acknowledged writes are lost", lost)
	}
	l.m.Logf("%d requests, %d acknowledged, %d failed", l.sent.Load(), l.count.Load(), l.failed.Load())
}
