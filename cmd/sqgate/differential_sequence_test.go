package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/phext"
)

// startSQ starts SQ without sqgate, and returns its address.
func startSQ(t *testing.T, sq, dir, key string) string {
	t.Helper()
	command, err := sqCommand(sq)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for {
		port := freePort(t)
		address := net.JoinHostPort("127.0.0.1", port)
		cmd := exec.Command(command[0], append(command[1:], "host", port, "--key", key, "--data-dir", dir)...)
		cmd.Dir = t.TempDir() // SQ creates a .sq folder there
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // the exit status says only that it was killed
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "listening on port") {
				go func() { _, _ = io.Copy(io.Discard, out) }() // SQ stops when nobody reads what it prints
				return address
			}
		}
		// Another process has got the port meanwhile.
	}
}

// freePort is a port on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err := errors.Join(err, free.Close()); err != nil {
		t.Fatal(err)
	}
	return port
}

// askSQ sends the request to SQ itself, which closes the connection after each
// answer.
func (x *exchange) askSQ(l *lane) reply {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.direct)
	if err != nil {
		l.t.Error(err)
		return reply{}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitTimeout)) // a TCP connection takes deadlines
	if _, err := io.WriteString(conn, x.headWithBody(l.g.key(l.id), true)+"\r\n\r\n"+x.body); err != nil {
		l.t.Error(err)
		return reply{}
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		l.t.Error(err)
	}
	head, body, _ := strings.Cut(string(text), "\r\n\r\n")
	r := reply{body: body}
	if _, err := fmt.Sscanf(head, "HTTP/1.1 %d", &r.status); err != nil {
		l.t.Errorf("SQ answers %.300q", text)
	}
	return r
}

// sequence generates requests. Each depends only on the seed and on the requests
// before it.
type sequence struct {
	l       *lane
	random  *rand.Rand
	phexts  []string
	empties bool // whether texts may be empty
	written map[string]bool
	empty   map[string]map[phext.Coordinate]bool
	stored  map[string]map[phext.Coordinate]string // the texts that were written, for manifests
	at      phext.Coordinate                       // of the latest request
	text    string
}

func newSequence(seed, number uint64, l *lane) *sequence {
	s := &sequence{l: l, random: rand.New(rand.NewPCG(seed, number)), written: map[string]bool{},
		empty: map[string]map[phext.Coordinate]bool{}, stored: map[string]map[phext.Coordinate]string{}}
	s.empties = s.chance(3)
	for i := range 1 + s.random.IntN(3) {
		name := fmt.Sprintf("%d%c%s", number, 'a'+i, pick(s, "", "", "-notes_2", ".v1", " with spaces", "\u00e9\U0001f531", "&=%+#?", "'\"<>|*:"))
		s.phexts = append(s.phexts, name)
		s.empty[name] = map[phext.Coordinate]bool{phext.Origin(): true} // an empty file has an empty scroll at the origin
		s.stored[name] = map[phext.Coordinate]string{}
	}
	return s
}

func pick[T any](s *sequence, from ...T) T { return from[s.random.IntN(len(from))] }

// chance is true once in n times.
func (s *sequence) chance(n int) bool { return s.random.IntN(n) == 0 }

// methods is the methods of legacy SQ. Those that write are more frequent.
var methods = []struct{ op, method string }{
	{"insert", "GET"}, {"insert", "POST"}, {"insert", "POST"}, {"update", "GET"}, {"update", "GET"}, {"update", "POST"}, {"update", "POST"},
	{"delete", "GET"}, {"select", "GET"}, {"select", "GET"}, {"select", "GET"}, {"toc", "GET"}, {"get", "GET"}, {"delta", "GET"}, {"delta", "POST"},
	{"checksum", "GET"}, {"status", "GET"}, {"load", "GET"}, {"json-export", "GET"}, {"where", "POST"}, {"version", "GET"},
}

