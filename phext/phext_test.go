package phext

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// texts draws scrolls that legacy SQ can hold: not empty, without a delimiter.
func texts() *rapid.Generator[string] {
	return rapid.StringOf(rapid.RuneFrom([]rune("ab é\n\"\\\t🔱\r\x00"))).Filter(func(s string) bool { return s != "" })
}

func coordinates() *rapid.Generator[Coordinate] {
	return rapid.Custom(func(t *rapid.T) Coordinate {
		var c Coordinate
		for i := range c {
			c[i] = rapid.OneOf(rapid.Uint32Range(1, 3), rapid.Uint32Range(Min, Max)).Draw(t, "number")
		}
		return c
	})
}

func phexts() *rapid.Generator[*Phext] {
	return rapid.Custom(func(t *rapid.T) *Phext {
		var scrolls []Scroll
		for range rapid.IntRange(0, 12).Draw(t, "scrolls") {
			scrolls = append(scrolls, Scroll{coordinates().Draw(t, "at"), texts().Draw(t, "text")})
		}
		return Of(scrolls)
	})
}

func TestParseUndoesRender(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := phexts().Draw(t, "phext")
		file := p.Render()
		if len(file) != p.RenderedSize() {
			t.Fatalf("RenderedSize is %d, the file has %d bytes", p.RenderedSize(), len(file))
		}
		back := Parse(file)
		if fmt.Sprint(back.Scrolls()) != fmt.Sprint(p.Scrolls()) {
			t.Fatalf("parsed %q, rendered %q", back.Scrolls(), p.Scrolls())
		}
	})
}

func TestWithIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, at := phexts().Draw(t, "phext"), coordinates().Draw(t, "at")
		if n := p.Len(); n > 0 && rapid.Bool().Draw(t, "existing") {
			at = p.Scrolls()[rapid.IntRange(0, n-1).Draw(t, "which")].At
		}
		before := p.Render()
		text := rapid.OneOf(texts(), rapid.Just("")).Draw(t, "text")
		q := p.With(at, text)
		if got, ok := q.Select(at); got != text || ok != (text != "") {
			t.Fatalf("selected %q, %v after writing %q", got, ok, text)
		}
		if p.Render() != before {
			t.Fatal("With changed its receiver")
		}
		for _, s := range p.Scrolls() {
			if got, _ := q.Select(s.At); s.At != at && got != s.Text {
				t.Fatalf("another scroll, at %v, became %q", s.At, got)
			}
		}
		if fmt.Sprint(Parse(q.Render()).Scrolls()) != fmt.Sprint(q.Scrolls()) {
			t.Fatal("the file of the result does not parse to it")
		}
	})
}

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
		for _, s := range []string{spelt.String(), c.String(), c.URL()} {
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

// TestPastTheLastNumber is what libphext makes of a file that counts past 999:
// it stays there, and the later text takes the place of the earlier.
func TestPastTheLastNumber(t *testing.T) {
	p := Parse(strings.Repeat("\x17", Max-1) + "first\x17second")
	if p.Len() != 1 || p.Scrolls()[0].Text != "second" || p.Scrolls()[0].At[8] != Max {
		t.Errorf("holds %v", p.Scrolls())
	}
	back := Parse(strings.Repeat("\x18", Max-1) + "\x17two\x18one")
	if got := back.Scrolls(); len(got) != 2 || got[0].Text != "one" || got[1].Text != "two" {
		t.Errorf("a number that goes back holds %v", got)
	}
}

func TestSummaries(t *testing.T) {
	p := Parse("one\nmore\x17\"q\"\\\t\x18")
	if got, want := p.Textmap(), "* 1.1.1/1.1.1/1.1.1: one...\n* 1.1.1/1.1.1/1.1.2: \"q\"\\\t\n"; got != want {
		t.Errorf("textmap %q, want %q", got, want)
	}
	if got, want := Parse("").Textmap(), "* 1.1.1/1.1.1/1.1.1: \n"; got != want {
		t.Errorf("textmap of nothing %q", got)
	}
	// The checksums are recorded: "seeded plain" and "seeded empty".
	if got := Parse("one\x17two\x18three\x19four").Checksum(); got != "f66d7e0c8982d5eaa4be343b76de8276" {
		t.Errorf("checksum %s", got)
	}
	if got := Parse("\x01\x01").Checksum(); got != "99aa06d3014798d86001c324468d497f" {
		t.Errorf("checksum of nothing %s", got)
	}
}

func TestExportIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := phexts().Draw(t, "phext")
		var back []struct{ Coord, Scroll string }
		if err := json.Unmarshal([]byte(p.JSON()), &back); err != nil {
			t.Fatal(err)
		}
		for i, s := range p.Scrolls() {
			if back[i].Coord != s.At.String() || back[i].Scroll != s.Text {
				t.Fatalf("entry %d is %q, the scroll %q", i, back[i], s)
			}
		}
	})
}

