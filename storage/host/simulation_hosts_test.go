package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/fakesq"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/storage/writer"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// simHost is a machine of a simulation, with a disk and a clock of its own.
type simHost struct {
	*simulation
	name   string
	number int
	root   string
	wiped  atomic.Bool // its disk was lost

	mu         sync.Mutex
	process    *process // that runs; nil = none does
	all        []*process
	cutUntil   time.Time
	apartUntil time.Time
}

// process is a sqgate there. It meets the world in three places only: at the bucket, at SQ
// and at its clients. There it stands still when it is to, and for good when it is dead.
type process struct {
	*Host
	machine *simHost
	number  int
	ds      *Directories
	dirs    *datadir.Dirs
	journal *journal.Set
	tenants *tenants.Snapshot
	reader  *reader.Reader
	writer  *writer.Writer

	died              chan struct{}
	endKeep, endLease context.CancelFunc
	requests          sync.WaitGroup // of clients
	keeping, renewing sync.WaitGroup
	ending, running   sync.WaitGroup

	isDraining atomic.Bool // since it is to end

	mu          sync.Mutex
	dead        bool
	finishing   bool
	stillUntil  time.Time
	calls       map[string]int // how often each was made
	generations map[string]int // of SQ, by directory
}

var errDead = errors.New("this process is dead")

// pass returns when the process does not stand still. at is where it is.
func (p *process) pass(at ...any) error {
	for {
		p.mu.Lock()
		wait, dead := time.Until(p.stillUntil), p.dead
		p.mu.Unlock()
		switch {
		case dead:
			<-p.machine.over
			return errDead
		case wait <= 0:
			return nil
		}
		// Not all go on at the same moment: that would be no function of the seed.
		time.Sleep(wait + between(p.machine.draw(append(at, p.machine.name, p.number, p.count(at...))...), 1, time.Millisecond))
	}
}

// count is how often the same was done before.
func (p *process) count(of ...any) int {
	key := fmt.Sprint(of...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[key]++
	return p.calls[key]
}

// running is the process that takes requests, or nil.
func (h *simHost) running() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process == nil || h.process.isFinishing() {
		return nil
	}
	return h.process
}

func (p *process) isFinishing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finishing
}

// start starts a process if none runs.
func (h *simHost) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process != nil || h.closing.Load() {
		return
	}
	p := &process{machine: h, number: len(h.all), died: make(chan struct{}), calls: map[string]int{}, generations: map[string]int{}}
	if err := p.open(); err != nil {
		h.fail(err)
		return
	}
	h.process, h.all = p, append(h.all, p)
	h.say("host %d runs", h.number)
	keep, endKeep := context.WithCancel(context.Background())
	renew, endLease := context.WithCancel(context.Background())
	p.endKeep, p.endLease = endKeep, endLease
	p.renewing.Go(func() {
		switch err := p.Run(renew); {
		case err == nil:
		case h.wiped.Load(): // it does not know who came before: whoever starts it does
			h.say("host %d: %v", h.number, err)
			h.flights.Go(func() { h.kill(); h.start() })
		default:
			h.fail(fmt.Errorf("host %d: %w", h.number, err))
		}
	})
	p.keeping.Go(func() { p.ds.Keep(keep) })
	p.running.Go(func() { p.dirs.Run(keep) })
}

// open makes what a start of sqgate makes.
func (p *process) open() (err error) {
	h := p.machine
	log := slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if p.tenants, err = h.tenantsFile(); err != nil {
		return err
	}
	p.journal, err = journal.New(journal.Config{Dir: filepath.Join(h.root, "journal"), Quarantine: filepath.Join(h.root, "quarantine"),
		Sync: journal.Batch, BootID: "this boot", Logger: log, History: 30 * 24 * time.Hour, BootTime: time.Unix(1, 0), Datasync: func(*os.File) error { return nil }})
	if err != nil {
		return err
	}
	p.Host = &Host{Bucket: &simBucket{p}, Name: h.name, Many: h.plan.many, URL: "https://" + h.name, Incarnation: fmt.Sprintf("%s.%d", h.name, p.number), Logger: log, Clock: h.clock()}
	current := func() *tenants.Snapshot { return p.tenants }
	p.ds = &Directories{Host: p.Host, Tenants: current, Journal: p.journal, MarkDir: filepath.Join(h.root, "bucket"), History: h.plan.history}
	p.dirs = datadir.New(datadir.Config{Tenants: current, Journal: p.journal, TakeOver: p.ds.TakeOver, Leased: p.Holds, ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: log, StopChild: p.stopSQ})
	p.ds.Dirs = p.dirs
	sq := sqclient.New(p.leaseSQ, p.dirs.Reserve)
	p.reader = reader.New(reader.Config{Dirs: p.dirs, SQ: sq})
	p.writer = writer.New(writer.Config{Dirs: p.dirs, SQ: sq, Ledger: quota.NewLedger(current, log), Logger: log})
	return p.ds.Lock()
}

