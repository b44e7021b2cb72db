package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report collects what was measured.
type report struct {
	tables []string
	notes  []string
	races  []raced
	values map[string]float64 // cell/side -> figure
}

// raced is a cell of rates, for the plot.
type raced struct {
	title   string
	results []result
}

// keep remembers a figure for the targets.
func (r *report) keep(cell, side string, value float64) {
	if r.values == nil {
		r.values = map[string]float64{}
	}
	r.values[cell+"/"+side] = value
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *report) noteOnce(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// table adds a table, and shows it at once.
func (r *report) table(title string, head []string, rows [][]string) {
	var t strings.Builder
	fmt.Fprintf(&t, "### %s\n\n", title)
	line(&t, head)
	line(&t, slices.Repeat([]string{"---"}, len(head)))
	for _, row := range rows {
		line(&t, row)
	}
	r.tables = append(r.tables, t.String())
	fmt.Println(t.String())
}

func line(t *strings.Builder, row []string) { fmt.Fprintf(t, "| %s |\n", strings.Join(row, " | ")) }

// race adds a cell of rates.
func (r *report) race(cell, title string, results []result) {
	var rows [][]string
	for _, x := range results {
		ratio := "-"
		if base := results[0].rate.median; base > 0 {
			ratio = inRatio(x.rate.median / base)
		}
		rows = append(rows, []string{x.side, inRate(x.rate.median), inRate(x.rate.low) + " to " + inRate(x.rate.high), ratio, inSeconds(x.p50.median), inSeconds(x.p99.median), fmt.Sprint(x.errors)})
		r.keep(cell, x.side, x.rate.median)
		r.keep(cell+"-p99", x.side, x.p99.median)
		if x.errors > 0 {
			r.note("%s, %s: %d errors, the first: %v", cell, x.side, x.errors, x.firstErr)
		}
	}
	r.table(title, []string{"side", "a second", "of the rounds", "to the first", "p50", "p99", "errors"}, rows)
	r.races = append(r.races, raced{title, results})
}

// write makes RESULTS.md and results.svg.
func (b *bench) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var t strings.Builder
	fmt.Fprintf(&t, "# Results of the benchmark\n\nMade by `go run -C bench .` on %s.\n\n", time.Now().UTC().Format("2 January 2006, 15:04 MST"))
	for _, v := range b.versions() {
		fmt.Fprintf(&t, "- %s\n", v)
	}
	fmt.Fprintf(&t, "\nEach side had its turn %d times for %v in all; the median of the turns stands first, and lowest to highest beside it. %s\n\n", rounds, b.time, method)
	t.WriteString("## Targets\n\n" + b.targets() + "\n![requests a second](results.svg)\n\n## Measured\n\n")
	t.WriteString(strings.Join(b.tables, "\n"))
	if len(b.notes) > 0 {
		t.WriteString("\n## Notes\n\n")
		for _, n := range b.notes {
			fmt.Fprintf(&t, "- %s\n", n)
		}
	}
	fmt.Println(b.targets())
	if err := os.WriteFile(filepath.Join(dir, "results.svg"), plot(b.races), 0o644); err != nil {
		return err
	}
	log.Printf("written to %s", filepath.Join(dir, "RESULTS.md"))
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), []byte(t.String()), 0o644)
}

const method = "Client and servers share the machine. The client keeps connections alive where the server allows it, " +
	"which SQ itself does not. sqgate and nginx write their log of requests to a file, as they do by default; HAProxy and Caddy write none."

// inRate prints answers a second.
func inRate(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// inRatio prints how many times another rate a rate is.
func inRatio(v float64) string {
	switch {
	case v < .01:
		return fmt.Sprintf("%.2g", v)
	case v < 100:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// inSeconds prints a time in the unit that fits.
func inSeconds(s float64) string {
	switch {
	case s <= 0:
		return "-"
	case s < .001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.3g ms", s*1e3)
	}
	return fmt.Sprintf("%.3g s", s)
}

func inMB(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }
