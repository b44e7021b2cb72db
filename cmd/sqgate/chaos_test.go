package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// chaosRounds is how often something is killed: SQTEST_CHAOS times, or a few. The
// stand-in gets only a tenth of SQTEST_CHAOS, since real SQ is what matters.
func chaosRounds(t *testing.T, sq string) int {
	text := os.Getenv("SQTEST_CHAOS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SQTEST_CHAOS is %q: a number of rounds is wanted", text)
	}
	if sq == builtin {
		return max(1, n/10)
	}
	return n
}

// slot is a coordinate that one writer writes to. may is the texts that can be
// there: one, or several if some writes got no answer.
type slot struct {
	tenant, target string
	next           func(value string) (op, body string, after func(old string) string)
	may            map[string]bool
}

// newSlot is an empty slot. next turns a value into a request, and tells what the
// request makes of the text before it.
func newSlot(tenant, target string, next func(string) (string, string, func(string) string)) *slot {
	return &slot{tenant: tenant, target: target, next: next, may: map[string]bool{"": true}}
}

func updates(value string) (string, string, func(string) string) {
	return "update", value, func(string) string { return value }
}

func inserts(value string) (string, string, func(string) string) {
	return "insert", value, func(old string) string { return old + value }
}

// updatesAndDeletes deletes every third time, and updates otherwise.
func updatesAndDeletes() func(string) (string, string, func(string) string) {
	n := 0
	return func(value string) (string, string, func(string) string) {
		if n++; n%3 == 0 {
			return "delete", "", func(string) string { return "" }
		}
		return updates(value)
	}
}

// TestChaos kills SQ and sqgate with SIGKILL while writers change a phext. The
// phext is large enough for a kill to hit SQ in the middle of a write. Afterwards
// every acknowledged write must be there and no refused one; a write without an
// answer must be there whole or not at all.
func TestChaos(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		g := newGate(t, sq, "will", "emi")
		dir := g.dataDir("will")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ballast := strings.Repeat(strings.Repeat("b", 8<<10)+"\x18", 800) // 6.5 MB
		path := filepath.Join(dir, "large.phext")
		if err := os.WriteFile(path, []byte("x\x17"+strings.TrimSuffix(ballast, "\x18")), 0o666); err != nil {
			t.Fatal(err)
		}
		g.start()
		slots := []*slot{
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.1", updates),
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.2", inserts),
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.3", updatesAndDeletes()),
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.4", updates), // sqgate makes a batch of these
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.5", inserts),
			newSlot("will", "large&c=1.1.1/1.1.1/1.900.6", updatesAndDeletes()),
			newSlot("will", "large&c=a.name", updatesAndDeletes()),
			newSlot("will", "another&c=1.1.1/1.1.1/1.1.1", inserts),
			newSlot("emi", "large&c=1.1.1/1.1.1/1.1.1", updates),
		}
		hot := &hotScroll{target: "large&c=1.1.1/1.1.1/1.900.7", answers: map[string]bool{}}
		three := &together{slot: newSlot("will", "large", nil), at: []string{"1.1.1/1.1.1/1.900.8", "b.name", "1.1.1/1.1.1/1.900.9"}}
		t.Logf("seed %d", seed)
		watchForTwo(t, dir, g.dataDir("emi"))
		torn := 0
		for round := range chaosRounds(t, sq) {
			stop := make(chan struct{})
			var writers sync.WaitGroup
			setModeOfRound(t, path, round)
			for i, s := range slots {
				writers.Go(func() { s.write(g, stop, round, i) })
			}
			for i := range 4 {
				writers.Go(func() { hot.write(g, stop, round, i) })
			}
			writers.Go(func() { three.write(g, stop, round) })
			torn += strike(t, g, dir, path, r.IntN(3))
			close(stop)
			writers.Wait()
			if g.cmd.ProcessState != nil || len(g.exited) > 0 {
				g.wait()
				g.start()
			}
			for i, s := range slots {
				if problem := s.check(g); problem != "" {
					t.Fatalf("seed %d, round %d, writer %d: %s", seed, round, i, problem)
				}
			}
			if problem := hot.check(g); problem != "" {
				t.Fatalf("seed %d, round %d, the hot scroll: %s", seed, round, problem)
			}
			if problem := three.check(g); problem != "" {
				t.Fatalf("seed %d, round %d, the batch: %s", seed, round, problem)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), "b"); n < 800*8<<10 {
				t.Fatalf("seed %d, round %d: the phext has lost %d bytes of what nobody touched", seed, round, 800*8<<10-n)
			}
			if phext.Parse(string(text)).Render() != g.get("will", "/api/v2/get?p=large") {
				t.Fatalf("seed %d, round %d: the service does not answer with what the file holds", seed, round)
			}
		}
		t.Logf("%d kills hit SQ in the middle of a write", torn)
	})
}

