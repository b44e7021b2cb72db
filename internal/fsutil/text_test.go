package fsutil

import (
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestIsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune{'a', 'é', '語', '🙂'})).Draw(t, "text")
		text = text[:rapid.IntRange(0, len(text)).Draw(t, "cut")] + rapid.SampledFrom([]string{"", "", "\xff", "\xe8\xaa", "z"}).Draw(t, "end")
		got, err := IsText(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || got != utf8.ValidString(text) {
			t.Fatalf("%q: %v %v", text, got, err)
		}
	})
	long := strings.Repeat("é", textStep) // a character on each border between two steps, or none
	for _, text := range []string{long, "a" + long} {
		if ok, err := IsText(strings.NewReader(text)); !ok || err != nil {
			t.Errorf("a long text: %v %v", ok, err)
		}
	}
}