func (s *sequence) next() *exchange {
	kind := pick(s, methods...)
	name := pick(s, s.phexts...)
	x := &exchange{op: kind.op, method: kind.method, phext: name, empty: s.empty[name], real: s.l.real, dir: s.l.dir}
	s.at, s.text = s.coordinate(), ""
	params := []string{"p=" + s.encode(name)}
	if s.at != phext.Origin() || s.chance(2) {
		params = append(params, "c="+s.spell(s.at))
	}
	switch {
	case x.op == "delta" && x.method == http.MethodPost:
		x.body = s.manifest(x)
	case x.op == "delta" && s.chance(2):
		params = append(params, "s="+s.encode(s.manifest(x)))
	case x.op == "where":
		x.body = s.anyText() + pick(s, "", "\x17", "\x18\x01x\x1f")
		params = append(params, s.whereParams()...)
	case x.op == "insert" || x.op == "update":
		params = s.write(x, params)
	}
	if s.chance(4) {
		params = append(params, pick(s, "x=1", "token=abc", "verbose", "", "cc=9", "S=no"))
	}
	s.random.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	x.target = "/api/v2/" + x.op + "?" + strings.Join(params, "&")
	return x
}

// write puts a new text into the query or into the body. If both have one, SQ uses
// the body.
func (s *sequence) write(x *exchange, params []string) []string {
	s.text = s.anyText()
	if x.method == http.MethodGet {
		s.text = clipped(s.text) // without s, sqgate answers 411
		return append(params, "s="+s.encode(s.text))
	}
	if s.text != "" {
		x.body = s.text
		if s.chance(8) {
			params = append(params, "s=not+this")
		}
	}
	return params
}

// largestInQuery is how many bytes fit into the 64 KiB of SQ's header when each is
// escaped.
const largestInQuery = 20 << 10

func clipped(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), largestInQuery)], "")
}

// after records what an answered request has changed.
func (s *sequence) after(x *exchange) {
	stored, empty := s.stored[x.phext], s.empty[x.phext]
	switch x.op {
	case "insert":
		stored[s.at] += s.text
	case "update":
		stored[s.at] = s.text
	case "delete":
		delete(stored, s.at)
	default:
		return
	}
	s.written[x.phext] = s.written[x.phext] || x.op != "delete"
	delete(empty, s.at)
	if text, is := stored[s.at]; is && text == "" {
		empty[s.at] = true
	}
	if rendersEmpty(stored) { // SQ reads an empty file as an empty scroll at the origin
		empty[phext.Origin()] = true
	}
}

func rendersEmpty(stored map[phext.Coordinate]string) bool {
	for _, text := range stored {
		if text != "" {
			return false
		}
	}
	return true
}

// coordinate is one of a few, so that requests often have the same one.
func (s *sequence) coordinate() phext.Coordinate {
	at := phext.Origin()
	if s.chance(3) {
		return at
	}
	for range 1 + s.random.IntN(2) {
		at[s.random.IntN(len(at))] = pick(s, uint32(1), 2, 3, 3, 10, uint32(1+s.random.IntN(phext.Max)))
	}
	return at
}

// spell writes a coordinate in one of the ways that SQ reads.
func (s *sequence) spell(at phext.Coordinate) string {
	parts := make([]string, len(at))
	for i, n := range at {
		parts[i] = strconv.Itoa(int(n))
		if s.chance(20) {
			parts[i] = "0" + parts[i]
		}
	}
	separator := pick(s, "/", "/", "/", ";", ".", "%2F", "%2f", "%3B", "%3b")
	if short := shortest(at); short < len(at) && s.chance(3) {
		// Some of the numbers that are 1, and the scroll.
		keep := short + s.random.IntN(len(at)-short)
		parts = append(parts[:keep-1], parts[len(at)-1])
		return strings.Join(parts, pick(s, ".", separator))
	}
	text := strings.Join(parts[:3], ".") + separator + strings.Join(parts[3:6], ".") + separator + strings.Join(parts[6:], ".")
	if s.chance(8) && !strings.ContainsAny(s.l.id, "0123456789") {
		text = s.l.id + "." + text
	}
	return text
}

// shortest is the fewest numbers of which SQ makes the coordinate.
func shortest(at phext.Coordinate) int {
	n := len(at)
	for n > 1 && at[n-2] == 1 {
		n--
	}
	return n
}

// letters is what texts are made of: whatever is special in URLs, forms, JSON and
// UTF-8, but no delimiter.
var letters = []string{"a", "b", "Z", "0", "9", " ", " ", "+", "%", "%41", "&", "=", ";", "#", "?", "/", "\\", "\"", "'", "{", "}", "\n", "\r\n", "\t",
	"\u00e9", "\u4f60", "\U0001f531", "e\u0301", "\ufeff", "\u2028", "\x00", "\x02", "\x7f", "<b>", "* 1.1.1/1.1.1/1.1.1: ", "HTTP/1.0", "---sq:", ": "}

