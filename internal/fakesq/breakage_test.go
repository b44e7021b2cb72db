package fakesq

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const broken = "HTTP/1.1 500 Internal Server Error\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 21\r\n\r\nInternal Server Error"

// get is a GET of /api/v2/ and target, and where a POST of `where`.
func get(r recording, target string) []byte {
	return step{Method: "GET", Target: "/api/v2/" + target}.wire(r.Key)
}

func where(r recording) []byte {
	text := octets("short")
	return step{Method: "POST", Target: "/api/v2/where", Body: &text}.wire(r.Key)
}

const whereAnswer = "Calculated coordinate 1.1.1/1.1.1/1.1.1 for input (algo=xor, limit=100)."

// TestOutputThatNobodyReads closes SQ's pipes. `where` then panics while it holds
// the lock. If SQ cannot log the panic either, it does not answer. 0.6.0 cannot
// log, and so does not answer, an unknown route. The process lives on.
func TestOutputThatNobodyReads(t *testing.T) {
	r := load(t, Release060)
	const notFound = "HTTP/1.1 404 Not Found\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 9\r\n\r\nNot Found"
	for _, p := range programs(t) {
		version := p.version(t)
		after, unknown := ok(version), notFound
		switch nearest(version) {
		case Release053:
			after = broken
		case Release060:
			unknown = ""
		}
		for _, c := range []struct {
			name                        string
			close                       func(*process)
			where, thenVersion, unknown string
		}{
			{"read", func(*process) {}, ok(whereAnswer), ok(version), notFound},
			{"no stdout", func(run *process) { run.stdout.close() }, broken, after, notFound},
			{"neither", func(run *process) { run.stdout.close(); run.stderr.close() }, "", "", unknown},
		} {
			t.Chdir(t.TempDir())
			run := p.start(t, r)
			c.close(run)
			if got := string(exchange(t, run.addr, where(r))); got != c.where {
				t.Errorf("%q, %s: where answered %q, want %q", p, c.name, got, c.where)
			}
			if got := string(exchange(t, run.addr, get(r, "version"))); got != c.thenVersion {
				t.Errorf("%q, %s: version then answered %q, want %q", p, c.name, got, c.thenVersion)
			}
			if got := string(exchange(t, run.addr, get(r, "nope"))); got != c.unknown {
				t.Errorf("%q, %s: an unknown route is answered %q, want %q", p, c.name, got, c.unknown)
			}
			if got := string(exchange(t, run.addr, get(r, "version?p=.."))); !strings.HasSuffix(got, "invalid phext path") {
				t.Errorf("%q, %s: the process is gone: %q", p, c.name, got)
			}
		}
	}
}

// TestUnknownRoutesWithoutALog sends as many unknown routes as there may be
// connections, while nobody reads the log. In 0.6.0 each one takes a connection
// for good, and the next request ends the process. Older releases log no 404s,
// and live on.
func TestUnknownRoutesWithoutALog(t *testing.T) {
	r := load(t, Release060)
	for _, p := range programs(t) {
		t.Chdir(t.TempDir())
		run := p.start(t, r)
		run.stderr.close()
		for range maxConnections {
			exchange(t, run.addr, get(r, "nope"))
		}
		got := string(exchange(t, run.addr, get(r, "version")))
		version := p.version(t)
		if nearest(version) != Release060 {
			if got != ok(version) {
				t.Errorf("%q then answered %q", p, got)
			}
			continue
		}
		if got != "" {
			t.Errorf("%q then answered %q", p, got)
		}
		select {
		case <-run.stdout.done:
		case <-time.After(testTimeout):
			t.Fatalf("%q lives on", p)
		}
		run.kill() // it has ended: this only collects its status
		if status := run.cmd.ProcessState.ExitCode(); status != 101 {
			t.Errorf("%q ended with status %d", p, status)
		}
	}
}

// TestUnknownRoutesAreLogged asks for an operation that does not exist, and for
// one that does not exist with POST.
func TestUnknownRoutesAreLogged(t *testing.T) {
	r := load(t, Release060)
	for _, p := range programs(t) {
		t.Chdir(t.TempDir())
		run := p.start(t, r)
		exchange(t, run.addr, get(r, "nope?p=a%20b"))
		exchange(t, run.addr, []byte("POST /api/v2/toc HTTP/1.1\nAuthorization: Bearer "+r.Key+"\r\n\r\n"))
		run.kill()
		want := ""
		if nearest(p.version(t)) == Release060 {
			want = "404: GET /api/v2/nope?p=a%20b HTTP/1.1\n404: POST /api/v2/toc HTTP/1.1\n"
		}
		if got := run.stderr.text.String(); got != want {
			t.Errorf("%q logged %q, want %q", p, got, want)
		}
	}
}

