// Package duration reads and writes durations with days and weeks, which the standard
// library does not know: 90m, 36h, 7d, 2w.
package duration

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

var longUnits = regexp.MustCompile(`(\d+(?:\.\d+)?)([dw])`)

// Parse is time.ParseDuration with the units d and w, days and weeks of 24-hour days.
func Parse(text string) (time.Duration, error) {
	d, err := time.ParseDuration(longUnits.ReplaceAllStringFunc(text, inHours))
	if err != nil {
		return 0, fmt.Errorf("%.80q is not a duration: use a number with s, m, h, d or w, such as 90m or 7d", text)
	}
	return d, nil
}

func inHours(text string) string {
	unit := day
	if strings.HasSuffix(text, "w") {
		unit = week
	}
	n, _ := strconv.ParseFloat(text[:len(text)-1], 64) // the pattern takes numbers alone
	return strconv.FormatFloat(n*unit.Hours(), 'f', -1, 64) + "h"
}

// Back reads a time, a date, or a duration back from now. A blank stands for a plus sign,
// which it becomes in a query.
func Back(text string, now time.Time) (t time.Time, ok bool) {
	if d, err := Parse(text); err == nil && d >= 0 {
		return now.Add(-d), true
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, strings.ReplaceAll(text, " ", "+")); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// String is a duration as Parse reads it and people write it: 7d and not 168h0m0s.
func String(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Flag is a duration as a flag of a command.
type Flag time.Duration

// Set reads the value of the flag.
func (f *Flag) Set(text string) error {
	d, err := Parse(text)
	if err == nil {
		*f = Flag(d)
	}
	return err
}

func (f *Flag) String() string { return String(time.Duration(*f)) }

// Type is what help calls the value.
func (*Flag) Type() string { return "duration" }