func (s *sequence) anyText() string {
	size := s.random.IntN(12)
	switch {
	case s.empties && s.chance(3):
		return ""
	case s.chance(60):
		size = 5000 + s.random.IntN(40000)
	case s.chance(6):
		size = 40 + s.random.IntN(200)
	}
	out := strings.Builder{}
	out.WriteByte('.') // so that the text is not empty, and neither a form nor JSON
	for range size {
		out.WriteString(pick(s, letters...))
	}
	return namesCoordinate.ReplaceAllString(out.String(), "b=")
}

// namesCoordinate is how a field of a form begins that has a coordinate. What looks like
// such a form is refused, and SQ takes it for a text: TestMisspeltCoordinates.
var namesCoordinate = regexp.MustCompile(`(?i)(a|%41)[ +\r\n\t]*=`)

// encode writes a value for a query in one of the ways that SQ reads.
func (s *sequence) encode(text string) string {
	keep := pick(s, "", "-_.~", "-_.!~*'()", "/:;,?@$\"<>{}|'", "\u00e9/")
	out := escape(text, keep)
	if s.chance(2) {
		out = strings.ReplaceAll(out, "%20", "+")
	}
	if s.chance(3) {
		out = lowerHex(out)
	}
	return out
}

func lowerHex(text string) string {
	out := []byte(text)
	for i := 0; i+2 < len(out); i++ {
		if out[i] == '%' {
			copy(out[i+1:], strings.ToLower(string(out[i+1:i+3])))
		}
	}
	return string(out)
}

// manifest lists some of the scrolls of the phext, some of them with a wrong
// checksum, and some scrolls that the phext does not have.
func (s *sequence) manifest(x *exchange) string {
	var out strings.Builder
	x.manifest = map[phext.Coordinate]string{}
	line := func(at phext.Coordinate, hash string) {
		x.manifest[at] = hash
		out.WriteString(at.String() + ": " + hash + pick(s, "\n", "\n", "\r\n"))
	}
	for scroll := range phext.Of(scrollsOf(s.stored[x.phext])).All() {
		if !s.chance(3) {
			line(scroll.At, phext.Checksum(scroll.Text+pick(s, "", "", "", "changed")))
		}
	}
	for range s.random.IntN(3) {
		line(s.coordinate(), phext.Checksum("mine"))
	}
	if s.chance(4) {
		out.WriteString(pick(s, "nothing", "\n\n", "# comment\n"))
	}
	return out.String()
}

func scrollsOf(stored map[phext.Coordinate]string) []phext.Scroll {
	var list []phext.Scroll
	for at, text := range stored {
		list = append(list, phext.Scroll{At: at, Text: text})
	}
	return list
}

func (s *sequence) whereParams() []string {
	return pick(s, nil, []string{"algo=xor"}, []string{"algo=checksum"}, []string{"limit=0"}, []string{"limit=5", "algo=xor"}, []string{"algo=checksum", "limit=18446744073709551615"})
}

// TestSequencesCoverEverything checks that the sequences contain every operation
// often enough, and empty and large texts.
func TestSequencesCoverEverything(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for number := range uint64(300) {
		s := newSequence(1, number, &lane{id: "will", dir: filepath.Join("/", "d"), g: &gate{}})
		for range 30 {
			x := s.next()
			seen[x.method+" "+x.op]++
			if len(x.target)+len(x.body) > 20000 {
				seen["large"]++
			}
			if x.op == "update" && s.text == "" {
				seen["empty"]++
			}
			if strings.Contains(x.target, "c=will.") {
				seen["prefixed"]++
			}
			if _, c, ok := strings.Cut(x.target, "c="); ok && strings.Count(c[:min(len(c), 4)], "&") > 0 {
				seen["short"]++
			}
			s.after(x)
		}
	}
	for _, kind := range methods {
		if seen[kind.method+" "+kind.op] < 50 {
			t.Errorf("%s %s: %d times", kind.method, kind.op, seen[kind.method+" "+kind.op])
		}
	}
	for _, what := range []string{"large", "empty", "prefixed", "short"} {
		if seen[what] < 20 {
			t.Errorf("%s: %d times", what, seen[what])
		}
	}
}
