package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// TestSQMakesFilesAnew expects each write to create a new file, unless the file
// has a mode or a second name that a new file would not have.
func TestSQMakesFilesAnew(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		g.must("will", "POST", at("update", "n", origin), "first", 200)
		g.must("will", "POST", at("update", "n", origin), "second", 200) // the first write has put a checkpoint on the disk
		path := filepath.Join(g.dataDir("will"), "n.phext")
		write := func() { g.must("will", "POST", at("insert", "n", origin), "!", 200) }
		for range 3 {
			if !written(t, path, write) {
				t.Error("the file was truncated")
			}
		}
		if got := g.get("will", at("select", "n", origin)); got != "second!!!" {
			t.Errorf("it holds %q", got)
		}
		expectMode(t, path, fsutil.NewFileMode&^fsutil.Umask())
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if written(t, path, write) {
			t.Error("a file with a mode of its own was replaced")
		}
		expectMode(t, path, 0o640)
		if err := os.Chmod(path, fsutil.NewFileMode&^fsutil.Umask()); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(path, path+".second-name"); err != nil {
			t.Fatal(err)
		}
		write()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Sys().(*syscall.Stat_t).Nlink != 2 {
			t.Error("a file with two names was replaced")
		}
	})
}

// TestAnotherPhextBetween makes SQ load another phext between two writes to one.
// SQ must then load the first again, for which its file must exist.
func TestAnotherPhextBetween(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		for i := range 6 {
			for _, p := range []string{"one", "two"} {
				g.must("will", "POST", at("insert", p, origin), fmt.Sprint(i), 200)
				g.must("will", "POST", at("insert", p, origin), ".", 200)
			}
		}
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				p := []string{"one", "two"}[i%2]
				for range 5 {
					g.must("will", "POST", at("insert", p, fmt.Sprintf("1.1.1/1.1.1/1.2.%d", i+1)), "x", 200)
				}
			})
		}
		all.Wait()
		for _, p := range []string{"one", "two"} {
			if got := g.get("will", at("select", p, origin)); got != "0.1.2.3.4.5." {
				t.Errorf("%s: %q", p, got)
			}
		}
		for i := range 12 {
			p := []string{"one", "two"}[i%2]
			if got := g.get("will", at("select", p, fmt.Sprintf("1.1.1/1.1.1/1.2.%d", i+1))); got != "xxxxx" {
				t.Errorf("%s, %d: %q", p, i, got)
			}
		}
	})
}

// TestTwoPhextsInTurnNeverEmptyEachOther has two clients write to each of two
// phexts. sqgate must know which phext SQ has in memory: if SQ has to load a
// phext while its file is missing, it takes it for an empty one.
func TestTwoPhextsInTurnNeverEmptyEachOther(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		ids := []string{"a", "b", "c", "d", "e"}
		g := startGate(t, sq, ids...)
		for _, id := range ids {
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					for n := range 40 {
						g.must(id, "POST", at("update", []string{"x", "y"}[i%2], fmt.Sprintf("1.1.1/1.1.%d/1.%d.1", i+1, n+1)), "text", 200)
					}
				})
			}
			all.Wait()
			for i := range 4 {
				for n := range 40 {
					if got := g.get(id, at("select", []string{"x", "y"}[i%2], fmt.Sprintf("1.1.1/1.1.%d/1.%d.1", i+1, n+1))); got != "text" {
						t.Fatalf("%s, %d, %d: %q", id, i, n, got)
					}
				}
			}
		}
		if strings.Contains(g.log.String(), "does not hold it") {
			t.Error("SQ wrote something else than it was to write")
		}
	})
}

// written calls write, and tells whether that replaced the file: the old one has
// no name any more.
func written(t *testing.T, path string, write func()) (replaced bool) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Nlink == 0
}

func expectMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("mode %v, not %v", info.Mode(), want)
	}
}
