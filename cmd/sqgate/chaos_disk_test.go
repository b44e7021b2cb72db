package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/phext"
)

// TestChaosOfAFullDisk fills the tenant's file system at random moments while
// writers change a large phext in it. In one variant the journal is there too. It
// needs the right to mount.
func TestChaosOfAFullDisk(t *testing.T) {
	for name, journalThere := range map[string]bool{"journal elsewhere": false, "journal there": true} {
		t.Run(name, func(t *testing.T) {
			forEachSQ(t, func(t *testing.T, sq string) { chaosOfAFullDisk(t, sq, journalThere) })
		})
	}
}

// mostRounds is how many rounds there may be until a write meets a full disk. A
// few rounds may all miss it.
const mostRounds = 40

func chaosOfAFullDisk(t *testing.T, sq string, journalThere bool) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	g := newGate(t, sq, "will")
	disk, scrolls := rounds(12, 48)<<20, rounds(150, 600) // in bytes; in scrolls of 8 KiB
	small := filepath.Join(g.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, fmt.Sprintf("size=%dm", disk>>20)); err != nil {
		t.Skipf("no small file system to be had: %v", err)
	}
	t.Cleanup(func() { g.stop(); _ = unix.Unmount(small, unix.MNT_DETACH) }) // it is removed with the test's directory
	dir := filepath.Join(small, "will")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if journalThere {
		g.args = append(g.args, "--state-dir", filepath.Join(small, "state"), "--history", "0")
	}
	g.set("will", "data_dir", dir)
	g.writeFile()
	ballast := scrolls * 8 << 10 // bytes
	text := strings.TrimSuffix(strings.Repeat(strings.Repeat("b", 8<<10)+"\x18", scrolls), "\x18")
	path := filepath.Join(dir, "large.phext")
	if err := os.WriteFile(path, []byte("x\x17"+text), 0o666); err != nil {
		t.Fatal(err)
	}
	g.start()
	slots := []*slot{
		newSlot("will", "large&c=1.1.1/1.1.1/1.900.1", updates),
		newSlot("will", "large&c=1.1.1/1.1.1/1.900.2", inserts),
		newSlot("will", "large&c=a.name", updatesAndDeletes()),
	}
	refused, most := 0, max(rounds(1, 2), chaosRounds(t, sq)/4)
	for round := 0; round < most || refused == 0 && round < mostRounds; round++ {
		refused += fillWhileWriting(t, g, slots, round, filepath.Join(small, "filler"), disk, r)
		eventually(t, "the phext is served again", func() bool {
			reply, err := g.do("will", "GET", "/api/v2/select?p=large", "")
			return err == nil && reply.status == 200
		})
		for i, s := range slots {
			if problem := s.check(g); problem != "" {
				t.Fatalf("seed %d, round %d, writer %d: %s", seed, round, i, problem)
			}
		}
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(now), "b"); n < ballast {
			t.Fatalf("seed %d, round %d: the phext has lost %d bytes of what nobody touched", seed, round, ballast-n)
		}
		if phext.Parse(string(now)).Render() != g.get("will", "/api/v2/get?p=large") {
			t.Fatalf("seed %d, round %d: the service does not answer with what the file holds", seed, round)
		}
	}
	if refused == 0 {
		t.Error("the disk was never full")
	}
	t.Logf("%d writes were refused", refused)
}

// fillWhileWriting has each writer write 20 times while the disk fills and
// empties, and leaves it empty. It returns how many writes were refused.
func fillWhileWriting(t *testing.T, g *gate, slots []*slot, round int, filler string, most int, r *rand.Rand) int {
	t.Helper()
	var writers, filling sync.WaitGroup
	var refused atomic.Int64
	stop := make(chan struct{})
	sizes := make([]int, 64)
	for i := range sizes {
		sizes[i] = r.IntN(most)
	}
	filling.Go(func() {
		chunk := make([]byte, 1<<20)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.Create(filler)
			if err != nil {
				continue // the disk has no room even for the name
			}
			for n := 0; n < sizes[i%len(sizes)] && err == nil; n += len(chunk) {
				_, err = f.Write(chunk) // it is meant to run into the full disk
			}
			_ = f.Close() // the disk may be full
		}
	})
	for i, s := range slots {
		writers.Go(func() {
			for n := range 20 {
				if no, _ := s.once(g, fmt.Sprintf("round %d writer %d number %d;", round, i, n)); no { // the slot accounts for a write without an answer
					refused.Add(1)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	filling.Wait()
	if err := os.Remove(filler); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return int(refused.Load())
}
