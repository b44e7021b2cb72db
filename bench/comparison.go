package main

import "slices"

// quantity is what kind of value a figure has.
type quantity struct {
	print    func(float64) string
	moreWins bool   // a rate, and not a time or a size
	worse    string // what sqgate is called where it has a worse value than another
}

var (
	aRate = quantity{inRate, true, "slower"}
	aTime = quantity{inSeconds, false, "slower"}
	aSize = quantity{inMB, false, "larger"}
	// aRatio only says how to print one.
	aRatio = quantity{print: inRatio}
)

// tolerance is the part by which sqgate may be worse than another without being marked.
const tolerance = .05

// figure is one thing that was measured of every sqgate binary.
type figure struct {
	cell, what string
	quantity
	values map[string][]float64 // by binary: the values of its turns, in their order
}

// compare records values of a binary for the comparison with the others.
func (r *report) compare(cell, what string, q quantity, binary string, values ...float64) {
	i := slices.IndexFunc(r.figures, func(f *figure) bool { return f.cell == cell && f.what == what })
	if i < 0 {
		i = len(r.figures)
		r.figures = append(r.figures, &figure{cell, what, q, map[string][]float64{}})
	}
	f := r.figures[i]
	f.values[binary] = append(f.values[binary], values...)
}

// ratiosOf are the ratios of values to others, turn by turn: what has the same
// index was measured at nearly the same time. A turn in which the other has no
// value has no ratio.
func ratiosOf(values, others []float64) (ratios []float64) {
	for i := range min(len(values), len(others)) {
		if others[i] > 0 {
			ratios = append(ratios, values[i]/others[i])
		}
	}
	return ratios
}

// With fewTurns or less, "in every turn" says nothing, so it is left out.
const fewTurns = 2

// mark says whether sqgate is worse than another by more than the tolerance, by
// the median of its ratios to the other, and whether it was worse in every turn.
func (q quantity) mark(ratios []float64) string {
	s := spreadOf(ratios)
	worse, always := s.median > 1+tolerance, s.low > 1
	if q.moreWins {
		worse, always = s.median < 1-tolerance, s.high < 1
	}
	switch {
	case worse && always && len(ratios) > fewTurns:
		return "**" + q.worse + ", in every turn**"
	case worse:
		return "**" + q.worse + "**"
	}
	return ""
}

// comparison is a table of sqgate beside another binary.
func (r *report) comparison(other string) string {
	t := newTable("cell", "figure", other, underTest, underTest+" to "+other, "more than 5 % worse")
	for _, f := range r.figures {
		ours, theirs := f.values[underTest], f.values[other]
		ratios := ratiosOf(ours, theirs)
		if len(ratios) == 0 {
			continue
		}
		t.add(f.cell, f.what, f.print(spreadOf(theirs).median), f.print(spreadOf(ours).median), aRatio.printed(spreadOf(ratios)), f.mark(ratios))
	}
	return t.String()
}

// printed shows a spread, without its ends if all values are the same.
func (q quantity) printed(s spread) string {
	if s.low == s.high {
		return q.print(s.median)
	}
	return s.in(q.print)
}