// TestThePoisonStays expects that SQ since 0.5.6 recovers from a panic under the
// lock, and logs that on every later request.
func TestThePoisonStays(t *testing.T) {
	r := load(t, Release060)
	for _, p := range programs(t) {
		if nearest(p.version(t)) == Release053 {
			continue
		}
		t.Chdir(t.TempDir())
		run := p.start(t, r)
		run.stdout.close()
		exchange(t, run.addr, where(r))
		exchange(t, run.addr, get(r, "version"))
		exchange(t, run.addr, get(r, "version"))
		run.kill()
		for _, line := range []string{"[#1] panic: ", "[#2] recovering from poisoned mutex\n", "[#3] recovering from poisoned mutex\n"} {
			if log := run.stderr.text.String(); !strings.Contains(log, line) {
				t.Errorf("%q logged %q, without %q", p, log, line)
			}
		}
	}
}

// TestFilesThatCannotBeRead asks for each file with `get`, whose answer has the
// reason since 0.5.6.
func TestFilesThatCannotBeRead(t *testing.T) {
	r := load(t, Release060)
	long := strings.Repeat("x", 300)
	for _, p := range programs(t) {
		old := nearest(p.version(t)) == Release053
		for target, reason := range map[string]string{
			"bad":    "data/bad.phext: stream did not contain valid UTF-8",
			"folder": "data/folder.phext: Is a directory (os error 21)",
			"a%00b":  "data/a\x00b.phext: file name contained an unexpected NUL byte",
			long:     "data/" + long + ".phext: File name too long (os error 36)",
		} {
			t.Chdir(t.TempDir())
			seed(t, r, scenario{Seed: map[string]octets{"bad.phext": octets("caf\xe9")}})
			if err := os.Mkdir("data/folder.phext", 0o755); err != nil {
				t.Fatal(err)
			}
			want := ok("Unable to open requested phext " + reason)
			if old {
				want = broken
			}
			if got := string(exchange(t, p.start(t, r).addr, get(r, "get?p="+target))); got != want {
				t.Errorf("%q: %.20s answered %q, want %q", p, target, got, want)
			}
		}
	}
}

// TestRequestsBeyondTheRecordings sends requests that were not recorded. Every
// release of SQ gave these answers.
func TestRequestsBeyondTheRecordings(t *testing.T) {
	r := load(t, Release060)
	auth := "Authorization: Bearer " + r.Key + "\r\n"
	tooLarge := func(body string) string {
		return "HTTP/1.1 413 Payload Too Large\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: " + body
	}
	cases := []wireCase{
		{"length past the limit", "POST /api/v2/update?p=n HTTP/1.1\r\n" + auth + "Content-Length: 67108865\r\n\r\n",
			tooLarge("45\r\n\r\nbody too large: 67108865 bytes (max 67108864)")},
		{"length past 63 bits", "POST /api/v2/update?p=n HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
			tooLarge("57\r\n\r\nbody too large: 18446744073709551615 bytes (max 67108864)")},
		{"length past 64 bits", "POST /api/v2/update?p=n HTTP/1.1\r\n" + auth + "Content-Length: 18446744073709551616\r\n\r\n", ok("Updated 0 bytes")},
		{"length with a plus", "POST /api/v2/update?p=n HTTP/1.1\r\n" + auth + "Content-Length: +3\r\n\r\nabc", ok("Updated 3 bytes")},
		{"LF alone ends a header line, and not the request line", "GET /api/v2/update?p=n&s=a HTTP/1.1\n" + auth + "\r\n", ok(fmt.Sprintf("Updated %d bytes", len("a HTTP/1.1\n"+auth)-2))},
		{"the same without the CR in a manifest", "POST /api/v2/delta?p=one HTTP/1.1\r\n" + auth + "Content-Length: 51\r\n\r\n1.1.1/1.1.1/1.1.1: df3ce784d856334d65cd25028f98f158", ok("")},
		{"a second question mark", "GET /api/v2/update?p=n&s=a?b HTTP/1.1\r\n" + auth + "\r\n", ok("Updated 3 bytes")},
		{"a value with an equals sign", "GET /api/v2/update?p=n&s=a=b=c HTTP/1.1\r\n" + auth + "\r\n", ok("Updated 5 bytes")},
		{"limit with a plus", "POST /api/v2/where?limit=%2B1 HTTP/1.1\r\n" + auth + "Content-Length: 1\r\n\r\na",
			ok("Calculated coordinate 0.0.0/0.0.0/0.0.0 for input (algo=xor, limit=1).")},
		{"broken characters", "GET /api/v2/update?p=n&s=%F0%90%80a%E0%80%FF%C3%A9%ED%A0%80 HTTP/1.1\r\n" + auth + "\r\n", ok("Updated 24 bytes")},
		{"CRLF in a manifest", "POST /api/v2/delta?p=one HTTP/1.1\r\n" + auth + "Content-Length: 53\r\n\r\n1.1.1/1.1.1/1.1.1: df3ce784d856334d65cd25028f98f158\r\n", ok("")},
		{"a CR that ends a manifest", "POST /api/v2/delta?p=one HTTP/1.1\r\n" + auth + "Content-Length: 52\r\n\r\n1.1.1/1.1.1/1.1.1: df3ce784d856334d65cd25028f98f158\r", ok("1")},
		{"a coordinate with a 0", string(get(r, "update?p=z&c=2.0.5/1.1.1/1.1.1&s=a")), ok("Updated 1 bytes")},
		{"delta stops at it", string(get(r, "delta?p=z")), ok("\x01a")},
	}
	sendAll(t, r, programs(t), scenario{Seed: map[string]octets{"one.phext": octets("1")}}, cases)
}

