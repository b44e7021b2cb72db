package cache

import (
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// writes makes one write after the other before any of them is durable.
func writes(t *testing.T, c *Cache, path string, texts ...string) (all []*Frozen, after []map[string]*Version) {
	t.Helper()
	for _, text := range texts {
		before, err := c.ReadNewest(path)
		if err != nil {
			t.Fatal(err)
		}
		h := c.Freeze(map[string]*Version{path: before})
		put(t, path, text)
		left := map[string]*Version{path: NewVersion(text, identity(t, path))}
		h.Written(left)
		all, after = append(all, h), append(after, left)
		if p, err := c.ReadNewest(path); err != nil || p.Text() != text {
			t.Fatalf("the next write begins with %q, %v; want %q", p.Text(), err, text)
		}
	}
	return all, after
}

// TestReadersSeeWhatIsDurable has writes go on while those before them are not durable
// yet, and makes them durable in every order.
func TestReadersSeeWhatIsDurable(t *testing.T) {
	for _, limit := range []int64{0, 1 << 20} { // also with nothing kept
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			path := filepath.Join(t.TempDir(), "n.phext")
			put(t, path, "-")
			c := New(limit, anything)
			h, after := writes(t, c, path, "0", "1", "2")
			want := "-"
			for _, i := range order {
				if got := read(t, c, path).Text(); got != want {
					t.Errorf("%v before %d: readers see %q, want %q", order, i, got, want)
				}
				h[i].Publish(after[i])
				want = max(want, after[i][path].Text())
			}
			if got := read(t, c, path); got.Text() != "2" || len(c.frozen) != 0 {
				t.Errorf("%v: readers see %q at the end, %d are frozen", order, got.Text(), len(c.frozen))
			}
			put(t, path, "by hand")
			if got := read(t, c, path).Text(); got != "by hand" {
				t.Errorf("%v: readers see %q", order, got)
			}
		}
	}
}

// TestAFileThatDidNotExist does not exist for readers until it is durable.
func TestAFileThatDidNotExist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	c := New(1<<20, anything)
	h, after := writes(t, c, path, "new", "newer")
	if p := read(t, c, path); p.Exists() {
		t.Errorf("readers see %q", p.Text())
	}
	h[0].Publish(after[0])
	if p := read(t, c, path); p.Text() != "new" {
		t.Errorf("readers see %q", p.Text())
	}
	h[1].Publish(nil)
	if p := read(t, c, path); p.Text() != "newer" {
		t.Errorf("what was not known is not read again: %q", p.Text())
	}
}

// TestForget has writes that are taken back: the file is another one, and those that
// learn late that their write failed change nothing.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "n.phext"), filepath.Join(t.TempDir(), "n.phext")
	put(t, path, "-")
	put(t, other, "other")
	c := New(1<<20, anything)
	h, _ := writes(t, c, path, "0", "1")
	elsewhere := c.Freeze(map[string]*Version{other: NewVersion("before", fsutil.FileID{})})
	put(t, path, "as it was")
	c.Forget(dir)
	if got := read(t, c, path).Text(); got != "as it was" {
		t.Errorf("readers see %q", got)
	}
	next, after := writes(t, c, path, "next")
	h[0].Publish(nil)
	h[1].Publish(nil)
	if got := read(t, c, path).Text(); got != "as it was" {
		t.Errorf("a write of before has ended, and readers see %q", got)
	}
	next[0].Publish(after[0])
	if got := read(t, c, path).Text(); got != "next" {
		t.Errorf("readers see %q", got)
	}
	if got := read(t, c, other).Text(); got != "before" {
		t.Errorf("in another directory, readers see %q", got)
	}
	elsewhere.Publish(nil)
}
