package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/phext"
)

// TestALargeTextIsLikeASmallOne compares texts that are not in memory as one string, in a
// file or in a parsed phext, with the same texts in memory.
func TestALargeTextIsLikeASmallOne(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.StringOf(rapid.RuneFrom([]rune("ab\x00\x17🔱")))
		a, b := some.Draw(t, "a"), some.Draw(t, "b")
		if rapid.Bool().Draw(t, "begins") {
			b = a + b
		}
		for _, large := range []State{inFile(t, dir, a), {Source: rendered{phext.Parse(a)}, Exists: true}} {
			one := large.Whole()
			if _, ok := large.Source.(fileSource); ok && one.Text != a {
				t.Fatalf("%q, want %q", one.Text, a)
			}
			other := State{Text: b, Exists: true}
			if large.Size() != one.Size() || large.Sum() != one.Sum() || large.hasEmptyBlock() != one.hasEmptyBlock() || large.isUTF8() != one.isUTF8() {
				t.Errorf("%q is not like itself", a)
			}
			if !large.Equals(one) || !one.Equals(large) || large.Equals(other) != (one == other) || large.Equals(State{}) {
				t.Errorf("%q and %q are compared wrongly", a, b)
			}
			if want := len(one.Text) < len(b) && strings.HasPrefix(b, one.Text); large.begins(other) != want || other.begins(large) != other.begins(one) {
				t.Errorf("%q begins %q: want %v", a, b, want)
			}
		}
	})
}

func inFile(t *rapid.T, dir, text string) State {
	path := filepath.Join(dir, "text")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return State{Source: fileSource{path: path, size: int64(len(text))}, Exists: true}
}

// TestABlockThatWasNeverWritten has only NULs, and is told from a text that has some.
func TestABlockThatWasNeverWritten(t *testing.T) {
	nuls := func(n int) string { return strings.Repeat("\x00", n) }
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"no NUL", strings.Repeat("a", 2*blockSize), false},
		{"one in a line", "a\x00b", false},
		{"one at the end", "a\x00", false},
		{"one alone", "\x00", false},
		{"one behind a block", strings.Repeat("a", blockSize) + "\x00", false},
		{"many, and all blocks have text", "a" + nuls(2*blockSize-2) + "a", false},
		{"up to the end, from the middle of a block", "a" + nuls(blockSize-1), false},
		{"nothing else", nuls(9), true},
		{"a block", strings.Repeat("a", blockSize) + nuls(blockSize) + "a", true},
		{"the first block", nuls(blockSize) + "a", true},
		{"from a block on, to the end", strings.Repeat("a", blockSize) + nuls(9), true},
		{"from the middle of a block on, over another", "a" + nuls(2*blockSize), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 7, blockSize, len(c.text)} { // of the pieces in which it is read
				var w blockFinder
				for piece := range slices.Chunk([]byte(c.text), size) {
					_, _ = w.Write(piece)
				}
				if got := w.found || w.isEmpty(); got != c.want || text(c.text).hasEmptyBlock() != c.want {
					t.Errorf("in pieces of %d: %v", size, got)
				}
			}
		})
	}
}

// TestWhatCannotBeReadEqualsNothing: nobody may take a file for what it is to be.
func TestWhatCannotBeReadEqualsNothing(t *testing.T) {
	gone := State{Source: fileSource{path: filepath.Join(t.TempDir(), "gone"), size: 4}, Exists: true}
	if gone.Equals(State{Text: "text", Exists: true}) || gone.Equals(gone) || gone.begins(State{Text: "longer text", Exists: true}) || gone.isUTF8() {
		t.Error("it is taken for something")
	}
}

// TestALongFrameIsAFrame, byte for byte, and its text is not copied.
func TestALongFrameIsAFrame(t *testing.T) {
	long := strings.Repeat("x", Small+1)
	r := record{kind: begun, time: 1, seq: 2, m: Mutation{File: "a.phext", Op: Replace, At: phext.Origin(), Text: long, Tenant: "will", Answer: "yes"}}
	want, err := frame(nil, r)
	if err != nil || !r.isLong() {
		t.Fatal(err)
	}
	asSource := r
	asSource.m.Text, asSource.m.Source = "", rendered{phext.Parse(long)}
	for _, r := range []record{r, asSource} {
		w := newWorld(t, t.TempDir(), nil)
		f, err := os.Create(filepath.Join(t.TempDir(), "frame"))
		w.must(err)
		got := testing.AllocsPerRun(1, func() {
			around, err := frameAround(r)
			w.must(err)
			w.must(around.write(&fileWriter{w.j, f, 0}))
			if around.size() != int64(len(want)) {
				t.Errorf("%d bytes, want %d", around.size(), len(want))
			}
		})
		if text, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(text, want) {
			t.Errorf("%d bytes are not the %d of a frame: %v", len(text), len(want), err)
		}
		w.must(f.Close())
		if got > 100 {
			t.Errorf("%v allocations", got)
		}
	}
}