// setModeOfRound makes sqgate have the file created again in even rounds, and
// truncated in odd ones, since a new file would not get that mode.
func setModeOfRound(t *testing.T, path string, round int) {
	mode := os.FileMode(0o666) &^ fsutil.Umask()
	if round%2 == 1 {
		mode = 0o640
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// write writes values until stop is closed or sqgate does not answer.
func (s *slot) write(g *gate, stop <-chan struct{}, round, writer int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := s.once(g, fmt.Sprintf("round %d writer %d number %d;", round, writer, n)); err != nil {
			return
		}
	}
}

// once writes the next value, and tells whether the write was refused.
func (s *slot) once(g *gate, value string) (refused bool, err error) {
	op, body, after := s.next(value)
	r, err := g.do(s.tenant, "POST", "/api/v2/"+op+"?p="+s.target, body)
	done := map[string]bool{}
	for text := range s.may {
		done[after(text)] = true
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // each that might have been made doubles what may stand there
		return true, err
	case err != nil || r.status == 504 || r.status == 500:
		maps.Copy(s.may, done)
		return false, err
	case r.status == 200:
		s.may = done
		return false, nil
	}
	return true, nil
}

// check reads the slot, and returns what is wrong with its text, or "".
func (s *slot) check(g *gate) string {
	r, err := g.do(s.tenant, "GET", "/api/v2/select?p="+s.target, "")
	if err == nil && r.status == 404 { // a name without a scroll is empty
		r.status, r.body = 200, ""
	}
	if err != nil || r.status != 200 {
		return fmt.Sprintf("select: %d %s %v", r.status, r.body, err)
	}
	if !s.may[r.body] {
		return fmt.Sprintf("%q stands there; it may be one of %q", r.body, slices.Collect(maps.Keys(s.may)))
	}
	s.may = map[string]bool{r.body: true}
	return ""
}

// together are coordinates that one writer writes in batches: they always have the same
// text, each of its inserts.
type together struct {
	*slot
	at []string
}

func (s *together) write(g *gate, stop <-chan struct{}, round int) {
	s.next = func(value string) (string, string, func(string) string) {
		var all []map[string]string
		for _, c := range s.at {
			all = append(all, map[string]string{"op": "insert", "c": c, "s": value})
		}
		return "batch", batchOf(all...), func(old string) string { return old + value }
	}
	s.slot.write(g, stop, round, 0)
}

// check reads the coordinates at once.
func (s *together) check(g *gate) string {
	var all []map[string]string
	for _, c := range s.at {
		all = append(all, map[string]string{"op": "select", "c": c})
	}
	r, err := g.do(s.tenant, "POST", "/api/v2/batch?p="+s.target, batchOf(all...))
	if err != nil || r.status != 200 {
		return fmt.Sprintf("a batch of reads: %d %s %v", r.status, r.body, err)
	}
	results := resultsOf(g.t, r.body)
	for _, one := range results {
		if one.S != results[0].S {
			return fmt.Sprintf("%s has %q, and %s %q", results[0].C, results[0].S, one.C, one.S)
		}
	}
	if !s.may[results[0].S] {
		return fmt.Sprintf("%q stands there; it may be one of %q", results[0].S, slices.Collect(maps.Keys(s.may)))
	}
	s.may = map[string]bool{results[0].S: true}
	return ""
}

// hotScroll is a coordinate to which several writers append at once. sqgate makes one
// text for SQ of what they append.
type hotScroll struct {
	target string

	mu      sync.Mutex
	answers map[string]bool // what was appended, or may have been: whether that was acknowledged
}

// write appends values until stop is closed or sqgate does not answer.
func (s *hotScroll) write(g *gate, stop <-chan struct{}, round, writer int) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		value := fmt.Sprintf("round %d writer %d number %d;", round, writer, n)
		r, err := g.do("will", "POST", "/api/v2/insert?p="+s.target, value)
		s.mu.Lock()
		if err != nil || r.status == 200 || r.status == 500 || r.status == 504 {
			s.answers[value] = err == nil && r.status == 200
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// check reads the scroll: what was acknowledged must be there once, and nothing that was
// refused.
func (s *hotScroll) check(g *gate) string {
	text := g.get("will", "/api/v2/select?p="+s.target)
	count := map[string]int{}
	for value := range strings.SplitAfterSeq(text, ";") {
		if value == "" {
			continue
		}
		if _, known := s.answers[value]; !known {
			return fmt.Sprintf("%q stands there, and was refused or never sent whole", value)
		}
		count[value]++
	}
	for value, acknowledged := range s.answers {
		if n := count[value]; n > 1 || n == 0 && acknowledged {
			return fmt.Sprintf("%q stands there %d times", value, n)
		}
		s.answers[value] = count[value] == 1 // what is there stays there
		if count[value] == 0 {
			delete(s.answers, value)
		}
	}
	return ""
}

// watchForTwo looks at /proc until the test ends, and fails the test if two
// processes ever serve one directory at once.
func watchForTwo(t *testing.T, dirs ...string) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, dir := range dirs {
				if both := servingTogether(dir); len(both) > 1 {
					t.Errorf("processes %v serve %s at once", both, dir)
					return
				}
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

// servingTogether is the processes that serve dir at the same moment. One process
// may end and the next begin while /proc is read, so it takes those that two
// reads in a row have found.
func servingTogether(dir string) []int {
	first := childrenOf(dir)
	if len(first) < 2 {
		return first
	}
	second := childrenOf(dir)
	return slices.DeleteFunc(first, func(pid int) bool { return !slices.Contains(second, pid) })
}

// strike kills the child (whom 0), the gateway (1) or both (2) while SQ writes the
// file. It returns 1 if the kill left the file incomplete.
func strike(t *testing.T, g *gate, dir, path string, whom int) (torn int) {
	t.Helper()
	var pids []int
	eventually(t, "a write is under way", func() bool {
		pids = childrenOf(dir)
		return len(pids) == 1 && beingWritten(pids[0], path)
	})
	if whom != 0 {
		_ = g.cmd.Process.Kill() // if it has ended by itself, wait returns at once
	}
	if whom != 1 {
		_ = syscall.Kill(pids[0], syscall.SIGKILL) // it may have ended already
	}
	if info, err := os.Stat(path); err != nil || info.Size() < 800*8<<10 {
		torn = 1
	}
	if whom != 0 {
		g.wait()
		g.start()
	}
	return torn
}

// beingWritten tells whether a process has the file open.
func beingWritten(pid int, path string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well-formed
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == path {
			return true
		}
	}
	return false
}
