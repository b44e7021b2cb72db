package proxy

import "testing"

// TestABodyIsBelievedWhenAPartHasCome: until then its memory doubles, so that what is only
// announced takes none.
func TestABodyIsBelievedWhenAPartHasCome(t *testing.T) {
	const largest = 64 << 20
	for _, test := range []struct {
		name            string
		have            int
		announced, want int64
	}{
		{"a large one at its beginning", 64 << 10, 58 << 20, 128 << 10},
		{"a sixteenth of it", 4 << 20, 58 << 20, 58<<20 + 1},
		{"a small one", 64 << 10, 1 << 20, 1<<20 + 1},
		{"of unknown length", 4 << 20, -1, 8 << 20},
		{"the largest", 32<<20 + 1, -1, largest + 1},
		{"more than was announced", 1 << 20, 1<<20 - 1, 2 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Memory comes in pages.
			if got := int64(cap(roomFor(make([]byte, test.have), test.announced, largest, nil))); got < test.want || got > test.want+8<<10 {
				t.Errorf("room for %d bytes, want %d", got, test.want)
			}
		})
	}
}
