package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// once asks one thing on a connection of its own and says how long it took.
func (s side) once(ctx context.Context, patience time.Duration, request []byte) (took time.Duration, size int, err error) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	start := time.Now()
	status, size, err := c.call(ctx, request)
	took = time.Since(start)
	if err == nil {
		err = s.check(status)
	}
	return took, size, err
}

// tagOf asks for something and takes the entity tag of the answer.
func (s side) tagOf(ctx context.Context, request []byte) (string, error) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	if err := c.dial(ctx); err != nil {
		return "", err
	}
	if _, err := c.conn.Write(request); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return "", err
	}
	if tag := answer.Header.Get("ETag"); tag != "" {
		return tag, s.check(answer.StatusCode)
	}
	return "", fmt.Errorf("%s answered %d without an ETag", s.name, answer.StatusCode)
}

// load is what a closed loop came to.
type load struct {
	rate     float64 // answers a second
	p50, p99 time.Duration
	errors   int
	firstErr error
}

// drive keeps n connections busy for as long as d: each sends its next request
// when it has the answer to the last. pick is given the connection and a count.
func drive(ctx context.Context, s side, n int, d time.Duration, pick func(conn, i int) []byte) load {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		l     load
	)
	start := time.Now()
	for conn := range n {
		group.Go(func() {
			times, failed, err := loop(ctx, newCaller(s, start.Add(d)), conn, pick)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			l.errors += failed
			if l.firstErr == nil {
				l.firstErr = err
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	l.rate = float64(len(all)) / time.Since(start).Seconds()
	l.p50, l.p99 = quantile(all, .5), quantile(all, .99)
	return l
}

func loop(ctx context.Context, c *caller, conn int, pick func(conn, i int) []byte) (times []time.Duration, failed int, first error) {
	defer c.close()
	for i := 0; ctx.Err() == nil; i++ {
		start := time.Now()
		status, _, err := c.call(ctx, pick(conn, i))
		if time.Now().After(c.until) {
			return times, failed, first
		}
		if err == nil {
			err = c.check(status)
		}
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
			continue
		}
		times = append(times, time.Since(start))
	}
	return times, failed, first
}

// quantile is of sorted times.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
