package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
)

// TestFlagsOfSeveralHosts refuses what cannot be meant.
func TestFlagsOfSeveralHosts(t *testing.T) {
	for _, test := range []struct {
		name string
		o    bucketOptions
		want string
	}{
		{"alone", bucketOptions{}, ""},
		{"an address", bucketOptions{hostListen: "192.0.2.1:1338"}, ""},
		{"all addresses, and a URL", bucketOptions{hostListen: ":1338", hostURL: "https://sq1:1338"}, ""},
		{"a URL without an address", bucketOptions{hostURL: "https://sq1:1338"}, "--host-listen is not"},
		{"all addresses", bucketOptions{hostListen: ":1338"}, "give --host-url"},
		{"all addresses of IPv4", bucketOptions{hostListen: "0.0.0.0:1338"}, "give --host-url"},
		{"no port", bucketOptions{hostListen: "sq1"}, "HOST:PORT is wanted"},
		{"plain HTTP", bucketOptions{hostListen: ":1338", hostURL: "http://sq1:1338"}, "https://HOST:PORT is wanted"},
		{"a URL without a port", bucketOptions{hostListen: ":1338", hostURL: "https://sq1"}, "https://HOST:PORT is wanted"},
		{"a URL with a path", bucketOptions{hostListen: ":1338", hostURL: "https://sq1:1338/x"}, "https://HOST:PORT is wanted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.o
			o.url, o.sync, o.lag = "file:///bucket", true, longestLag
			err := o.check()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	o := bucketOptions{sync: true, lag: longestLag, hostListen: "192.0.2.1:1338"}
	if err := o.check(); err == nil || !strings.Contains(err.Error(), "--bucket is not") {
		t.Errorf("without a bucket: %v", err)
	}
	o.url, o.sync = "file:///bucket", false
	if err := o.check(); err == nil || !strings.Contains(err.Error(), "for one host alone") {
		t.Errorf("without waiting for the bucket: %v", err)
	}
}

// TestADialerReachesHosts connects to the port that all hosts have, and to no other.
func TestADialerReachesHosts(t *testing.T) {
	for _, test := range []struct {
		o    bucketOptions
		want string // of the addresses below
	}{
		{bucketOptions{}, "..."},
		{bucketOptions{url: "s3://b/p?endpoint=https://s3:9000"}, "+.."},
		{bucketOptions{url: "s3://b/p?endpoint=https://s3:9000", hostListen: ":1338", hostURL: "https://sq1:2000"}, "+.+"},
		{bucketOptions{url: "file:///b", hostListen: "sq1:1338"}, ".+."},
	} {
		got := ""
		for _, address := range []string{"s3:9000", "sq2:1338", "sq2:2000"} {
			got += map[bool]string{true: "+", false: "."}[test.o.reaches(address)]
		}
		if got != test.want {
			t.Errorf("%+v reaches %s, want %s", test.o, got, test.want)
		}
	}
	if o := (bucketOptions{}); o.reaches("sq2:") || o.reaches("sq2") {
		t.Error("without hosts, an address without a port is reached")
	}
}

var hostLine = regexp.MustCompile(`other hosts reach this one" address=(\S+) url=(\S+)`)

// TestAHostListensForOthers starts one host of several, in a network of its own where that
// can be. Clients get nothing at the address for hosts, and no word of theirs makes them one.
func TestAHostListensForOthers(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		testAHostListens(t, sq, "file://"+t.TempDir())
	})
}

// TestAHostListensForOthersWithS3 has the same with a real S3 server.
func TestAHostListensForOthersWithS3(t *testing.T) {
	t.Parallel()
	testAHostListens(t, builtin, s3test.Start(t).URL)
}

func testAHostListens(t *testing.T, sq, bucket string) {
	g := newGate(t, sq, "will")
	g.args = []string{"--bucket", bucket, "--host-name", "one", "--host-listen", "127.0.0.1:0"}
	g.start()
	g.must("will", "POST", at("update", "n", origin), "text", 200)
	found, err := g.log.await(t.Context(), hostLine)
	if err != nil {
		t.Fatal(err)
	}
	if found[2] != "https://"+found[1] {
		t.Errorf("its URL is %s", found[2])
	}
	conn, err := net.Dial("tcp", found[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake(); err == nil {
		t.Error("whoever has no certificate got in")
	}
	resp, err := http.Get("http://" + found[1] + "/health")
	if err == nil {
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == 200 || bytes.Contains(text, []byte("tenants")) {
			t.Errorf("without TLS: %d %s", resp.StatusCode, text)
		}
	}
	// At the door, what hosts say of a request means nothing.
	req, err := http.NewRequest("GET", g.url+at("select", "n", origin), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.key("will"))
	req.Header.Set("Sqgate-Method", "DELETE")
	req.Header.Set("Sqgate-Unframed", "1")
	req.Header.Set("X-Request-Id", "0123456789abcdef")
	r, err := g.send(req)
	if err != nil || r.status != 200 || r.body != "text" || r.header.Get("X-Request-Id") == "0123456789abcdef" {
		t.Errorf("%v %+v", err, r)
	}
	if r := g.managed("GET", "hosts", "", 200); !strings.Contains(r.body, `"host":"one"`) {
		t.Error(r.body)
	}
	for _, call := range []struct {
		path, body string
		status     int
	}{
		{"hosts/two/drain", "", 404},
		{"tenants/will/move", `{"host":"two"}`, 404},
		{"tenants/will/move", `{}`, 400},
		{"tenants/nobody/move", `{"host":"one"}`, 404},
	} {
		g.managed("POST", call.path, call.body, call.status)
	}
	g.managed("POST", "hosts/one/drain", "", 200)
	g.must("", "GET", "/health", "", 503)
	g.must("will", "GET", at("select", "n", origin), "", 200)
	g.managed("POST", "hosts/one/undrain", "", 200)
	g.must("", "GET", "/health", "", 200)
}

// TestAHostAlone says that it has no others.
func TestAHostAlone(t *testing.T) {
	t.Parallel()
	g := startGate(t, builtin, "will")
	if r := g.managed("GET", "hosts", "", 200); r.body != `{"host":"","hosts":[]}`+"\n" {
		t.Error(r.body)
	}
	g.managed("POST", "hosts/one/drain", "", 409)
	g.managed("POST", "tenants/will/move", `{"host":"one"}`, 409)
}

// managed makes a management call, and expects a status.
func (g *gate) managed(method, path, body string, status int) reply {
	g.t.Helper()
	r := g.manageRaw(adminKey, method, path, body)
	if r.status != status {
		g.t.Fatalf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	return r
}
