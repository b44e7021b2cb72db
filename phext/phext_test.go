package phext

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// texts draws texts that a scroll in SQ can have: not empty and without delimiters.
func texts() *rapid.Generator[string] {
	return rapid.StringOf(rapid.RuneFrom([]rune("ab é\n\"\\\t🔱\r\x00\x16\x1b\x7f"))).Filter(func(s string) bool { return s != "" })
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
		if fmt.Sprint(slices.Collect(back.All())) != fmt.Sprint(slices.Collect(p.All())) {
			t.Fatalf("parsed %q, rendered %q", slices.Collect(back.All()), slices.Collect(p.All()))
		}
	})
}

func TestWithIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, at := phexts().Draw(t, "phext"), coordinates().Draw(t, "at")
		if n := p.Len(); n > 0 && rapid.Bool().Draw(t, "existing") {
			at = slices.Collect(p.All())[rapid.IntRange(0, n-1).Draw(t, "which")].At
		}
		before := p.Render()
		text := rapid.OneOf(texts(), rapid.Just("")).Draw(t, "text")
		q := p.With(at, text)
		for _, other := range []*Phext{p, q} {
			same, err := q.Same(iotest.OneByteReader(strings.NewReader(other.Render())))
			if err != nil || same != (q.Render() == other.Render()) {
				t.Fatalf("%q is the same as %q: %v, %v", q.Render(), other.Render(), same, err)
			}
		}
		if got, ok := q.Select(at); got != text || ok != (text != "") {
			t.Fatalf("selected %q, %v after writing %q", got, ok, text)
		}
		if p.Render() != before {
			t.Fatal("With changed its receiver")
		}
		for s := range p.All() {
			if got, _ := q.Select(s.At); s.At != at && got != s.Text {
				t.Fatalf("another scroll, at %v, became %q", s.At, got)
			}
		}
		if fmt.Sprint(slices.Collect(Parse(q.Render()).All())) != fmt.Sprint(slices.Collect(q.All())) {
			t.Fatal("the file of the result does not parse to it")
		}
	})
}

// TestPastTheLastNumber has a file that counts past 999. libphext stops there, so
// the later text replaces the earlier one.
func TestPastTheLastNumber(t *testing.T) {
	p := slices.Collect(Parse(strings.Repeat("\x17", Max-1) + "first\x17second").All())
	if len(p) != 1 || p[0].Text != "second" || p[0].At[8] != Max {
		t.Errorf("holds %v", p)
	}
	back := Parse(strings.Repeat("\x18", Max-1) + "\x17two\x18one")
	if got := slices.Collect(back.All()); len(got) != 2 || got[0].Text != "one" || got[1].Text != "two" {
		t.Errorf("a number that goes back holds %v", got)
	}
}

// TestRealPhexts reads phexts that people wrote. The wanted values were measured
// with SQ 0.5.6: its answer to checksum, the SHA-256 of its answer to toc, and the
// size of the file after SQ had written it. Some files have delimiters that lead to
// no scroll. SQ leaves those out.
func TestRealPhexts(t *testing.T) {
	for _, c := range []struct {
		name          string
		scrolls, size int
		checksum, toc string
	}{
		{"daily-minimum-temperatures-in-me", 370, 6478, "b810fdc3cdb0c4013e679676510548df", "81ab78ce79cea971c7ab80ecdc24a37684826246dc8ddc65ea3f9c29d50b5196"},
		{"one-page-site", 14, 715078, "2a244cc9c5d3e83a3d236f321e5fffdd", "555f0192cac40f85230385709fd606d956e75cb170b15374a6c1c77756ce3490"},
		{"the-odyssey", 52, 706373, "9dd0ca3402f6f9e6ee5ecdee786664f9", "7d1b2cc0b5a866d68146e74a82b43afaa94c689fa2fd51da88618e717f323833"},
		{"tracer", 70, 15239, "38e6744d67c5e709c8e58091c9e98155", "a02f451600e5158d52faeb4e06524e7edbbb9748eda517b07a1ddaff871b9916"},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", c.name+".phext"))
		if err != nil {
			t.Fatal(err)
		}
		p := Parse(string(text))
		if file := p.Render(); p.Len() != c.scrolls || len(file) != c.size || Checksum(file) != c.checksum {
			t.Errorf("%s: %d scrolls, rendered with %d bytes, checksum %s", c.name, p.Len(), len(file), Checksum(file))
		}
		if toc := fmt.Sprintf("%x", sha256.Sum256([]byte(p.Textmap()))); toc != c.toc {
			t.Errorf("%s: the SHA-256 of toc is %s", c.name, toc)
		}
	}
}

// TestRenderIsTheLastWord renders a rendered text again and expects no change.
func TestRenderIsTheLastWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("aé\n"+delimitersText))).Draw(t, "text")
		file := Parse(text).Render()
		if again := Parse(file).Render(); again != file || len(file) > len(text) {
			t.Fatalf("%q renders as %q, and that as %q", text, file, again)
		}
	})
}

var delimitersText = string(delimiters[:])

// TestSequenceAgreesWithParse compares the two ways to read a text.
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

// TestScrollsTakeTheirMemoryOnce when a file is parsed, and no more than they need.
func TestScrollsTakeTheirMemoryOnce(t *testing.T) {
	for text, n := range map[string]int64{"": 0, "\x17\x18": 0, "one\x17\x17two": 2, strings.Repeat(strings.Repeat("x\x17", 500)+"\x18", 200): 100_000, strings.Repeat("x\x17", 500) + strings.Repeat("y", 100_000): 501} {
		var asked []int64
		var p *Phext
		blocks := (n + blockSize - 1) / blockSize
		allocations := testing.AllocsPerRun(1, func() {
			asked = nil
			p, _ = ParseWithin(text, nil, func(bytes int64) error { asked = append(asked, bytes); return nil })
		})
		if !slices.Equal(asked, []int64{ScrollSize * n}) || p.Memory() != ScrollSize*n+blocks*blockMemory || allocations > float64(4+2*blocks) {
			t.Errorf("%.20q: asked for %v, has %d, in %v allocations", text, asked, p.Memory(), allocations)
		}
	}
}

// BenchmarkParse shows that the time is linear.
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

func TestOverwritten(t *testing.T) {
	sections := func(n int) string { return strings.Repeat("\x18", n) }
	at := Coordinate{1, 1, 1, 1, 1, 1, 1, Max, 1}
	for _, test := range []struct {
		text string
		want []Coordinate
	}{
		{"", nil},
		{"a\x17b\x18c", nil},
		{sections(998) + "a" + sections(1), nil},
		{sections(1500) + "a", nil},
		{sections(998) + "a" + sections(1) + "b", []Coordinate{at}},
		{sections(1199) + "a\x18b\x18c\x19x" + sections(999) + "y\x18z", []Coordinate{at, {1, 1, 1, 1, 1, 1, 2, Max, 1}}},
	} {
		p := Parse(test.text)
		if got := p.Overwritten(); !slices.Equal(got, test.want) {
			t.Errorf("%d bytes: %v, want %v", len(test.text), got, test.want)
		}
		if got := Parse(p.Render()).Overwritten(); got != nil {
			t.Errorf("%d bytes, rendered: %v", len(test.text), got)
		}
	}
}
