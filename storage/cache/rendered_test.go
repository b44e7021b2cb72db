package cache

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
)

// making makes an answer of so many bytes, and counts how often.
type making struct{ times int }

func (m *making) answer(size int) func() (*Rendered, error) {
	return func() (*Rendered, error) {
		m.times++
		return &Rendered{Text: strings.Repeat("a", size), Tag: fmt.Sprint(m.times)}, nil
	}
}

// ask wants an answer to have been made so many times in all.
func (m *making) ask(t *testing.T, c *Cache, path string, p, names *Version, kind Kind, want int) {
	t.Helper()
	a, err := c.Answer(path, p, names, kind, m.answer(100))
	if err != nil || m.times != want || a.Tag != fmt.Sprint(want) {
		t.Errorf("made %d times, want %d: %+v, %v", m.times, want, a, err)
	}
}

func TestAnAnswerIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	c, m := New(1<<20, anything), &making{}
	put(t, path, "one")
	p := read(t, c, path)
	names, others := NewVersion("name", fsutil.FileID{}), NewVersion("name", fsutil.FileID{})
	m.ask(t, c, path, p, names, Toc, 1)
	m.ask(t, c, path, p, names, Toc, 1)
	m.ask(t, c, path, p, names.WithID(fsutil.FileID{Size: 4}), Toc, 1) // the same names
	m.ask(t, c, path, p, others, Toc, 2)
	m.ask(t, c, path, p, others, Toc, 2)
	m.ask(t, c, path, p, others, JSONExport, 3)
	put(t, path, "two")
	p = read(t, c, path)
	m.ask(t, c, path, p, others, Toc, 4)
	changed := p.With(phext.Origin(), "three")
	put(t, path, "three")
	h := c.Freeze(map[string]*Version{path: p})
	m.ask(t, c, path, read(t, c, path), others, Toc, 4)
	h.Publish(map[string]*Version{path: changed.WithID(identity(t, path))})
	p = read(t, c, path)
	m.ask(t, c, path, p, others, Toc, 5)
	m.ask(t, c, path, p, others, Toc, 5)
}

func TestAnAnswerThatCannotBeMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	c, m, failed := New(1<<20, anything), &making{}, errors.New("failed")
	put(t, path, "one")
	p := read(t, c, path)
	if _, err := c.Answer(path, p, p, Get, func() (*Rendered, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	m.ask(t, c, path, p, p, Get, 1)
}

// What is not to be kept is made each time; what is kept has others go.
func TestAnswersAreCountedAndGo(t *testing.T) {
	dir := t.TempDir()
	const limit = 32 << 10
	c, m := New(limit, anything), &making{}
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	put(t, one, strings.Repeat("x", 8<<10))
	put(t, two, strings.Repeat("x", 8<<10))
	p, q := read(t, c, one), read(t, c, two)
	before := c.Stats().Bytes
	if _, err := c.Answer(one, p, p, Toc, m.answer(4<<10)); err != nil || c.Stats().Bytes != before+4<<10+perAnswer {
		t.Errorf("%d bytes before, %+v after, %v", before, c.Stats(), err)
	}
	if _, err := c.Answer(one, p, p, Get, func() (*Rendered, error) { return &Rendered{Text: p.Text()}, nil }); err != nil || c.Stats().Bytes != before+4<<10+2*perAnswer {
		t.Errorf("a text that is there already was counted again: %+v, %v", c.Stats(), err)
	}
	if _, err := c.Answer(two, q, q, Toc, m.answer(limit-8<<10)); err != nil || c.Stats().Versions != 2 || q.keptOf(Toc).answer != nil {
		t.Errorf("an answer that does not fit beside its page: %+v, %v", c.Stats(), err)
	}
	if _, err := c.Answer(one, p, p, JSONExport, m.answer(16<<10)); err != nil || c.Stats().Versions != 1 || c.Stats().Evictions != 1 || read(t, c, one) != p {
		t.Errorf("the page that was not asked for stayed: %+v, %v", c.Stats(), err)
	}
	if _, err := c.Answer(two, q, q, Toc, m.answer(1)); err != nil || q.keptOf(Toc).answer != nil {
		t.Errorf("kept of a page that is gone: %+v, %v", c.Stats(), err)
	}
	put(t, one, "")
	if read(t, c, one); c.Stats().Bytes != perVersion {
		t.Errorf("of what was kept, something stayed: %+v", c.Stats())
	}
}

// counted is what the cache holds, looked up page by page.
func (c *Cache) counted() (bytes int64) {
	for _, p := range c.versions.Values() {
		bytes += p.costLocked() - p.answers
		for kind := range 2 * kinds {
			bytes += p.takes(p.keptOf(kind).answer)
		}
	}
	return bytes
}

func TestTheCountIsTrue(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		c, m := New(rapid.Int64Range(0, 16<<10).Draw(rt, "limit"), anything), &making{}
		size := rapid.IntRange(0, 6<<10)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			path := filepath.Join(dir, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "file"))
			p := read(t, c, path)
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				put(t, path, strings.Repeat("x", size.Draw(rt, "size")))
			case 1:
				next := p.With(phext.Origin(), strings.Repeat("y", size.Draw(rt, "size")))
				h := c.Freeze(map[string]*Version{path: p})
				put(t, path, next.Text())
				h.Publish(map[string]*Version{path: next.WithID(identity(t, path))})
			case 2:
				c.Freeze(map[string]*Version{path: p}).Publish(map[string]*Version{path: p})
			case 3:
				c.Freeze(map[string]*Version{path: p}).Publish(nil)
			case 4:
				names := read(t, c, filepath.Join(dir, "names"))
				if rapid.Bool().Draw(rt, "renamed") {
					names = NewVersion("new", fsutil.FileID{})
				}
				kind := Kind(rapid.IntRange(0, int(kinds)-1).Draw(rt, "kind"))
				if _, err := c.Answer(path, p, names, kind, m.answer(size.Draw(rt, "answer"))); err != nil {
					rt.Fatal(err)
				}
			}
			if c.bytes != c.counted() || c.bytes > c.limit {
				rt.Fatalf("%d bytes are counted, %d are held, %d may be", c.bytes, c.counted(), c.limit)
			}
		}
	})
}

// TestOneMakesForAll has many ask at once, while the file changes.
func TestOneMakesForAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.phext")
	c := New(1<<20, anything)
	for round := range 50 {
		put(t, path, fmt.Sprint("state ", round))
		p := read(t, c, path)
		var made atomic.Int32
		var clients sync.WaitGroup
		start := make(chan struct{})
		for range 16 {
			clients.Go(func() {
				<-start
				a, err := c.Answer(path, p, p, Toc, func() (*Rendered, error) {
					made.Add(1)
					runtime.Gosched() // the others find it unfinished
					return &Rendered{Text: p.Text()}, nil
				})
				if err != nil || a.Text != p.Text() {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		close(start)
		clients.Wait()
		if made.Load() != 1 {
			t.Fatalf("made %d times", made.Load())
		}
	}
	if c.bytes != c.counted() {
		t.Errorf("%d bytes are counted, %d are held", c.bytes, c.counted())
	}
}