// TestQueriesBeyondTheRecordings sends queries that were not recorded. 0.6.0 gave
// these answers.
func TestQueriesBeyondTheRecordings(t *testing.T) {
	r := load(t, Release060)
	query := func(parameters string) string {
		return string(get(r, "query?p=n&"+parameters))
	}
	cases := []wireCase{
		{"characters in JSON", query("set=1.1.1/1.1.1/1.1.1"), ok(`[{"coordinate":"1.1.1/1.1.1/1.1.1","scroll":"\"\\/\b\f\n\r\t\u0000\u001b` + "\x7f\u2028\u2029<&>" + `"}]`)},
		{"every kind of space around a coordinate", query("set=%C2%A0%E2%80%831.1.1/1.1.1/1.1.2%0D%09"), ok(`[{"coordinate":"1.1.1/1.1.1/1.1.2","scroll":"two"}]`)},
		{"the last number that prints", query("set=1.1.1/1.1.1/1.1.1000,1.1.1/1.1.1/1.1.1001"), ok(`[{"coordinate":"1.1.1/1.1.1/1.1.1000","scroll":""},{"coordinate":"","scroll":""}]`)},
		{"a number past 32 bits", query("set=1.1.1/1.1.1/1.1.4294967298"), ok(`[{"coordinate":"1.1.1/1.1.1/1.1.2","scroll":"two"}]`)},
		{"a range that wraps", query("from=1.1.1/1.1.1/1.1.2&to=1.1.1/1.1.1/1.1.4294967297"),
			"HTTP/1.1 400 Bad Request\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 82\r\n\r\n" +
				"Bad Request: 'from' (1.1.1/1.1.1/1.1.2) is after 'to' (1.1.1/1.1.1/1.1.4294967297)"},
		{"the greatest limit", query("limit=18446744073709551615&set=1.1.1/1.1.1/1.1.2"), ok(`[{"coordinate":"1.1.1/1.1.1/1.1.2","scroll":"two"}]`)},
	}
	var all []program
	for _, p := range programs(t) {
		if nearest(p.version(t)) == Release060 {
			all = append(all, p)
		}
	}
	sendAll(t, r, all, scenario{Seed: map[string]octets{"n.phext": octets("\"\\/\b\f\n\r\t\x00\x1b\x7f\u2028\u2029<&>\x17two")}}, cases)
}

// wireCase is a request and its answer, byte for byte.
type wireCase struct{ name, request, want string }

// sendAll sends the cases in order to a new process of each program.
func sendAll(t *testing.T, r recording, all []program, s scenario, cases []wireCase) {
	t.Helper()
	for _, p := range all {
		t.Chdir(t.TempDir())
		seed(t, r, s)
		run := p.start(t, r)
		for _, c := range cases {
			if got := string(exchange(t, run.addr, []byte(c.request))); got != c.want {
				t.Errorf("%q: %s: %q, want %q", p, c.name, got, c.want)
			}
		}
	}
}
