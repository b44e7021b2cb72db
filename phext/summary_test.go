package phext

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSummaries(t *testing.T) {
	p := Parse("one\nmore\x17\"q\"\\\t\x18")
	if got, want := p.Textmap(), "* 1.1.1/1.1.1/1.1.1: one...\n* 1.1.1/1.1.1/1.1.2: \"q\"\\\t\n"; got != want {
		t.Errorf("textmap %q, want %q", got, want)
	}
	if got, want := Parse("").Textmap(), "* 1.1.1/1.1.1/1.1.1: \n"; got != want {
		t.Errorf("textmap of nothing %q", got)
	}
	names := Of([]Scroll{{Origin(), `a "name"`}, {Coordinate{9, 9, 9, 9, 9, 9, 9, 9, 9}, "of nothing"}})
	if got, want := p.TextmapBy(names, nil), "* a \"name\": one...\n* 1.1.1/1.1.1/1.1.2: \"q\"\\\t\n"; got != want {
		t.Errorf("textmap by names %q, want %q", got, want)
	}
	if got, want := p.JSONBy(names, nil), `[
   { "coord": "a \"name\"", "scroll": "one\nmore" }
,   { "coord": "1.1.1/1.1.1/1.1.2", "scroll": "\"q\"\\\u0009" }
]
`; got != want {
		t.Errorf("JSON by names %q, want %q", got, want)
	}
	if got, want := Parse("caf\xe9\xef\xbf\xbd.").JSON(), "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.1\", \"scroll\": \"caf\ufffd\ufffd.\" }\n]\n"; got != want {
		t.Errorf("JSON of what is not UTF-8 %q, want %q", got, want)
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
		for i, s := range slices.Collect(p.All()) {
			if back[i].Coord != s.At.String() || back[i].Scroll != s.Text {
				t.Fatalf("entry %d is %q, the scroll %q", i, back[i], s)
			}
		}
	})
}

// TestDeltaBringsAClientUpToDate applies the answer to delta to a client's phext,
// which must then be equal to the server's.
func TestDeltaBringsAClientUpToDate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		server, client := phexts().Draw(t, "server"), phexts().Draw(t, "client")
		for s := range server.All() { // some in common
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
		for s := range Parse(server.Delta(manifest, nil)).All() {
			if s.Text == Missing {
				s.Text = ""
			}
			client = client.With(s.At, s.Text)
		}
		want := server
		if server.Len() == 0 { // SQ counts an empty scroll at the origin as there
			if text, ok := client.Select(Origin()); ok {
				want = want.With(Origin(), text)
			}
		}
		if client.Render() != want.Render() {
			t.Fatalf("the client has %q, the server %q", slices.Collect(client.All()), slices.Collect(server.All()))
		}
	})
}

// TestWhere has recorded answers ("whole-phext reads").
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
		if got := Where(c.text, c.limit, c.checksum, nil); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// large is a phext of 20,000 scrolls and 4 MB.
func large() *Phext {
	var scrolls []Scroll
	for i := range uint32(20_000) {
		text := fmt.Sprintf("scroll %d\n%s", i, strings.Repeat("x", 187))
		scrolls = append(scrolls, Scroll{Coordinate{1, 1, 1, 1, 1, 1, i/10_000 + 1, i/100%100 + 1, i%100 + 1}, text})
	}
	return Of(scrolls)
}

func TestInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, asked := phexts().Draw(t, "phext"), phexts().Draw(t, "asked")
		for s := range p.All() {
			if rapid.Bool().Draw(t, "common") {
				asked = asked.With(s.At, s.Text)
			}
		}
		find := p.InOrder()
		for s := range asked.All() {
			want, there := p.Select(s.At)
			if got, ok := find(s.At); got != want || ok != there {
				t.Fatalf("%v: %q, %v, want %q, %v", s.At, got, ok, want, there)
			}
		}
	})
}

func BenchmarkTextmap(b *testing.B) { benchmark(b, large().Textmap) }

func BenchmarkJSON(b *testing.B) { benchmark(b, large().JSON) }

func BenchmarkChecksum(b *testing.B) { benchmark(b, large().Checksum) }

func benchmark(b *testing.B, answer func() string) {
	b.ReportAllocs()
	for b.Loop() {
		answer()
	}
}

// TestADeltaIsOneList of what the phext and the manifest have: so it is counted as memory.
func TestADeltaIsOneList(t *testing.T) {
	p, manifest := large(), map[Coordinate]string{{1, 1, 1, 1, 1, 1, 1, 1, 999}: "", {2, 1, 1, 1, 1, 1, 1, 1, 1}: ""}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	delta := p.DeltaPhext(manifest, nil)
	runtime.ReadMemStats(&after)
	if delta.Len() != p.Len()+len(manifest) {
		t.Fatalf("%d scrolls", delta.Len())
	}
	if took := int64(after.TotalAlloc - before.TotalAlloc); took > delta.Memory()*3/2 {
		t.Errorf("%d bytes for %d", took, delta.Memory())
	}
}