// Write has what the process logs among what happens.
func (p *process) Write(line []byte) (int, error) {
	_, text, _ := bytes.Cut(line, []byte(" ")) // without the time
	p.machine.say("host %d: %s", p.machine.number, bytes.ReplaceAll(bytes.TrimSpace(text), []byte(p.machine.simulation.root), nil))
	return len(line), nil
}

func (h *simHost) tenantsFile() (*tenants.Snapshot, error) {
	var all []any
	for i := range h.plan.tenants {
		id := tenantID(i)
		all = append(all, map[string]any{"id": id, "api_key": fmt.Sprintf("pmb-v1-%032x", i), "data_dir": filepath.Join(h.root, "srv", id)})
	}
	text, err := json.Marshal(map[string]any{"tenants": all})
	if err != nil {
		return nil, err
	}
	return tenants.Parse(text)
}

func tenantID(i int) string { return fmt.Sprint("t", i) }

// clock is that of the machine. It is not right, and neither is its speed.
func (h *simHost) clock() func() time.Duration {
	r := h.draw("clock", h.name)
	began, drift := between(r, 0, 1000*time.Hour), r.Float64()/500-0.001
	return func() time.Duration { now := h.now(); return began + now + time.Duration(float64(now)*drift) }
}

func (h *simHost) startIn(d time.Duration) {
	h.flights.Go(func() { time.Sleep(d); h.start() })
}

// kill ends the process at once, if there is one.
func (h *simHost) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.process
	if p == nil {
		return
	}
	h.process = nil
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	close(p.died)
	if err := p.ds.Close(); err != nil { // which the kernel does
		h.fail(err)
	}
}

// finish has the process end, as a signal does, and starts the next one some time after.
func (h *simHost) finish(next time.Duration) {
	p := h.running()
	if p == nil || p.isDraining.Swap(true) {
		return
	}
	p.ending.Go(func() {
		if h.plan.many { // the others serve its tenants before it ends
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			h.say("host %d ends: %v", h.number, p.ds.Drain(ctx))
			cancel()
		}
		p.mu.Lock()
		p.finishing = true
		p.mu.Unlock()
		p.requests.Wait()
		p.endKeep()
		p.keeping.Wait()
		p.running.Wait()
		p.endLease()
		p.renewing.Wait()
		if p.pass("finish") != nil {
			return
		}
		if err := p.journal.Close(); err != nil {
			h.fail(err)
		}
		h.say("host %d has ended", h.number)
		h.kill() // there is nothing left to be killed
		h.startIn(next)
	})
}

// bury ends what is left of all processes. Their disks do not matter any more.
func (h *simHost) bury() {
	for _, p := range h.all {
		p.endKeep()
		p.endLease()
		p.requests.Wait()
		p.keeping.Wait()
		p.running.Wait()
		p.renewing.Wait()
		p.ending.Wait()
		_ = p.journal.Close() // it may be closed already
	}
}

// pause has the process stand still. Its clock goes on.
func (h *simHost) pause(length time.Duration, late bool) {
	p := h.running()
	if p == nil {
		return
	}
	p.mu.Lock()
	p.stillUntil = time.Now().Add(length)
	p.mu.Unlock()
	p.Host.mu.Lock()
	defer p.Host.mu.Unlock()
	l := p.Host.lease
	if l == nil || !late || !l.timer.Stop() {
		return
	}
	time.AfterFunc(length, func() {
		l.timer.Reset(max(time.Millisecond, time.Duration(l.until.Load())-l.clock()))
	})
}

