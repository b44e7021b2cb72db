package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// patience is for requests that take long.
const patience = 2 * time.Minute

// largeTimes is how often each of these cells is measured.
const largeTimes = 3

// cellScroll writes a large scroll and reads it.
func (b *bench) cellScroll(ctx context.Context) error {
	const size = 64 << 20
	body := []byte(strings.Repeat("sixteen letters\n", size/16))
	columns := []column{{"update", aTime}, {"first select", aTime}, {"next select", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "scroll", "One scroll of 64 MB, written and read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "small", "x")
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		get := g.request("GET", selectOf("large", 0), nil)
		return g.times(ctx, g.request("POST", updateOf("large", 0), body), get, get)
	})
	return err
}

// cellPhext reads a large phext of scrolls of 1 MB.
func (b *bench) cellPhext(ctx context.Context) error {
	text := textOf(200, numbered(1<<20))
	columns := []column{{"first select", aTime}, {"next select", aTime}, {"toc", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "phext", "A phext of 200 scrolls of 1 MB, read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", text)
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		return g.times(ctx, g.get(selectOf("large", 1)), g.get(selectOf("large", 2)), g.get("/api/v2/toc?p=large"))
	})
	return err
}

// cellSearch searches a large phext of sentences: first for a word that is in one
// scroll, which reads the phext, then for one that is in none, for one that is in
// all, and for two that are.
func (b *bench) cellSearch(ctx context.Context) error {
	text := textOf(250_000, sentences(800))
	columns := []column{{"first search", aTime}, {"no scroll", aTime}, {"every scroll", aTime}, {"two words in every scroll", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "search", "A phext of 250,000 scrolls, 200 MB, searched", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", text)
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		search := func(q string) []byte { return g.get("/api/v2/search?p=large&q=" + q) }
		return g.times(ctx, search("number77777"), search("nowhere"), search("scroll"), search("scroll+number"))
	})
	return err
}

// sentences makes scrolls of size bytes of words, with their number at the end.
func sentences(size int) func(i int) string {
	words := strings.Fields("The quick brown fox jumps over a lazy dog, and then it sleeps for the rest of this long and rather warm Summer day.")
	return func(i int) string {
		var b strings.Builder
		end := fmt.Sprintf("scroll number%d", i)
		for n := uint(i); b.Len()+len(end) < size; n = n*7 + 3 {
			b.WriteString(words[n%uint(len(words))] + " ")
		}
		return b.String() + end
	}
}

// cellNames reads from a phext in which every scroll has a name. The names are
// put on the disk as sqgate keeps them: in a parallel phext, each at the
// coordinate of its scroll.
func (b *bench) cellNames(ctx context.Context) error {
	const n = 100000
	before := strings.Repeat(libraryBreak, 998) // scrolls with names begin at 999.1.1/1.1.1/1.1.1
	text := before + textOf(n, numbered(100))
	names := before + textOf(n, func(i int) string { return "bench.1.1/name." + strconv.Itoa(i) + "/1.1.1" })
	columns := []column{{"first select by name", aTime}, {"next select", aTime}, {"toc", aTime}, {"memory", aSize}, {"peak", aSize}}
	_, err := b.repeated(ctx, largeTimes, "names", "100,000 scrolls with names, read", columns, func(ctx context.Context, of binary) ([]float64, error) {
		g, err := b.gatewayOn(ctx, of, "", "large", text)
		if err != nil {
			return nil, err
		}
		defer g.process.stop()
		if err := putPhext(g.dataDir(0), "large.names", names); err != nil {
			return nil, err
		}
		const named = "/api/v2/select?p=large&c=bench.1.1/name."
		return g.times(ctx, g.get(named+"77/1.1.1"), g.get(named+"4711/1.1.1"), g.get("/api/v2/toc?p=large"))
	})
	return err
}

func (g *gateway) get(target string) []byte { return g.request("GET", target, nil) }

// times asks one request after the other. It returns the time that each took,
// in seconds, then the memory that the gateway has now and had at the most.
func (g *gateway) times(ctx context.Context, requests ...[]byte) (values []float64, err error) {
	for _, r := range requests {
		took, _, err := g.once(ctx, patience, r)
		if err != nil {
			return nil, err
		}
		values = append(values, took.Seconds())
	}
	now, peak := memory(g.pid())
	return append(values, now, peak), nil
}
