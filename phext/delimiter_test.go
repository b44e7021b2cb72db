package phext

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestDelimiterBytes(t *testing.T) {
	for b := range 256 {
		want := bytes.IndexByte([]byte{0x01, 0x17, 0x18, 0x19, 0x1a, 0x1c, 0x1d, 0x1e, 0x1f}, byte(b)) >= 0
		if IsDelimiter(byte(b)) != want || HasDelimiter([]byte{'a', byte(b), 'z'}) != want || HasDelimiter("z"+string([]byte{byte(b)})) != want {
			t.Errorf("%#02x: a delimiter is %v", b, !want)
		}
	}
	if HasDelimiter("") {
		t.Error("nothing has a delimiter")
	}
}

// TestDelimitersBetween has the delimiters of recorded files ("whole-phext reads",
// "whole coordinates beyond the range").
func TestDelimitersBetween(t *testing.T) {
	at := Origin()
	for _, c := range []struct {
		to   Coordinate
		want string
	}{
		{Origin(), ""},
		{Coordinate{1, 1, 1, 1, 1, 1, 1, 1, 2}, "\x17"},
		{Coordinate{1, 1, 1, 1, 1, 1, 1, 2, 1}, "\x18"},
		{Coordinate{2, 1, 1, 1, 1, 1, 1, 1, 1}, "\x01"},
		{Coordinate{3, 4, 1, 1, 1, 1, 1, 1, 3}, "\x01\x1f\x1f\x1f\x17\x17"},
		{Coordinate{3, 4, 1, 1, 1, 1, 2, 0, 0}, "\x19"},
	} {
		got := string(AppendDelimiters(nil, at, c.to))
		if got != c.want || Delimiters(at, c.to) != len(c.want) {
			t.Errorf("%v to %v: %q, counted %d, want %q", at, c.to, got, Delimiters(at, c.to), c.want)
		}
		at = c.to
	}
	if n := Delimiters(Origin(), Coordinate{300000000, 1, 1, 1, 1, 1, 1, 1, 1}); n != 299999999 {
		t.Errorf("%d delimiters to library 300000000", n)
	}
}

// TestNextDelimiter looks at one byte at a time, unlike the code, which looks at
// eight.
func TestNextDelimiter(t *testing.T) {
	odd := rapid.SampledFrom([]byte("\x00\x02\x0a\x0f\x10\x11\x16\x1b\x20\x80\x81\x90\xff" + delimitersText))
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.OneOf(odd, rapid.Just(byte('a')), rapid.Byte())).Draw(t, "text"))
		from := rapid.IntRange(0, len(text)).Draw(t, "from")
		want := from
		for want < len(text) && !IsDelimiter(text[want]) {
			want++
		}
		if got := nextDelimiter(text, from); got != want {
			t.Fatalf("in %q from %d: %d, want %d", text, from, got, want)
		}
	})
}

// TestOutermost writes a text with delimiters: what changes is between its coordinate and
// the last one with the same numbers before the outermost. Where that would count past
// Max, nothing may be written.
func TestOutermost(t *testing.T) {
	coordinate := rapid.Custom(func(t *rapid.T) (c Coordinate) {
		for i := range c {
			c[i] = rapid.SampledFrom([]uint32{1, 1, 1, 2, 3}).Draw(t, "number")
		}
		return c
	})
	text := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte("ab"+delimitersText)), 0, 5), func(b []byte) string { return string(b) })
	rapid.Check(t, func(t *rapid.T) {
		before := Parse("")
		for range rapid.IntRange(0, 8).Draw(t, "scrolls") {
			before = before.With(coordinate.Draw(t, "at"), "old")
		}
		at, text := coordinate.Draw(t, "at"), text.Draw(t, "text")
		n := Pace(nil).Outermost(text)
		if n < 0 != !HasDelimiter(text) {
			t.Fatalf("the outermost delimiter in %q is %d", text, n)
		}
		if n < 0 {
			return
		}
		after, last := Parse(before.With(at, text).Render()), at.LastWith(n)
		for _, p := range []*Phext{before, after} {
			for s := range p.All() {
				was, _ := before.Select(s.At)
				is, _ := after.Select(s.At)
				if was != is && (s.At.Compare(at) < 0 || s.At.Compare(last) > 0) {
					t.Fatalf("%q at %v: %v became %q, which is not between it and %v", text, at, s.At, is, last)
				}
			}
		}
	})
}
