package duration

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "90m": 90 * time.Minute, "1d": day, "2w": 14 * day, "1w1d1h": 8*day + time.Hour, "1.5d": 36 * time.Hour, "-1d": -day, "1h30m": 90 * time.Minute,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "d", "1 d", "1D", "1x", "tomorrow", "999999999999d", "d1"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

// TestString: what is printed is read again.
func TestString(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "7d": week, "90d": 90 * day, "1d": day, "36h": 36 * time.Hour, "15m": 15 * time.Minute, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "-24h": -day,
	} {
		if got := String(d); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if back, err := Parse(want); err != nil || back != d {
			t.Errorf("%s is read as %v %v", want, back, err)
		}
	}
}
