package fakesq

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// realSQ is the SQ to test against, or empty if there is none.
func realSQ() string {
	if path := os.Getenv("SQ_BIN"); path != "" {
		return path
	}
	path, err := exec.LookPath("sq")
	if err != nil {
		return ""
	}
	return path
}

// changes are answers of an SQ that are not as recorded, by scenario and step.
type changes map[string]string

// instead is the answer to expect. An entry that changes nothing is a fault of the list.
func (c changes) instead(t *testing.T, place, recorded string) string {
	t.Helper()
	other, ok := c[place]
	if !ok {
		return recorded
	}
	delete(c, place)
	if other == recorded {
		t.Errorf("%s: listed as different, but it is as recorded", place)
	}
	return other
}

const splitScenario = "toc on a character split at byte 32 breaks the process"

// newerLibrary lists what an SQ built today answers otherwise than was
// recorded. The recordings were made with a libphext from before 0.3.1, which
// every release since 0.5.3 that can be installed requires: there, toc prints
// the whole first line of a scroll, and no text breaks it.
func newerLibrary(version string) changes {
	digits, accents := strings.Repeat("0123456789", 5), strings.Repeat("\u00e9", 40)
	split := strings.Repeat("a", 31) + "\u00e9zzz"
	changed := changes{
		"seeded long step 1":      ok("* 1.1.1/1.1.1/1.1.1: " + digits + "\n* 1.1.1/1.1.1/1.1.2: abc\n"),
		"seeded long step 11":     ok("* 1.1.1/1.1.1/1.1.1: " + digits + "\n* 1.1.1/1.1.1/1.1.2: abc\n* 1.1.1/1.1.1/1.3.2: NEW\n"),
		"seeded utf8 step 1":      ok("* 1.1.1/1.1.1/1.1.1: " + accents + "\n* 1.1.1/1.1.1/1.1.2: z\n"),
		"seeded utf8 step 11":     ok("* 1.1.1/1.1.1/1.1.1: " + accents + "\n* 1.1.1/1.1.1/1.1.2: z\n* 1.1.1/1.1.1/1.3.2: NEW\n"),
		splitScenario + " step 2": ok("* 1.1.1/1.1.1/1.1.1: " + split + "\n"),
	}
	if nearest(version) == Release053 { // there, the recorded process was broken from then on
		changed[splitScenario+" step 3"] = ok(version)
		changed[splitScenario+" step 4"] = ok(split)
	}
	return changed
}

// ok is a whole answer of SQ.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestReplayRealSQ(t *testing.T) {
	path := realSQ()
	if path == "" {
		t.Skip("no SQ: neither SQ_BIN nor sq on PATH")
	}
	program := program{path}
	version := program.version(t)
	r := load(t, version)
	changed := changes{}
	if wholeLines(t, r, program) {
		changed = newerLibrary(version)
	}
	newer := len(changed) > 0
	for _, s := range r.Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			seed(t, r, s)
			if newer && s.Name == splitScenario {
				s.Files = maps.Clone(s.Files)
				s.Files[".phext"] = nil // the version that is answered now leaves it behind
			}
			replay(t, r, s, program.start(t, r).addr, changed)
		})
	}
	if len(changed) > 0 {
		t.Errorf("differences at steps that there are not: %q", slices.Sorted(maps.Keys(changed)))
	}
}

// wholeLines asks the program itself which toc it has.
func wholeLines(t *testing.T, r recording, program program) bool {
	t.Helper()
	t.Chdir(t.TempDir())
	seed(t, r, scenario{Seed: map[string]octets{"n.phext": octets(strings.Repeat("x", 40))}})
	answer := exchange(t, program.start(t, r).addr, step{Method: "GET", Target: "/api/v2/toc?p=n"}.wire(r.Key))
	return bytes.Contains(answer, []byte(strings.Repeat("x", 40)))
}