func (h *simHost) cut(length time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cutUntil = time.Now().Add(length)
}

func (h *simHost) isCut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.cutUntil)
}

// heal ends what is wrong with the host.
func (h *simHost) heal() {
	h.cut(0)
	h.setApart(0)
	h.undrain()
	if p := h.running(); p != nil {
		p.mu.Lock()
		p.stillUntil = time.Now()
		p.mu.Unlock()
	}
	h.start()
}

// compact has the host compact its logs, as Keep does when they have grown.
func (h *simHost) compact() {
	p := h.running()
	if p == nil {
		return
	}
	p.running.Go(func() {
		k := &p.ds.housekeeping
		k.mu.Lock()
		names := slices.Sorted(maps.Keys(k.logs))
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, name := range names {
			k.mu.Lock()
			one := k.logs[name]
			k.mu.Unlock()
			if one == nil {
				continue
			}
			if err := p.ds.compact(ctx, one); err != nil {
				h.say("host %d: compacting %s: %v", h.number, name, err)
			}
		}
	})
}

// leaseSQ is the SQ process of a directory. It needs some time.
func (p *process) leaseSQ(ctx context.Context, dir string) (sqclient.Lease, error) {
	tenant := filepath.Base(dir)
	r := p.machine.draw("sq", p.machine.name, p.number, tenant, p.count("sq", tenant))
	takes := between(r, 100*time.Microsecond, 20*time.Millisecond)
	if !p.machine.calm && r.IntN(30) == 0 {
		takes = between(r, 0, 4*time.Second)
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	if err := errors.Join(p.pass("sq", tenant), ctx.Err()); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &sqLease{p.machine.sq.address, fmt.Sprintf("%d.%d,%s", p.number, p.generations[dir], dir), uint64(p.generations[dir]) + 1}, nil
}

func (p *process) stopSQ(_ context.Context, dir, _ string) error {
	tenant := filepath.Base(dir)
	time.Sleep(between(p.machine.draw("stop", p.machine.name, p.number, tenant, p.count("stop", tenant)), 1, time.Millisecond))
	if err := p.pass("stop", tenant); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generations[dir]++
	return nil
}

type sqLease struct {
	address, key string
	generation   uint64
}

func (l *sqLease) Addr() string       { return l.address }
func (l *sqLease) Key() string        { return l.key }
func (l *sqLease) Generation() uint64 { return l.generation }
func (l *sqLease) Release()           {}
func (l *sqLease) Retire(string)      {}

// sqServers is the stand-in for SQ, for all processes of simulations. It is outside of their
// time. The key of a request is the number of a child, and its directory.
type sqServers struct {
	address string
	mu      sync.Mutex
	servers map[string]*fakesq.Server
}

func startSQ(t *testing.T) *sqServers {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sqServers{address: l.Addr().String(), servers: map[string]*fakesq.Server{}}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.serve(conn) })
		}
	})
	return s
}

func (s *sqServers) serve(conn net.Conn) {
	const before, after = "Authorization: Bearer ", "\r\n"
	var head []byte
	for part := make([]byte, 4<<10); ; {
		n, err := conn.Read(part)
		head = append(head, part[:n]...)
		_, rest, _ := strings.Cut(string(head), before)
		if key, _, whole := strings.Cut(rest, after); whole {
			s.server(key).Serve(&oneConn{conn: &readAgain{conn, io.MultiReader(bytes.NewReader(head), conn)}})
			return
		}
		if err != nil {
			_ = conn.Close() // it asked for nothing
			return
		}
	}
}

// server is a child, which begins with the first request.
func (s *sqServers) server(key string) *fakesq.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers[key] == nil {
		_, dir, _ := strings.Cut(key, ",")
		s.servers[key] = fakesq.New(fakesq.Config{Key: key, HasKey: true, DataDir: dir})
	}
	return s.servers[key]
}

// forget ends all children below a directory.
func (s *sqServers) forget(root string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.servers, func(key string, _ *fakesq.Server) bool { return strings.Contains(key, ","+root) })
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	net.Listener
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	return nil, net.ErrClosed
}

type readAgain struct {
	net.Conn
	io.Reader
}

func (c *readAgain) Read(b []byte) (int, error) { return c.Reader.Read(b) }
