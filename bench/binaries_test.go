package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSQAsLockedIsMeasuredWhereItIsNamed(t *testing.T) {
	b := &bench{sq: "one"}
	b.sqBuilds()
	if all := b.sqBuilds(); len(all) != 1 || all[0].side != direct || len(b.notes) != 1 || !strings.Contains(b.notes[0], "--locked") {
		t.Errorf("without: %v, %q", all, b.notes)
	}
	b = &bench{sq: "one", lockedSQ: "two"}
	if all := b.sqBuilds(); len(all) != 2 || all[1].side != asLocked || all[1].program != "two" || len(b.notes) != 0 {
		t.Errorf("with: %v, %q", all, b.notes)
	}
}

func TestVersionsNameTheLibraryOfEachBuild(t *testing.T) {
	dir := t.TempDir()
	b := &bench{root: dir, sq: program(t, dir, "sq", "libphext-0.3.3"), lockedSQ: program(t, dir, "sq-locked", "libphext-0.3.1")}
	want := []string{"SQ: 0.5.6 with libphext-0.3.3", "SQ as locked, by the Cargo.lock of its authors: 0.5.6 with libphext-0.3.1"}
	if all := b.sqVersions(); !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
	b.lockedSQ = ""
	if all := b.sqVersions(); !slices.Equal(all, want[:1]) {
		t.Errorf("%q", all)
	}
}

// program makes a stand-in for SQ that prints its version, and that contains a text.
func program(t *testing.T, dir, name, text string) string {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 0.5.6 # "+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsThatNameNoProgramAreNamed(t *testing.T) {
	dir := t.TempDir()
	b := &bench{sq: program(t, dir, "sq", ""), lockedSQ: filepath.Join(dir, "missing")}
	if err := b.findSQ(); err == nil || !strings.Contains(err.Error(), "-sq-locked") {
		t.Error(err)
	}
	b.lockedSQ = ""
	if err := b.findSQ(); err != nil || b.lockedSQ != "" {
		t.Errorf("%v, %q", err, b.lockedSQ)
	}
}

func TestNoAnswerAtAllIsTakenForOne(t *testing.T) {
	broken := errors.New("broken")
	for name, x := range map[string]struct {
		load   load
		rate   float64
		notes  int
		failed bool
	}{
		"answers":     {load{rate: 3, errors: 1, firstErr: broken}, 3, 0, false},
		"none":        {load{}, .05, 1, false},
		"only errors": {load{errors: 1, firstErr: broken}, 0, 0, true},
	} {
		var b bench
		l, err := b.atLeastOne("SQ", 20*time.Second, x.load)
		if l.rate != x.rate || len(b.notes) != x.notes || errors.Is(err, broken) != x.failed {
			t.Errorf("%s: %v, %v, %q", name, l.rate, err, b.notes)
		}
	}
}

// A turn that was cut off says nothing about a side that did not answer in it.
func TestACutOffTurnHasNoRate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b bench
	if r, err := b.ratedAlone(ctx, side{name: direct}, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestRatiosSayNeitherTooLittleNorTooMuch(t *testing.T) {
	for v, want := range map[float64]string{2.4: "2.40", .5: "0.50", .0027: "0.0027", 9473.7: "9474"} {
		if text := inRatio(v); text != want {
			t.Errorf("%v: %q", v, text)
		}
	}
}

func TestThePlotHasEverySide(t *testing.T) {
	picture := string(plot([]rateCell{
		{"in turns", []result{resultOf(side{name: direct}, []load{{rate: 200}}), resultOf(side{name: asLocked}, []load{{rate: .05}})}},
		{"select", []result{resultOf(side{name: "sqgate", binary: underTest}, []load{{rate: 9000}})}},
	}))
	for _, want := range []string{direct, asLocked, "sqgate", ">0.05<"} {
		if !strings.Contains(picture, want) {
			t.Errorf("%q is missing in\n%s", want, picture)
		}
	}
	if strings.Contains(picture, "NaN") || strings.Contains(picture, "Inf") {
		t.Error(picture)
	}
}

func TestTargetsForLargePhextsStandForEachBuild(t *testing.T) {
	var r report
	for cell, figures := range map[string][3]float64{"alternating": {9000, 225, .95}, "toc": {88, 17, .04}, "first-read": {.029, .054, 25}} {
		r.record(cell, "sqgate", figures[0])
		r.record(cell, direct, figures[1])
		r.record(cell, asLocked, figures[2])
	}
	text := r.targets()
	for _, want := range []string{
		"| at least 1,000 times SQ as its authors lock it | 9474 times | met |",
		"| at least 1,000 times the newest build of SQ | 40.00 times | not met |",
		"| at least 500 times SQ as its authors lock it | 2200 times | met |",
		"| at least 500 times the newest build of SQ | 5.18 times | not met |",
		"| under 30 ms, beside SQ as its authors lock it | 29 ms beside 25 s | met |",
		"| under 30 ms, beside the newest build of SQ | 29 ms beside 54 ms | met |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestTargetsOfABuildThatWasLeftOutAreNotMeasured(t *testing.T) {
	var r report
	r.record("toc", "sqgate", 88)
	r.record("toc", direct, 17)
	if text := r.targets(); !strings.Contains(text, "SQ as its authors lock it | not measured | - |") || !strings.Contains(text, "| 5.18 times | not met |") {
		t.Error(text)
	}
}

func TestNothingIsInfinitelyMoreThanNothing(t *testing.T) {
	if text, met := atLeast(1000)([]float64{9000, 0}); met || strings.Contains(text, "Inf") {
		t.Errorf("%q, %v", text, met)
	}
}

// An sqgate that is built with a tag on which no file depends is the same: its
// rate would say nothing.
func TestTagsWithoutEffectAreFound(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                 "module example.org/gate\n\ngo 1.26\n",
		"cmd/sqgate/main.go":     "package main\n\nimport _ \"example.org/gate/room\"\n\nfunc main() {}\n",
		"room/room.go":           "package room\n",
		"room/fast.go":           "//go:build !slow\n\npackage room\n",
		"room/slow.go":           "//go:build slow\n\npackage room\n",
		"elsewhere/elsewhere.go": "//go:build unused\n\npackage elsewhere\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	without, err := sourceFiles(t.Context(), dir, "")
	if err != nil || !strings.Contains(without, "fast.go") {
		t.Fatalf("%v, %q", err, without)
	}
	for tag, effect := range map[string]bool{"slow": true, "unused": false} {
		if with, err := sourceFiles(t.Context(), dir, tag); err != nil || (with != without) != effect {
			t.Errorf("%s: %v, %q", tag, err, with)
		}
	}
}
