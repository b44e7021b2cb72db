package phext

import (
	"bytes"
	"testing"
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

// TestDelimitersBetween are recorded files ("whole-phext reads", "whole coordinates beyond the range").
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
