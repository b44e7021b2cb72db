package main

import (
	"cmp"
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
	tables  []string
	notes   []string
	rates   []rateCell
	values  map[string]float64 // of sqgate and the others, by "cell/side", for the targets
	figures []*figure
}

// rateCell is a cell of rates, for the plot.
type rateCell struct {
	title   string
	results []result
}

// record remembers a value for the targets.
func (r *report) record(cell, side string, value float64) {
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

// table is a table in Markdown.
type table struct{ strings.Builder }

func newTable(head ...string) *table {
	t := &table{}
	t.add(head...)
	t.add(slices.Repeat([]string{"---"}, len(head))...)
	return t
}

func (t *table) add(row ...string) { fmt.Fprintf(t, "| %s |\n", strings.Join(row, " | ")) }

// show adds a table to the report, and prints it at once.
func (r *report) show(title string, t *table) {
	text := "### " + title + "\n\n" + t.String()
	r.tables = append(r.tables, text)
	fmt.Println(text)
}

// showRates adds a cell of rates: a row for each side, with the ratio of sqgate
// to each binary beside it.
func (b *bench) showRates(cell, title string, results []result) {
	others := b.binaries[1:]
	head := []string{"side", "a second", "of the turns", "to the first", "p50", "p99", "errors"}
	for _, o := range others {
		head = append(head, "to "+o.name)
	}
	t := newTable(head...)
	for _, x := range results {
		ratio := "-"
		if first := results[0].rate.median; first > 0 {
			ratio = inRatio(x.rate.median / first)
		}
		row := []string{x.name, inRate(x.rate.median), inRate(x.rate.low) + " to " + inRate(x.rate.high), ratio, inSeconds(x.p50.median), inSeconds(x.p99.median), fmt.Sprint(x.errors)}
		for _, o := range others {
			row = append(row, ratioTo(results, x, o.name))
		}
		t.add(row...)
		b.recordRates(cell, x)
	}
	b.show(title, t)
	b.rates = append(b.rates, rateCell{title, results})
}

func (b *bench) recordRates(cell string, x result) {
	b.record(cell, x.name, x.rate.median)
	b.record(cell+"-p99", x.name, x.p99.median)
	if x.binary != "" {
		b.compare(cell, cmp.Or(x.detail, "answers a second"), aRate, x.binary, x.rates...)
	}
	if x.errors > 0 {
		b.note("%s, %s: %d errors, the first: %v", cell, x.name, x.errors, x.firstErr)
	}
}

// ratioTo is the ratio of a result of sqgate to that of another binary which was
// started in the same way.
func ratioTo(all []result, of result, other string) string {
	if of.binary != underTest {
		return ""
	}
	for _, x := range all {
		if x.binary != other || x.detail != of.detail {
			continue
		}
		if ratios := ratiosOf(of.rates, x.rates); len(ratios) > 0 {
			return strings.TrimSpace(aRatio.printed(spreadOf(ratios)) + " " + aRate.mark(ratios))
		}
	}
	return "-"
}

// write makes RESULTS.md and results.svg.
func (b *bench) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := b.text(time.Now())
	if err := os.WriteFile(filepath.Join(dir, "results.svg"), plot(b.rates), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "RESULTS.md"), []byte(text), 0o644); err != nil {
		return err
	}
	log.Printf("written to %s", filepath.Join(dir, "RESULTS.md"))
	return nil
}

// text is RESULTS.md. Its summary is printed as well.
func (b *bench) text(now time.Time) string {
	var t strings.Builder
	fmt.Fprintf(&t, "# Results of the benchmark\n\nMade by `go run -C bench .` on %s.\n\n", now.UTC().Format("2 January 2006, 15:04 MST"))
	for _, v := range b.versions() {
		fmt.Fprintf(&t, "- %s\n", v)
	}
	fmt.Fprintf(&t, "\nEach side has %d turns, which take %v together. Shown are the median of the turns, and the lowest to the highest beside it. %s\n\n", turnsEach, b.time, method)
	summary := "## Targets\n\n" + b.targets() + "\n"
	for _, o := range b.binaries[1:] {
		summary += "## " + underTest + " beside " + o.name + "\n\n" + comparisonMethod + "\n\n" + b.comparison(o.name) + "\n"
	}
	fmt.Println(summary)
	t.WriteString(summary + "![requests a second](results.svg)\n\n## Measured\n\n" + strings.Join(b.tables, "\n"))
	if len(b.notes) > 0 {
		t.WriteString("\n## Notes\n\n")
		for _, n := range b.notes {
			fmt.Fprintf(&t, "- %s\n", n)
		}
	}
	return t.String()
}

const method = "Client and servers share the machine. The client keeps connections alive where the server allows it, " +
	"which SQ itself does not. sqgate and nginx write their log of requests to a file, as they do by default; HAProxy and Caddy write none."

const comparisonMethod = "The ratio is taken turn by turn, and its median is shown with the lowest and the highest. " +
	"For rates more is better; for times and memory less is."

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

// inRatio prints how many times another value a value is.
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

func inMB(bytes float64) string { return fmt.Sprintf("%.1f MB", bytes/(1<<20)) }