// TestDeltaBringsAClientUpToDate applies what delta answers to what a client
// has, and expects the client to have everything.
func TestDeltaBringsAClientUpToDate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		server, client := phexts().Draw(t, "server"), phexts().Draw(t, "client")
		for _, s := range server.Scrolls() { // some in common
			if rapid.Bool().Draw(t, "common") {
				client = client.With(s.At, s.Text)
			}
		}
		manifest := map[Coordinate]string{}
		for _, line := range strings.Split(strings.TrimSpace(client.Manifest()), "\n") {
			if at, hash, ok := strings.Cut(line, ": "); ok {
				c, err := ParseCoordinate(at)
				if err != nil {
					t.Fatal(err)
				}
				manifest[c] = hash
			}
		}
		for _, s := range Parse(server.Delta(manifest)).Scrolls() {
			if s.Text == Missing {
				s.Text = ""
			}
			client = client.With(s.At, s.Text)
		}
		want := server
		if len(server.Scrolls()) == 0 { // SQ counts an empty scroll at the origin as there
			if text, ok := client.Select(Origin()); ok {
				want = want.With(Origin(), text)
			}
		}
		if client.Render() != want.Render() {
			t.Fatalf("the client has %q, the server %q", client.Scrolls(), server.Scrolls())
		}
	})
}

// TestWhere are recorded answers ("whole-phext reads").
func TestWhere(t *testing.T) {
	for _, c := range []struct {
		text     string
		limit    uint64
		checksum bool
		want     string
	}{
		{"short", 100, false, "Calculated coordinate 1.1.1/1.1.1/1.1.1 for input (algo=xor, limit=100)."},
		{"some longer text that is hashed", 100, true, "Calculated coordinate 117.119.420/674.979.379/726.703.635 for input (algo=checksum, limit=100)."},
		{"a\x17bb\x18ccc", 1, false, "Calculated coordinate 0.0.0/0.0.0/0.3.3 for input (algo=xor, limit=1)."},
	} {
		if got := Where(c.text, c.limit, c.checksum); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// TestRealPhexts reads phexts that people wrote. The size is that of the file
// after real SQ had written it again: two of them have delimiters that lead
// nowhere, which SQ leaves out.
func TestRealPhexts(t *testing.T) {
	for name, want := range map[string]struct{ scrolls, size int }{
		"daily-minimum-temperatures-in-me": {370, 6478},
		"one-page-site":                    {14, 715078},
		"the-odyssey":                      {52, 706373},
		"tracer":                           {70, 15239},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".phext"))
		if err != nil {
			t.Fatal(err)
		}
		p := Parse(string(text))
		if file := p.Render(); p.Len() != want.scrolls || len(file) != want.size || Parse(file).Render() != file {
			t.Errorf("%s: %d scrolls, rendered with %d bytes; want %d and %d", name, p.Len(), len(file), want.scrolls, want.size)
		}
		if last := p.Scrolls()[p.Len()-1]; !strings.Contains(string(text), last.Text) {
			t.Errorf("%s: the last scroll is not in the file", name)
		}
	}
}

var delimitersText = string(delimiters[:])

// TestSequenceAgreesWithParse holds the reading to the letter against the useful one.
func TestSequenceAgreesWithParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab"+delimitersText))).Draw(t, "text")
		if got, want := Of(Sequence(text)).Render(), Parse(text).Render(); got != want {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("one\x17two\x18three\x19four")
	f.Add("\x01\x1f\x1e\x1d\x1c\x1a\x19\x18\x17")
	f.Add("caf\xe9\x17")
	f.Fuzz(func(t *testing.T, text string) {
		p := Parse(text)
		file := p.Render()
		if len(file) != p.RenderedSize() || len(file) > len(text) {
			t.Fatalf("%d bytes rendered, %d expected, from %d", len(file), p.RenderedSize(), len(text))
		}
		if again := Parse(file); again.Render() != file || again.Textmap() != p.Textmap() {
			t.Fatalf("%q is not stable", file)
		}
		if !json.Valid([]byte(p.JSON())) {
			t.Fatalf("not JSON: %q", p.JSON())
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

// BenchmarkParse shows that the time grows as the file does.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		file := strings.Repeat(strings.Repeat("x", 200)+"\x17", 900)
		file = strings.Repeat(file+"\x18", n/900+1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				Parse(file)
			}
		})
	}
}
