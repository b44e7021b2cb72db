package journal

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// TestCursors reads what it has sealed, also after a restart, and nothing that was sealed
// for nobody or another.
func TestCursors(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	of := func(owner string) Cursors {
		t.Helper()
		c, err := w.j.Cursors(owner)
		w.must(err)
		return c
	}
	will, emi := of("will"), of("emi")
	length := len(will.Seal(Position{}))
	for _, p := range []Position{{}, {Segment: 1}, {Segment: 7, Created: 1_700_000_000_000_000_000, Offset: 1 << 40, Seq: 1<<64 - 1}} {
		text := will.Seal(p)
		if got, err := will.Unseal(text); err != nil || got != p {
			t.Errorf("%+v became %+v: %v", p, got, err)
		}
		if len(text) != length || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q does not fit into a header, or its length tells something", text)
		}
		raw, err := base64.RawURLEncoding.DecodeString(text)
		w.must(err)
		again, err := base64.RawURLEncoding.DecodeString(will.Seal(p))
		w.must(err)
		same := 0
		for i := range raw {
			if raw[i] == again[i] {
				same++
			}
		}
		if same > 8 { // the version, and by chance no more than a few of the 60 others
			t.Errorf("two cursors at one place have %d bytes in common", same)
		}
		if _, err := emi.Unseal(text); !errors.Is(err, ErrBeyondHistory) {
			t.Errorf("another tenant may use the cursor of %+v: %v", p, err)
		}
		for i := range len(text) {
			for _, c := range []byte("Aa9-_. \n") {
				wrong := text[:i] + string(c) + text[i+1:]
				if _, err := will.Unseal(wrong); wrong != text && !errors.Is(err, ErrBeyondHistory) {
					t.Errorf("%q: %v", wrong, err)
				}
			}
			if _, err := will.Unseal(text[:i]); !errors.Is(err, ErrBeyondHistory) {
				t.Errorf("%q: %v", text[:i], err)
			}
		}
	}
	before := Position{Segment: 3, Offset: 5, Seq: 1}
	text := will.Seal(before)
	w.open() // a restart
	if got, err := of("will").Unseal(text); err != nil || got != before {
		t.Errorf("after a restart %+v, %v", got, err)
	}
	other := newWorld(t, t.TempDir(), nil)
	there, err := other.j.Cursors("will")
	other.must(err)
	if _, err := there.Unseal(text); !errors.Is(err, ErrBeyondHistory) {
		t.Errorf("another journal takes it: %v", err)
	}
	w.must(w.set.Purge(w.j.dataDir))
	if _, err := of("will").Unseal(text); !errors.Is(err, ErrBeyondHistory) {
		t.Errorf("the journal was removed, and a cursor counts: %v", err)
	}
}
