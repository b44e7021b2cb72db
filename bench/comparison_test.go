package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRatiosAreTakenTurnByTurn(t *testing.T) {
	for name, x := range map[string]struct{ values, others, want []float64 }{
		"a machine that slows down": {[]float64{90, 45, 9}, []float64{100, 50, 10}, []float64{.9, .9, .9}},
		"a turn without an answer":  {[]float64{90, 45}, []float64{0, 50}, []float64{.9}},
		"fewer turns":               {[]float64{50}, []float64{100, 1}, []float64{.5}},
		"nothing to compare with":   {[]float64{90}, nil, nil},
	} {
		if got := ratiosOf(x.values, x.others); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMoreThanFivePercentWorseIsMarked(t *testing.T) {
	for name, x := range map[string]struct {
		q      quantity
		ratios []float64
		want   string
	}{
		"as fast":                {aRate, []float64{1, .9, 1.1}, ""},
		"4 % slower":             {aRate, []float64{.96, .95, .97}, ""},
		"6 % slower":             {aRate, []float64{.94, .9, 1.01}, "**slower**"},
		"6 % slower, always":     {aRate, []float64{.94, .9, .99}, "**slower, in every turn**"},
		"6 % slower, once":       {aRate, []float64{.94}, "**slower**"},
		"faster":                 {aRate, []float64{2, 1.5, 3}, ""},
		"takes 6 % longer":       {aTime, []float64{1.06, .9, 1.2}, "**slower**"},
		"takes half of the time": {aTime, []float64{.5, .4, .6}, ""},
		"larger, always":         {aSize, []float64{1.2, 1.1, 1.3}, "**larger, in every turn**"},
	} {
		if got := x.q.mark(x.ratios); got != x.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// withBefore is a run that has an sqgate from before beside it.
func withBefore(t *testing.T) *bench {
	b := &bench{binaries: []binary{{underTest, "/bin/false"}}, time: time.Second}
	if err := b.addBeside("before=/bin/false"); err != nil {
		t.Fatal(err)
	}
	return b
}

func loads(rates ...float64) (all []load) {
	for _, r := range rates {
		all = append(all, load{rate: r})
	}
	return all
}

func TestSqgateIsComparedWithWhatWasStartedInTheSameWay(t *testing.T) {
	b := withBefore(t)
	sideFor := func(of, detail string) side { return side{name: sideOf(of, detail), binary: of, detail: detail} }
	b.showRates("update-16", "update", []result{
		resultOf(side{name: direct}, loads(50, 50, 50)),
		resultOf(sideFor(underTest, "fsync off"), loads(90, 90, 90)),
		resultOf(sideFor("before", "fsync off"), loads(100, 100, 100)),
		resultOf(sideFor(underTest, "fsync batch"), loads(80, 80, 80)),
		resultOf(sideFor("before", "fsync batch"), loads(80, 80, 80)),
	})
	b.compare("children", "memory", aSize, underTest, 3<<20)
	text := strings.Join(b.tables, "") + b.comparison("before")
	for _, want := range []string{
		"| sqgate, fsync off | 90.0 | 90.0 to 90.0 | 1.80 | - | - | 0 | 0.90 **slower, in every turn** |",
		"| sqgate, fsync batch | 80.0 | 80.0 to 80.0 | 1.60 | - | - | 0 | 1.00 |",
		"| update-16 | fsync off | 100 | 90.0 | 0.90 | **slower, in every turn** |",
		"| update-16 | fsync batch | 80.0 | 80.0 | 1.00 |  |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "| children |") {
		t.Errorf("compared with nothing:\n%s", text)
	}
}

func TestBesideNamesABinary(t *testing.T) {
	for value, ok := range map[string]bool{"before=/x/sqgate": true, "before": false, "=/x": false, "before=": false, "sqgate=/x": false} {
		b := &bench{}
		if err := b.addBeside(value); (err == nil) != ok || ok && b.binaries[0] != (binary{"before", "/x/sqgate"}) {
			t.Errorf("%s: %v, %v", value, err, b.binaries)
		}
	}
}

func TestOnlyChosenSidesTakePart(t *testing.T) {
	b := &bench{}
	if !b.wants("nginx") {
		t.Error("without -sides, not all take part")
	}
	if err := b.chooseSides("^sqgate"); err != nil {
		t.Fatal(err)
	}
	if !b.wants("sqgate, fsync off") || b.wants("nginx") {
		t.Error("-sides chooses others")
	}
	if err := b.chooseSides("("); err == nil {
		t.Error("no error")
	}
}
