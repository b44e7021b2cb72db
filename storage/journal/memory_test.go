package journal

import (
	"errors"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
)

// counted is a Memory that counts, and has room for so many bytes of scrolls.
type counted struct{ texts, scrolls, most int64 }

var errFull = errors.New("full")

func (c *counted) Texts(bytes int64) error {
	c.texts += bytes
	return nil
}

func (c *counted) Scrolls(bytes int64) error {
	if c.scrolls += bytes; c.scrolls > c.most {
		return errFull
	}
	return nil
}

// TestAReplayAsksForMemory before it parses a phext of many scrolls, once for all the
// times that it does so: after each text with delimiters.
func TestAReplayAsksForMemory(t *testing.T) {
	const scrolls = 10_000
	w := closing(t, newWorld(t, t.TempDir(), nil))
	many := strings.Repeat(strings.Repeat("x\x17", 500)+"\x18", scrolls/500)
	w.put("a.phext", text(many))
	for range 20 {
		w.mutate(update("a.phext", 1, "a\x17b"))
	}
	const lists = (1 + copies) * scrolls * phext.ScrollSize
	m := &counted{most: 2 * lists}
	got, _, err := w.j.KnownAt("a.phext", w.now.Add(1e9), nil, m)
	if err != nil || got != w.read("a.phext") {
		t.Errorf("%d bytes, %v", len(got.Text), err)
	}
	if m.texts < 2*int64(len(many)) || m.scrolls < lists {
		t.Errorf("%+v", m)
	}
	if _, _, err := w.j.KnownAt("a.phext", w.now.Add(1e9), nil, &counted{most: lists / 2}); !errors.Is(err, errFull) {
		t.Errorf("without memory: %v", err)
	}
}
