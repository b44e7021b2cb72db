package phext

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEverySpellingOfACoordinate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := coordinates().Draw(t, "coordinate")
		var spelt strings.Builder
		for i, n := range c {
			if i > 0 {
				spelt.WriteByte(rapid.SampledFrom([]byte("./;")).Draw(t, "separator"))
			}
			fmt.Fprintf(&spelt, "%0*d", rapid.IntRange(1, 5).Draw(t, "width"), n)
		}
		for _, s := range []string{spelt.String(), c.String(), strings.ReplaceAll(c.String(), "/", ";")} {
			if got, err := ParseCoordinate(s); err != nil || got != c {
				t.Fatalf("%q: %v, %v", s, got, err)
			}
		}
	})
}

func TestNotCoordinates(t *testing.T) {
	for _, s := range []string{
		"", ".", "1.", "1.1.1/", "1..1", "1.1.1/1.1.1/1.1.1.1", "1.1000", "1.1.0", "1.1.1/1.1.1/1.1.", ".1.1.1/1.1.1/1.1.1", "1.1.1//1.1.1/1.1.1",
		"0.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1000", "4294967297.1.1/1.1.1/1.1.1", "18446744073709551617.1.1/1.1.1/1.1.1",
		"-1.1.1/1.1.1/1.1.1", "+1.1.1/1.1.1/1.1.1", " 1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1 ", "1.1.1/1.1.1/1.1.x", "１.1.1/1.1.1/1.1.1",
	} {
		if c, err := ParseCoordinate(s); !errors.Is(err, ErrCoordinate) {
			t.Errorf("%q: %v, %v", s, c, err)
		}
	}
}

// TestShortCoordinates has what SQ makes of them (measured on 0.6.0, and recorded in
// "short, dated and zero coordinates").
func TestShortCoordinates(t *testing.T) {
	for s, want := range map[string]string{
		"3": "1.1.1/1.1.1/1.1.3", "1.2": "1.1.1/1.1.1/1.1.2", "2.3.5": "2.3.1/1.1.1/1.1.5", "2.3.5/7.11.13": "2.3.5/7.11.1/1.1.13",
		"2.3.5/7.11.13/17.19": "2.3.5/7.11.13/17.1.19", "1.1/1.1.1/1.1.1": "1.1.1/1.1.1/1.1.1", "42;1/1": "42.1.1/1.1.1/1.1.1",
		"1.1.1/1.1.1/42": "1.1.1/1.1.1/1.1.42", "0001.02": "1.1.1/1.1.1/1.1.2", "999": "1.1.1/1.1.1/1.1.999",
	} {
		if c, err := ParseCoordinate(s); err != nil || c.String() != want {
			t.Errorf("%s: %v, %v, want %s", s, c, err, want)
		}
	}
}

func TestNumbersOfAnySize(t *testing.T) {
	for s, want := range map[string]Coordinate{
		"2026.2.13": {2026, 2, 1, 1, 1, 1, 1, 1, 13}, "0": {1, 1, 1, 1, 1, 1, 1, 1, 0}, "1.2.3/4.5.6/7.8.1000": {1, 2, 3, 4, 5, 6, 7, 8, 1000},
		"4294967295": {1, 1, 1, 1, 1, 1, 1, 1, 4294967295}, "99999999999999999999999": {1, 1, 1, 1, 1, 1, 1, 1, 4294967295},
	} {
		c, ok := Numbers(s)
		_, err := ParseCoordinate(s)
		if !ok || c != want || !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v, %v, %v", s, c, ok, err)
		}
	}
}

func TestCompareIsTheFilesOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := coordinates().Draw(t, "a"), coordinates().Draw(t, "b")
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) {
			t.Fatal("not an order")
		}
		if a.Compare(b) < 0 {
			file := string(AppendDelimiters(nil, Origin(), a)) + "x" + string(AppendDelimiters(nil, a, b)) + "y"
			if p := slices.Collect(Parse(file).All()); len(p) != 2 || p[0].At != a || p[1].At != b {
				t.Fatalf("%q holds %v", file, p)
			}
		}
	})
}

func FuzzParseCoordinate(f *testing.F) {
	f.Add("1.1.1/1.1.1/1.1.1")
	f.Add("999;999;999;999;999;999;999;999;999")
	f.Add("2.3.5/7")
	f.Add("2026.02.13/0.1.1/4294967297.1.1")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCoordinate(s)
		if err != nil {
			if _, ok := Numbers(s); ok != errors.Is(err, ErrRange) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if again, err := ParseCoordinate(c.String()); err != nil || again != c || !c.Valid() {
			t.Fatalf("%q parses to %v", s, c)
		}
	})
}

func TestNext(t *testing.T) {
	for from, want := range map[string]string{
		"1.1.1/1.1.1/1.1.1":       "1.1.1/1.1.1/1.1.2",
		"1.1.1/1.1.1/1.1.999":     "1.1.1/1.1.1/1.2.1",
		"999.1.1/1.1.1/1.999.999": "999.1.1/1.1.1/2.1.1",
	} {
		at, err := ParseCoordinate(from)
		if err != nil {
			t.Fatal(err)
		}
		if next, ok := at.Next(); !ok || next.String() != want {
			t.Errorf("behind %s lies %s, %v: want %s", from, next, ok, want)
		}
	}
	last := Coordinate{999, 999, 999, 999, 999, 999, 999, 999, 999}
	if next, ok := last.Next(); ok {
		t.Errorf("behind the last lies %s", next)
	}
}
