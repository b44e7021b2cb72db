package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Sizes of the plot, in pixels.
const (
	plotWidth  = 900
	barLeft    = 200
	barRoom    = 560
	barHeight  = 18
	titleSpace = 34
	groupSpace = 14
)

// plot draws answers a second as bars, a group for each cell, with a line from
// the lowest to the highest turn. Each group has a scale of its own. It is
// logarithmic, since some sides differ by a factor of thousands.
func plot(cells []rateCell) []byte {
	var b bytes.Buffer
	height := groupSpace
	for _, c := range cells {
		height += titleSpace + len(c.results)*(barHeight+4) + groupSpace
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, height)
	y := groupSpace
	for _, c := range cells {
		fmt.Fprintf(&b, `<text x="10" y="%d" font-weight="bold">%s (answers a second, logarithmic)</text>`+"\n", y+titleSpace/2, html.EscapeString(c.title))
		y += titleSpace
		least, most := rangeOf(c.results)
		for _, r := range c.results {
			bar(&b, r, y, least, most)
			y += barHeight + 4
		}
		y += groupSpace
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// rangeOf returns the ends of a group's scale. The lower one is a power of ten.
func rangeOf(results []result) (least, most float64) {
	least, most = math.Inf(1), 1
	for _, r := range results {
		most = max(most, r.rate.high)
		if r.rate.low > 0 {
			least = min(least, r.rate.low)
		}
	}
	return math.Pow(10, math.Floor(math.Log10(min(least, most)/2))), most
}

func bar(b *bytes.Buffer, r result, y int, least, most float64) {
	at := func(v float64) float64 {
		if v <= least {
			return 0
		}
		return barRoom * math.Log(v/least) / math.Log(most/least)
	}
	fill := "#9aa7b5"
	if r.binary == underTest {
		fill = "#2f6fab"
	}
	middle := float64(y) + barHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%.0f" text-anchor="end">%s</text>`+"\n", barLeft-8, middle+4, html.EscapeString(r.name))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", barLeft, y, at(r.rate.median), barHeight, fill)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.0f" x2="%.1f" y2="%.0f" stroke="#222"/>`+"\n", barLeft+at(r.rate.low), middle, barLeft+at(r.rate.high), middle)
	fmt.Fprintf(b, `<text x="%.1f" y="%.0f">%s</text>`+"\n", barLeft+at(r.rate.high)+8, middle+4, inRate(r.rate.median))
}
