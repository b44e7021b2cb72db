package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// The cores of the cell: sqgate and SQ have one, and those who ask them the other.
const gateCore, clientCore = "0", "1"

// neighbour is what tenant 1 does on many connections, while tenant 0 asks now
// and then.
type neighbour struct {
	name  string
	conns int
	pick  picker
}

const idle, tocs, selects = "idle", "toc, 512 connections", "select, 512 connections"

var neighbours = []neighbour{
	{idle, 0, nil},
	{tocs, 512, asking("GET", "/api/v2/toc?p=large", "")},
	{"get, 512 connections", 512, asking("GET", "/api/v2/get?p=large", "")},
	{selects, 512, selecting(100, "large")},
	{"update, 64 connections", 64, inTheLarge("")},
	{"update and json-export in turn, 64 connections", 64, inTheLarge("/api/v2/json-export?p=large")},
	{"where of 512 KB, 64 connections", 64, asking("POST", "/api/v2/where?limit=5", textOf(2500, numbered(scrollSize)))},
}

// asking asks one thing again and again.
func asking(method, target, body string) picker {
	return func(s side) func(conn, i int) []byte {
		request := s.request(method, target, []byte(body))
		return func(int, int) []byte { return request }
	}
}

// inTheLarge has each connection update a scroll of its own and, if there is a
// target, ask for that after each time.
func inTheLarge(target string) picker {
	return func(s side) func(conn, i int) []byte {
		body, then := []byte(numbered(scrollSize)(0)), s.request("GET", target, nil)
		return func(conn, i int) []byte {
			if target != "" && i%2 == 1 {
				return then
			}
			return s.request("POST", updateOf("large", conn), body)
		}
	}
}

// probe is what tenant 0 asks.
type probe struct {
	name string
	pick picker
}

var probes = []probe{{"select", selecting(100, "notes")}, {"update", updating}}

// How often tenant 0 asks for each figure, how long it waits in between, and
// after which time it does not ask again.
const (
	probeTimes = 400
	probePause = 5 * time.Millisecond
	probeTime  = 5 * time.Second
)

// cellNeighbour measures what one tenant's load does to another's answers.
func (b *bench) cellNeighbour(ctx context.Context) error {
	if _, err := exec.LookPath("taskset"); err != nil {
		b.noteOnce("neighbour was left out: %v", err)
		return nil
	}
	for _, of := range b.binaries {
		t := newTable("the neighbour", "select, p50", "p99", "to idle", "update, p50", "p99", "to idle", "errors", "the neighbour's answers a second")
		for _, n := range neighbours {
			row, err := b.beside(ctx, of, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			t.add(row...)
		}
		b.show(of.name+": a tenant beside a busy neighbour with a phext of 2.7 MB; sqgate and SQ on one core, the clients on another", t)
	}
	return nil
}

// beside is the row of one neighbour.
func (b *bench) beside(ctx context.Context, of binary, n neighbour) (row []string, err error) {
	g, err := b.newGateway(of, "", 2)
	if err != nil {
		return nil, err
	}
	g.core = gateCore
	if err := errors.Join(putPhext(g.dataDir(0), "notes", textOf(100, numbered(scrollSize))), putPhext(g.dataDir(1), "large", textOf(13500, numbered(scrollSize)))); err != nil {
		return nil, err
	}
	if err := b.startGateway(ctx, g); err != nil {
		return nil, err
	}
	defer g.process.stop()
	if err := warmWrites(ctx, []side{g.side}); err != nil {
		return nil, err
	}
	flood, err := startClient(g.as(1), n.name)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	row, failed := []string{n.name}, 0
	for _, p := range probes {
		client, err := startClient(g.side, p.name)
		if err != nil {
			return nil, err
		}
		l, err := client.result()
		if err != nil {
			return nil, err
		}
		failed += l.errors
		cell := "neighbour, " + p.name + " beside " + n.name
		b.record(cell, g.name, l.p99.Seconds())
		b.compare("neighbour", p.name+" beside "+n.name+", p99", aTime, of.name, l.p99.Seconds())
		quiet := b.values["neighbour, "+p.name+" beside "+idle+"/"+g.name]
		row = append(row, inSeconds(l.p50.Seconds()), inSeconds(l.p99.Seconds()), inRatio(l.p99.Seconds()/quiet))
	}
	l, err := flood.end()
	return append(row, strconv.Itoa(failed+l.errors), inRate(l.rate)), err
}

// clientProcess is this program, run again as a client on a core of its own.
type clientProcess struct {
	*exec.Cmd
	in  io.Closer // ends a flood
	out io.Reader
}

// startClient starts a client that does what a neighbour or a probe of that name
// does. A probe runs before a flood, whose answers must not delay it: where that
// is allowed, it has a real-time priority.
func startClient(s side, name string) (*clientProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-c", clientCore}
	switch {
	case isNeighbour(name):
		args = append(args, "nice", "-n", "19")
	case exec.Command("chrt", "-f", "1", "true").Run() == nil:
		args = append(args, "chrt", "-f", "1")
	}
	c := &clientProcess{Cmd: exec.Command("taskset", append(args, self, clientCommand, s.addr, s.key, name)...)}
	c.Stderr = os.Stderr
	if c.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.StdoutPipe(); err != nil {
		return nil, err
	}
	return c, c.Start()
}

func (c *clientProcess) end() (load, error) {
	_ = c.in.Close() // fails only if it has ended
	return c.result()
}

func (c *clientProcess) result() (l load, err error) {
	_, err = fmt.Fscan(c.out, &l.rate, &l.p50, &l.p99, &l.errors)
	return l, errors.Join(err, c.Wait())
}

// clientCommand is the first argument of this program as a client.
const clientCommand = "client"

func isNeighbour(name string) bool {
	return slices.ContainsFunc(neighbours, func(n neighbour) bool { return n.name == name })
}

// client floods a gateway until its standard input ends, or probes it, and prints
// what it measured.
func client(addr, key, name string) error {
	s := side{name: name, addr: addr, key: key, keepAlive: true}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the parent at the latest
		cancel()
	}()
	var l load
	for _, n := range neighbours {
		if n.name == name && n.conns > 0 {
			l = drive(ctx, s, n.conns, patience, n.pick(s))
		}
	}
	for _, p := range probes {
		if p.name == name {
			l = paced(ctx, s, p.pick(s))
		}
	}
	_, err := fmt.Println(l.rate, int64(l.p50), int64(l.p99), l.errors)
	return err
}

// paced asks one request after the other, with pauses.
func paced(ctx context.Context, s side, pick func(conn, i int) []byte) (l load) {
	c := newCaller(s, time.Now().Add(patience))
	defer c.close()
	var times []time.Duration
	end := time.Now().Add(probeTime)
	for i := 0; i < probeTimes && time.Now().Before(end); i++ {
		time.Sleep(probePause)
		start := time.Now()
		status, _, err := c.call(ctx, pick(0, i))
		if err == nil {
			err = c.check(status)
		}
		if err != nil {
			l.errors++
			continue
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	l.p50, l.p99 = quantile(times, .5), quantile(times, .99)
	return l
}
