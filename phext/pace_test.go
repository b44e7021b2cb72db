package phext

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// Whatever takes long tells of its work piece by piece, and of all of it.
func TestLongWorkIsTold(t *testing.T) {
	const scrolls = 20_000
	long := strings.Repeat("some \"words\"\n", 8*pieceSize/14)
	short, past, trail := strings.Repeat("text\x17", 900)+"\x18", strings.Repeat("a\x17", scrolls), strings.Repeat("\x17", 8*pieceSize)
	short = strings.Repeat(short, scrolls/900)
	p, one := Parse(short), Parse(long)
	manifest := map[Coordinate]string{}
	for i := range uint32(scrolls) {
		manifest[Coordinate{1, 1, 1, 1, 1, 1, 2, 1 + i/900, 1 + i%900}] = ""
	}
	entries := Entries(func(yield func(Entry) bool) {
		for s := range p.All() {
			if !yield(Entry{At: s.At, Text: s.Text}) {
				return
			}
		}
	})
	for name, x := range map[string]struct {
		least int // of work, in bytes
		do    func(Pace)
	}{
		"parse a text":            {len(long), func(pace Pace) { _, _ = ParseWithin(long, pace, unlimited) }},
		"parse scrolls":           {len(short), func(pace Pace) { _, _ = ParseWithin(short, pace, unlimited) }},
		"parse delimiters":        {len(trail), func(pace Pace) { _, _ = ParseWithin(trail, pace, unlimited) }},
		"parse past the end":      {scrolls * perCompare, func(pace Pace) { _, _ = ParseWithin(past, pace, unlimited) }},
		"render":                  {len(short), func(pace Pace) { p.RenderPaced(pace) }},
		"render a text":           {len(long), func(pace Pace) { one.RenderPaced(pace) }},
		"of":                      {scrolls * perCompare, func(pace Pace) { OfPaced(slices.Collect(p.All()), pace) }},
		"toc":                     {len(short), func(pace Pace) { p.TextmapBy(p, pace) }},
		"export":                  {len(short), func(pace Pace) { p.JSONBy(p, pace) }},
		"export a text":           {len(long), func(pace Pace) { one.JSONBy(p, pace) }},
		"checksum":                {len(short), func(pace Pace) { p.ChecksumPaced(pace) }},
		"delta":                   {scrolls * perEntry, func(pace Pace) { p.Delta(nil, pace) }},
		"delta with a manifest":   {scrolls * perEntry, func(pace Pace) { new(Phext).Delta(manifest, pace) }},
		"entries":                 {len(short), func(pace Pace) { entries.JSON(pace) }},
		"size of entries":         {len(short), func(pace Pace) { entries.Size(pace) }},
		"where":                   {len(short), func(pace Pace) { Where(short, 1, false, pace) }},
		"where, one text":         {len(long), func(pace Pace) { Where(long, 1, false, pace) }},
		"where, by checksum":      {len(long) / 8, func(pace Pace) { Where(long, 1, true, pace) }},
		"count":                   {len(trail), func(pace Pace) { CountDistinct(trail, pace) }},
		"cost of counting":        {len(trail), func(pace Pace) { CountCost(trail, pace) }},
		"quoted length":           {len(long), func(pace Pace) { QuotedLen(long, pace) }},
		"quote":                   {len(long), func(pace Pace) { WriteQuoted(&Builder{Pace: pace}, long) }},
		"look for a delimiter":    {len(long), func(pace Pace) { pace.HasDelimiter(long) }},
		"look for something":      {len(long), func(pace Pace) { pace.Index(long, "none") }},
		"look whether it is text": {len(long), func(pace Pace) { pace.IsText(long) }},
		"compare with a file":     {len(long), func(pace Pace) { _, _ = one.Same(pace.Reader(strings.NewReader(long))) }},
	} {
		all, largest := 0, 0
		x.do(func(bytes int) { all, largest = all+bytes, max(largest, bytes) })
		if all < x.least || largest > pieceSize+perEntry {
			t.Errorf("%s: %d of %d, at most %d at once", name, all, x.least, largest)
		}
	}
}

func unlimited(int64) error { return nil }

// What is done piece by piece comes out as if it were done at once, also where a piece
// ends in the middle of a character, of a term or of a run of delimiters.
func TestPiecesChangeNothing(t *testing.T) {
	for _, around := range []string{"é", "日", "\U0001f600", "\xf0\x9f", "\x80\x80\x80\x80\x80\x80", "term", "\x17\x18\x17", "\"\n"} {
		for shift := range 9 {
			text := strings.Repeat("x", pieceSize-shift) + around + strings.Repeat(" y", 100) + around
			var pace Pace = func(int) {}
			if got, want := pace.IsText(text), utf8.ValidString(text); got != want {
				t.Errorf("%q: %v", around, got)
			}
			if got, want := pace.Index(text, around), strings.Index(text, around); got != want {
				t.Errorf("%q: at %d, not %d", around, got, want)
			}
			if got, want := pace.HasDelimiter(text), HasDelimiter(text); got != want {
				t.Errorf("%q: %v", around, got)
			}
			sum := xxh3.HashString128(text).Bytes()
			if got, want := pace.Checksum(text), hex.EncodeToString(sum[:]); got != want {
				t.Errorf("%q: %s, not %s", around, got, want)
			}
			var whole strings.Builder
			for rest := text; rest != ""; {
				at, width, escape := firstEscape(rest, &serdeEscapes)
				whole.WriteString(rest[:at] + escape)
				rest = rest[at+width:]
			}
			out := Builder{}
			writeEscaped(&out, text, &serdeEscapes)
			if out.String() != whole.String() || QuotedLen(text, pace) != whole.Len()+2 {
				t.Errorf("%q is escaped in another way", around)
			}
			at := 0
			for s := range Parse(text).All() {
				if end := at + strings.IndexFunc(text[at:]+"\x17", func(r rune) bool { return r < 0x80 && IsDelimiter(byte(r)) }); s.Text != text[at:end] {
					t.Errorf("%q is parsed in another way", around)
				} else {
					at = end + len(text[end:]) - len(strings.TrimLeft(text[end:], "\x17\x18"))
				}
			}
		}
	}
}
