package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// screenWidth is the width that no line of a table exceeds, in characters.
const screenWidth = 80

// gap is between two columns, and indent before what a row has too much for its line.
const (
	gap    = "  "
	indent = "    "
)

// table is what commands print for people, in columns. Its rows begin with the head.
type table struct {
	rows [][]string
	// prose says that the last column is a text, which goes on in further lines if it
	// is too long. In other tables it is the first column that can be too long for its
	// width: it then has a line of its own, so that it can be copied.
	prose bool
	// whole keeps long words in one piece, even if their line is then too long: paths,
	// which are copied.
	whole bool
}

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = strings.Map(printable, cells[i])
	}
	t.rows = append(t.rows, cells)
}

// printable replaces what would change the screen: clients choose the names of phexts.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

func (t *table) write(out io.Writer) error {
	var text strings.Builder
	widths := t.widths()
	for _, row := range t.rows {
		line, last := "", len(row)-1
		if utf8.RuneCountInString(row[0]) > widths[0] {
			text.WriteString(strings.Join(fold(row[0], screenWidth, screenWidth, true), "\n") + "\n")
			row = append([]string{""}, row[1:]...)
		}
		for i, cell := range row[:last] {
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + gap
		}
		lines := fold(row[last], screenWidth-utf8.RuneCountInString(line), screenWidth-len(indent), !t.whole)
		for i, more := range lines {
			if i > 0 {
				line = indent
			}
			text.WriteString(strings.TrimRight(line+more, " ") + "\n")
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// widths are those of the columns. The first is as wide as the others allow.
func (t *table) widths() []int {
	widths, others := make([]int, len(t.rows[0])), 0
	for i := range widths {
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		if i > 0 {
			others += len(gap) + widths[i]
		}
	}
	if !t.prose {
		widths[0] = min(widths[0], max(screenWidth-others, utf8.RuneCountInString(t.rows[0][0])))
	}
	return widths
}

// fold breaks a text into lines of at most the given widths, at blanks. Words that are
// longer than a line are cut, or else have a line of their own. The first line is empty
// if no word fits into it.
func fold(text string, first, rest int, cut bool) []string {
	lines, left := []string{""}, first
	for word := range strings.SplitSeq(text, " ") {
		runes := []rune(word)
		for cut && len(runes) > rest {
			n := max(0, min(left, len(runes)))
			lines[len(lines)-1] += string(runes[:n])
			runes, lines, left = runes[n:], append(lines, ""), rest
		}
		if len(runes) > left && (len(lines) == 1 || left < rest) {
			lines, left = append(lines, ""), rest
		}
		lines[len(lines)-1] += string(runes) + " "
		left -= len(runes) + 1
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return lines
}

// ago says how long ago a time was, or how far ahead it is.
func ago(at, now time.Time) string {
	d := now.Sub(at)
	if d < 0 {
		return "in " + roughly(round(-d))
	}
	if d < time.Second {
		return "now"
	}
	if d > 60*24*time.Hour {
		return at.UTC().Format(time.DateOnly)
	}
	return roughly(d) + " ago"
}

// round rounds to the second or, from a minute on, to the minute: what was just set to
// end in 24 h is not to end in 23 h.
func round(d time.Duration) time.Duration {
	if d = d.Round(time.Second); d < time.Minute {
		return d
	}
	return d.Round(time.Minute)
}

func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// moment is the time of an event, as --at takes it: not before the event, so that its
// result is there at that moment.
func moment(at time.Time) string {
	return at.Add(time.Millisecond - 1).UTC().Format("2006-01-02T15:04:05.000Z")
}

// fieldOrder is the order in which the fields of an answer are printed: who the tenant
// is, its state, what it uses of what it may, what it did, who else may come in, and
// keys. Others follow, sorted by name.
var fieldOrder = [...]string{
	"tenant_id", "status", "admin_email", "created_at", "incarnation", "data_dir",
	"storage_used_mb", "storage_used_bytes", "quota_mb", "phexts", "max_phexts",
	"requests_per_minute", "reads_per_minute", "writes_per_minute", "lists_per_minute", "calls_per_day",
	"api_calls_today", "last_active", "child", "writers", "public",
	"path_key_fingerprint", "api_key", "path_key", "previous_key_expires", "warning",
	"files", "archive", "archives",
}

// unlimited are the limits for which 0, or nothing, means that there is none.
var unlimited = [...]string{"quota_mb", "requests_per_minute", "reads_per_minute", "writes_per_minute", "lists_per_minute", "calls_per_day"}

// fieldText is the value of a field, for people.
func fieldText(name string, value any, now time.Time) string {
	switch v := value.(type) {
	case nil:
		return "-"
	case json.Number:
		return v.String()
	case []any:
		return strings.Trim(fmt.Sprint(v), "[]")
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return fmt.Sprintf("%s (%s)", ago(at, now), at.UTC().Format(time.RFC3339))
		}
		if v == "" {
			return "-"
		}
	}
	return fmt.Sprint(value)
}
