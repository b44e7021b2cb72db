package main

import (
	"context"
	"slices"
	"time"
)

// rounds is how often each side has its turn within a cell.
const rounds = 3

// manyConnections is the number of connections where nothing else is said.
const manyConnections = 16

// race has all sides do the same work in turns, the first last every other
// time, so that a machine that is slow for a while is slow for all.
func race(ctx context.Context, sides []side, conns int, each time.Duration, pick func(s side) func(conn, i int) []byte) []result {
	loads := make([][]load, len(sides))
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	for range rounds {
		for _, i := range order {
			loads[i] = append(loads[i], drive(ctx, sides[i], conns, each/rounds, pick(sides[i])))
		}
		slices.Reverse(order)
	}
	results := make([]result, len(sides))
	for i, s := range sides {
		results[i] = summary(s.name, loads[i])
	}
	return results
}

// spread is the median of the rounds, the lowest and the highest.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	slices.Sort(values)
	return spread{values[len(values)/2], values[0], values[len(values)-1]}
}

// in shows a spread with its ends behind it.
func (s spread) in(show func(float64) string) string {
	return show(s.median) + " (" + show(s.low) + " to " + show(s.high) + ")"
}

// result is what one side came to in a cell: answers a second, and times in seconds.
type result struct {
	side           string
	rate, p50, p99 spread
	errors         int
	firstErr       error
}

func summary(name string, loads []load) result {
	var rates, p50, p99 []float64
	r := result{side: name}
	for _, l := range loads {
		rates, p50, p99 = append(rates, l.rate), append(p50, l.p50.Seconds()), append(p99, l.p99.Seconds())
		r.errors += l.errors
		if r.firstErr == nil {
			r.firstErr = l.firstErr
		}
	}
	r.rate, r.p50, r.p99 = spreadOf(rates), spreadOf(p50), spreadOf(p99)
	return r
}

// selecting reads the scrolls of phexts in turn.
func selecting(scrolls int, phexts ...string) func(s side) func(conn, i int) []byte {
	return func(s side) func(conn, i int) []byte {
		var all [][]byte
		for i := range scrolls {
			for _, p := range phexts {
				all = append(all, s.request("GET", selectOf(p, i), nil))
			}
		}
		return func(conn, i int) []byte { return all[(conn+i)%len(all)] }
	}
}
