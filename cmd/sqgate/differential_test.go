package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/phext"
)

// deliberate is every intended difference between sqgate's answers and SQ's to the
// same valid requests of one tenant. as turns SQ's answer into the one that sqgate
// must give. If ok is false, SQ's answer cannot be compared, and sqgate's must
// agree with the file instead.
var deliberate = []struct {
	op, why string
	as      func(x *exchange, direct string) (want string, ok bool)
}{
	{"status", "names the phext, not the host's path; its connections are counted by another", func(x *exchange, direct string) (string, bool) {
		return connection.ReplaceAllString(x.named(direct), "Connection ID: N"), true
	}},
	{"status", "SQ counts an empty scroll as long as it has it in memory, which is until it loads another phext", func(x *exchange, direct string) (string, bool) {
		return direct, len(x.empty) == 0
	}},
	{"load", "names the phext, not the host's path", func(x *exchange, direct string) (string, bool) { return x.named(direct), true }},
	{"version", "is that of the service, as JSON", func(*exchange, string) (string, bool) {
		return `{"version":"0.5.5","status":"ok","uptime_seconds":N}` + "\n", true
	}},
	{"json-export", "is valid JSON, in coordinate order", func(_ *exchange, direct string) (string, bool) { return strings.Join(exported(direct), "\n"), true }},
	{"toc", "is that of every SQ that can be installed; the stand-in's is the recorded one, which cuts at 32 bytes", func(x *exchange, direct string) (string, bool) {
		return direct, x.real
	}},
	{"delta", "puts every scroll at its coordinate; SQ does not while it has an empty one in memory, and takes that one for there", func(x *exchange, direct string) (string, bool) {
		return direct, !x.shiftsDelta()
	}},
}

const phextSuffix = phext.Extension

var (
	connection = regexp.MustCompile(`Connection ID: \d+`)
	uptime     = regexp.MustCompile(`seconds":\d+`)
)

// exchange is one request of a sequence, and what is known about its phext when it
// is sent.
type exchange struct {
	op, method, target, body string
	phext                    string
	manifest                 map[phext.Coordinate]string
	empty                    map[phext.Coordinate]bool // empty scrolls that SQ may have in memory
	real                     bool
	dir                      string // SQ's own data directory
}

func (x *exchange) named(direct string) string {
	return strings.Replace(direct, x.dir+"/"+x.phext+phextSuffix, x.phext, 1)
}

// shiftsDelta tells whether an empty scroll in SQ's memory can change the answer to
// delta. One at the origin shifts no other scroll, so it matters only if the
// manifest has the origin.
func (x *exchange) shiftsDelta() bool {
	_, asked := x.manifest[phext.Origin()]
	return len(x.empty) > 1 || len(x.empty) == 1 && (!x.empty[phext.Origin()] || asked)
}

// exported is the entries of SQ's json-export, sorted.
func exported(text string) []string {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "[\n   { "), " }\n]\n")
	entries := strings.Split(text, " }\n,   { ")
	slices.Sort(entries)
	return entries
}

// asExported turns valid JSON into what exported returns, or into the description
// of what is wrong with it.
func asExported(text string) string {
	var list []struct{ Coord, Scroll string }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err.Error()
	}
	escape := strings.NewReplacer(`"`, `\"`, "\n", `\n`)
	entries, last := []string{}, phext.Coordinate{}
	for _, e := range list {
		at, err := phext.ParseCoordinate(e.Coord)
		if err != nil || at.Compare(last) <= 0 {
			return fmt.Sprintf("%q is not in order: %v", e.Coord, err)
		}
		last = at
		entries = append(entries, `"coord": "`+e.Coord+`", "scroll": "`+escape.Replace(e.Scroll)+`"`)
	}
	slices.Sort(entries)
	return strings.Join(entries, "\n")
}

// judge returns what is wrong with sqgate's answer, or "". file is the content of
// the phext in sqgate's directory.
func (x *exchange) judge(direct, gated reply, file string) string {
	want, comparable := direct.body, true
	for _, d := range deliberate {
		if d.op == x.op && comparable {
			want, comparable = d.as(x, want)
		}
	}
	got := gated.body
	switch {
	case x.op == "json-export":
		got = asExported(got)
	case x.op == "version":
		got = uptime.ReplaceAllString(got, "seconds\":N")
	case x.op == "status":
		got = connection.ReplaceAllString(got, "Connection ID: N")
	}
	if gated.status == direct.status && comparable && got == want {
		return ""
	}
	if !comparable && gated.status == 200 && x.fits(got, file) {
		return ""
	}
	return fmt.Sprintf("SQ answers %d %.2000q\n as sqgate must %.2000q\n but it does %d %.2000q", direct.status, direct.body, want, gated.status, gated.body)
}

