package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// siteName is the host name in the examples of systemd/examples.
const siteName = "sq.example.org"

// frontend is a running nginx, Caddy or HAProxy, configured with its example.
type frontend struct {
	name    string
	dir     string            // with its logs
	ports   map[string]string // where the site's :443 and :80 are
	trusted *x509.CertPool
	h1, h2  *http.Client // over TLS; they follow no redirect
	output  *logBuffer
}

// forEachFrontend runs a test with each, in parallel. They have to be installed, and
// SQTEST_FRONTENDS set, as in .ci/frontends.
func forEachFrontend(t *testing.T, test func(t *testing.T, start func(upstream string) *frontend)) {
	t.Helper()
	if os.Getenv("SQTEST_FRONTENDS") == "" {
		t.Skip("NO FRONTENDS: SQTEST_FRONTENDS is not set; .ci/frontends installs nginx, Caddy and HAProxy, and sets it")
	}
	for _, name := range []string{"nginx", "caddy", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(upstream string) *frontend { return startFrontend(t, name, upstream) })
		})
	}
}

// startFrontend configures the program with its example. Only addresses, files and
// the certificate are others than the example says.
func startFrontend(t *testing.T, name, upstream string) *frontend {
	t.Helper()
	f := &frontend{name: name, dir: t.TempDir(), ports: map[string]string{"443": freePort(t), "80": freePort(t)}, output: &logBuffer{grown: make(chan struct{})}}
	f.makeCertificate(t)
	var cmd *exec.Cmd
	switch name {
	case "nginx":
		// What Debian's nginx.conf has around a site, and compression of everything.
		f.write(t, "nginx.conf", fmt.Sprintf("%s\ndaemon off; pid %[2]s/pid; error_log %[2]s/error.log info; events {}\nhttp {\n"+
			"access_log %[2]s/access.log; gzip on; gzip_min_length 1; gzip_proxied any; gzip_types text/plain application/json;\n"+
			"client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;\n"+
			"include %[2]s/site.conf; }\n", map[bool]string{true: "user root;"}[os.Getuid() == 0], f.dir))
		f.write(t, "site.conf", f.example(t, "nginx-site.conf", "127.0.0.1:1337", upstream, "/var/log/nginx", f.dir,
			"/etc/letsencrypt/live/"+siteName+"/fullchain.pem", f.dir+"/cert.pem", "/etc/letsencrypt/live/"+siteName+"/privkey.pem", f.dir+"/key.pem",
			"listen 443 ", "listen 127.0.0.1:"+f.ports["443"]+" ", "listen 80;", "listen 127.0.0.1:"+f.ports["80"]+";",
			"    listen [::]:443 ssl http2;\n", "", "    listen [::]:80;\n", ""))
		cmd = exec.Command("nginx", "-c", f.dir+"/nginx.conf", "-e", f.dir+"/early.log")
	case "caddy":
		f.write(t, "Caddyfile", f.example(t, "Caddyfile", "127.0.0.1:1337", upstream,
			"\n{\n", fmt.Sprintf("\n{\n\tdebug\n\tadmin off\n\tskip_install_trust\n\tdefault_bind 127.0.0.1\n\thttp_port %s\n\thttps_port %s\n", f.ports["80"], f.ports["443"]),
			siteName+" {\n", fmt.Sprintf("%s {\n\ttls %s/cert.pem %s/key.pem\n", siteName, f.dir, f.dir)))
		cmd = exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", f.dir+"/Caddyfile")
	case "haproxy":
		f.configureHAProxy(t, "127.0.0.1:"+f.ports["443"], "127.0.0.1:"+f.ports["80"], upstream)
		cmd = exec.Command("haproxy", "-db", "-f", f.dir+"/haproxy.cfg")
	}
	cmd.Env = append(os.Environ(), "HOME="+f.dir, "XDG_DATA_HOME="+f.dir, "XDG_CONFIG_HOME="+f.dir)
	cmd.Stdout, cmd.Stderr = f.output, f.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is not installed, or does not start: %v", name, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ends does not matter, as long as it does
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(waitTimeout):
			_ = cmd.Process.Kill() // it may have just ended
			<-ended
			t.Errorf("%s did not stop", name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(f.output.String(), 40))
		}
	})
	for _, port := range f.ports {
		eventually(t, name+" listens", func() bool {
			select {
			case <-ended:
				early, _ := os.ReadFile(f.dir + "/early.log") // only nginx writes one
				t.Fatalf("%s ended:\n%s%s", name, f.output, early)
			default:
			}
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err == nil {
				_ = c.Close() // nothing was sent
			}
			return err == nil
		})
	}
	f.h1, f.h2 = f.newClient(false), f.newClient(true)
	return f
}

func (f *frontend) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// example is a file of systemd/examples with texts replaced, each of which it must
// have.
func (f *frontend) example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile("../../systemd/examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !bytes.Contains(text, []byte(replace[i])) {
			t.Fatalf("%s has no %q", name, replace[i])
		}
		text = bytes.ReplaceAll(text, []byte(replace[i]), []byte(replace[i+1]))
	}
	return string(text)
}

// configureHAProxy writes its configuration, for these addresses to listen on and these
// servers.
func (f *frontend) configureHAProxy(t *testing.T, https, http string, servers ...string) {
	t.Helper()
	f.write(t, "sq.pem", f.read(t, "cert.pem")+f.read(t, "key.pem"))
	replace := []string{"/etc/haproxy/sq.pem", f.dir + "/sq.pem", "log /dev/log local0", "log stdout format raw local0", "    user haproxy\n    group haproxy\n", "", "bind :443", "bind " + https, "bind :80", "bind " + http}
	if len(servers) == 1 { // it is restarted behind its socket, which may take a slow machine longer than a check
		replace = append(replace, "timeout check 1s", fmt.Sprintf("timeout check %ds", int(waitTimeout.Seconds())))
	}
	for i := range 3 {
		line, with := fmt.Sprintf("    server sq%d sq%[1]d.internal:1337\n", i+1), ""
		if i < len(servers) {
			with = fmt.Sprintf("    server sq%d %s\n", i+1, servers[i])
		}
		replace = append(replace, line, with)
	}
	f.write(t, "haproxy.cfg", f.example(t, "haproxy.cfg", replace...))
}

func (f *frontend) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makeCertificate writes cert.pem and key.pem.
func (f *frontend) makeCertificate(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: siteName}, DNSNames: []string{siteName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	f.write(t, "cert.pem", string(certPEM))
	f.write(t, "key.pem", string(keyPEM))
	f.trusted = x509.NewCertPool()
	f.trusted.AppendCertsFromPEM(certPEM)
}

// newClient makes a client to which siteName is the frontend.
func (f *frontend) newClient(http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+f.ports[addr[strings.LastIndexByte(addr, ':')+1:]])
		},
		TLSClientConfig:       &tls.Config{RootCAs: f.trusted},
		ForceAttemptHTTP2:     http2,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true,
		ExpectContinueTimeout: time.Second, // as curl: over HTTP/2, nginx tells nobody to go on
	}
	if !http2 {
		transport.ExpectContinueTimeout = waitTimeout
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: waitTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// newRequest makes a request whose target goes out as it is written here.
func newRequest(t *testing.T, method, base, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, base, body)
	if err != nil {
		t.Fatal(err)
	}
	raw, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = path, raw, query
	return r
}

// answerOf sends a request and reads its answer whole.
func answerOf(client *http.Client, r *http.Request) (reply, error) {
	resp, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text)}, err
}

// wrote is everything that the frontend has written: its output and all logs.
func (f *frontend) wrote(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"its output": f.output.String()}
	err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
