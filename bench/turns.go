package main

import (
	"context"
	"slices"
)

// turnsEach is how many turns each side has in a cell.
const turnsEach = 7

// manyConnections is the number of connections where nothing else is said.
const manyConnections = 16

// picker makes the requests of a side: request number i of a connection.
type picker func(s side) func(conn, i int) []byte

// inTurns is turnsOf for the sides that take part.
func (b *bench) inTurns(ctx context.Context, sides []side, conns int, pick picker) []result {
	sides = slices.DeleteFunc(slices.Clone(sides), func(s side) bool { return !b.wants(s.name) })
	return b.turnsOf(ctx, sides, conns, pick)
}

// turnsOf has all sides do the same work in turns, in the opposite order every
// other time, so that a machine that is slow for a while is slow for all of them.
func (b *bench) turnsOf(ctx context.Context, sides []side, conns int, pick picker) []result {
	turns := make([][]load, len(sides))
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	for range turnsEach {
		for _, i := range order {
			turns[i] = append(turns[i], drive(ctx, sides[i], conns, b.time/turnsEach, pick(sides[i])))
		}
		slices.Reverse(order)
	}
	results := make([]result, len(sides))
	for i, s := range sides {
		results[i] = resultOf(s, turns[i])
	}
	return results
}

// spread is the median of several values, the lowest and the highest.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]}
}

// in prints a spread with its ends behind the median.
func (s spread) in(print func(float64) string) string {
	return print(s.median) + " (" + print(s.low) + " to " + print(s.high) + ")"
}

// result is what one side reached in a cell: answers a second, and times in seconds.
type result struct {
	side
	rates          []float64 // of its turns, in their order
	rate, p50, p99 spread
	errors         int
	firstErr       error
}

func resultOf(s side, turns []load) result {
	var p50, p99 []float64
	r := result{side: s}
	for _, l := range turns {
		r.rates, p50, p99 = append(r.rates, l.rate), append(p50, l.p50.Seconds()), append(p99, l.p99.Seconds())
		r.errors += l.errors
		if r.firstErr == nil {
			r.firstErr = l.firstErr
		}
	}
	r.rate, r.p50, r.p99 = spreadOf(r.rates), spreadOf(p50), spreadOf(p99)
	return r
}

// selecting reads the scrolls of phexts in turn.
func selecting(scrolls int, phexts ...string) picker {
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

// updating has each connection update a scroll of its own.
func updating(s side) func(conn, i int) []byte {
	body := []byte(numbered(scrollSize)(0))
	return func(conn, _ int) []byte { return s.request("POST", updateOf("notes", conn), body) }
}

// updatingOne has all connections update one scroll.
func updatingOne(s side) func(conn, i int) []byte {
	body := []byte(numbered(scrollSize)(0))
	return func(_, _ int) []byte { return s.request("POST", updateOf("notes", 0), body) }
}