// fits tells whether an answer agrees with the file. It is for operations whose
// answer from SQ depends on what is in its memory.
func (x *exchange) fits(got, file string) bool {
	p := phext.Parse(file)
	switch x.op {
	case "toc":
		return got == p.Textmap()
	case "delta":
		return got == p.Delta(x.manifest, nil)
	}
	var n, size int
	_, name, _ := strings.Cut(got, "Hosting: ")
	if _, err := fmt.Sscanf(strings.TrimPrefix(name, x.phext), "\nConnection ID: N\nPhext Size: %d\nScrolls: %d", &size, &n); err != nil {
		return false
	}
	return size == p.RenderedSize() && n >= p.Len() && n <= max(1, p.Len()+len(x.empty))
}

// lane sends the same requests to an SQ directly and to one tenant of sqgate.
type lane struct {
	t      *testing.T
	g      *gate
	id     string
	direct string // address
	dir    string // data directory of the SQ that is asked directly
	conn   *wire  // to sqgate
	real   bool
}

func newLane(t *testing.T, g *gate, id string, real bool) *lane {
	l := &lane{t: t, g: g, id: id, dir: filepath.Join(g.dir, "direct", id), real: real, conn: g.wire(t)}
	l.direct = startSQ(t, g.sq, l.dir, g.key(id))
	return l
}

// run sends one sequence to both, and compares every answer and then the files. It
// tells whether all agreed.
func (l *lane) run(seed, number uint64) bool {
	s := newSequence(seed, number, l)
	var sent []string
	for range 8 + s.random.IntN(24) {
		x := s.next()
		sent = append(sent, fmt.Sprintf("%s %.3000s %.3000q", x.method, x.target, x.body))
		direct := x.askSQ(l)
		gated := x.askGate(l)
		file, _ := os.ReadFile(filepath.Join(l.g.dataDir(l.id), x.phext+phextSuffix)) // there may be no such file
		if wrong := x.judge(direct, gated, string(file)); wrong != "" {
			l.t.Errorf("sequence %d of seed %d:\n%s\n%s", number, seed, strings.Join(sent, "\n"), wrong)
			return false
		}
		s.after(x)
	}
	for _, name := range s.phexts {
		if wrong := l.compareFiles(name+phextSuffix, s.written[name]); wrong != "" {
			l.t.Errorf("sequence %d of seed %d:\n%s\n%s", number, seed, strings.Join(sent, "\n"), wrong)
			return false
		}
	}
	return true
}

func (l *lane) compareFiles(name string, written bool) string {
	direct, err := os.ReadFile(filepath.Join(l.dir, name))
	gated, gatedErr := os.ReadFile(filepath.Join(l.g.dataDir(l.id), name))
	switch {
	case !written && len(direct) == 0 && os.IsNotExist(gatedErr):
		return "" // the phext was read at most
	case err != nil || gatedErr != nil:
		return fmt.Sprintf("%s: %v, %v", name, err, gatedErr)
	case string(direct) != string(gated):
		return fmt.Sprintf("the file %s is %.3000q of SQ and %.3000q of sqgate", name, direct, gated)
	}
	return ""
}

func (x *exchange) head(key string, close bool) string {
	head := []string{x.method + " " + x.target + " HTTP/1.1", "Host: sq", "Authorization: Bearer " + key}
	if x.method == http.MethodPost {
		head = append(head, "Content-Length: "+strconv.Itoa(len(x.body)))
	}
	if close {
		head = append(head, "Connection: close")
	}
	return lines(head...)
}

func (x *exchange) askGate(l *lane) reply { return l.conn.ask(x.head(l.g.key(l.id), false), x.body) }

// differentialRuns is how many sequences to send: SQTEST_DIFFERENTIAL, or 60.
func differentialRuns(t *testing.T) int {
	text := os.Getenv("SQTEST_DIFFERENTIAL")
	if text == "" {
		return 60
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SQTEST_DIFFERENTIAL is %q: a number of sequences is wanted", text)
	}
	return n
}

// differentialSeed is SQTEST_SEED, which repeats a run, or a new seed.
func differentialSeed(t *testing.T) uint64 {
	text := os.Getenv("SQTEST_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("SQTEST_SEED is %q: the number that a run printed is wanted", text)
	}
	return seed
}

// TestDifferential sends random sequences of valid requests of one tenant to SQ
// itself, and through sqgate to another SQ.
func TestDifferential(t *testing.T) {
	const lanes = 4
	seed, runs := differentialSeed(t), differentialRuns(t)
	forEachSQ(t, func(t *testing.T, sq string) {
		ids := []string{"will", "phext-notepad", "a", "customer-001"}[:lanes]
		g := newGate(t, sq, ids...)
		for _, id := range ids {
			g.set(id, "max_phexts", 1<<30)
		}
		g.writeFile()
		g.start()
		t.Logf("%d sequences; repeat with SQTEST_SEED=%d SQTEST_DIFFERENTIAL=%d", runs, seed, runs)
		var all sync.WaitGroup
		for i, id := range ids {
			l := newLane(t, g, id, sq != builtin)
			all.Go(func() {
				for number := i; number < runs && l.run(seed, uint64(number)); number += lanes {
				}
			})
		}
		all.Wait()
	})
}
