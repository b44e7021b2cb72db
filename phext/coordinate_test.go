package phext

import (
	"errors"
	"fmt"
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
		"", "1", "1.1.1/1.1.1/1.1", "1.1.1/1.1.1/1.1.1.1", "1.1.1/1.1.1/1.1.", ".1.1.1/1.1.1/1.1.1", "1.1.1//1.1.1/1.1.1",
		"0.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1000", "4294967297.1.1/1.1.1/1.1.1", "18446744073709551617.1.1/1.1.1/1.1.1",
		"-1.1.1/1.1.1/1.1.1", "+1.1.1/1.1.1/1.1.1", " 1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.1 ", "1.1.1/1.1.1/1.1.x", "１.1.1/1.1.1/1.1.1",
	} {
		if c, err := ParseCoordinate(s); !errors.Is(err, ErrCoordinate) {
			t.Errorf("%q: %v, %v", s, c, err)
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
			if p := Parse(file); p.Len() != 2 || p.Scrolls()[0].At != a || p.Scrolls()[1].At != b {
				t.Fatalf("%q holds %v", file, p.Scrolls())
			}
		}
	})
}

func FuzzParseCoordinate(f *testing.F) {
	f.Add("1.1.1/1.1.1/1.1.1")
	f.Add("999;999;999;999;999;999;999;999;999")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCoordinate(s)
		if err != nil {
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
