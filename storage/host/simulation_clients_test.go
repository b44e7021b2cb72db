package host

import (
	"context"
	"fmt"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/registertest"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/writer"
)

// register is a scroll. It is a map's key in the history.
type register struct {
	tenant int
	phext  string // "" = a
	scroll int
}

func (r register) String() string { return fmt.Sprintf("t%d/%s/%d", r.tenant, r.name(), r.scroll+1) }

func (r register) name() string {
	if r.phext == "" {
		return "a"
	}
	return r.phext
}

// registers are all that clients use.
func (s *simulation) registers() (all []register) {
	for i := range s.tenants {
		all = append(all, register{i, "", 0}, register{i, "", 1}, register{i, "b", 0})
	}
	return all
}

type (
	called = registertest.Called
	told   = registertest.Told
)

// client makes one call after the other.
type client struct {
	*simulation
	number int
	last   map[register]string // what it has seen of each
	sure   bool                // it asks the owner if that runs
	at     *simHost            // or always this one
}

func (s *simulation) note(c *client, call called, t told, begun time.Duration) {
	o := registertest.Operation(c.number, call, t, begun, s.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, o)
}

func (c *client) run() {
	all := c.registers()
	for n := 0; c.now() < c.length+healed; n++ {
		r := c.draw("client", c.number, n)
		time.Sleep(between(r, time.Millisecond, 2*time.Second))
		reg := all[r.IntN(len(all))]
		timeout := between(r, time.Second, 25*time.Second)
		switch r.IntN(8) {
		case 0, 1, 2, 3:
			if h := c.choose(n, reg); h != nil {
				c.readAt(h, reg, timeout)
			}
		case 4:
			c.pair(n, reg.tenant, timeout)
		default:
			c.write(n, reg, timeout)
		}
	}
}

// choose chooses a host: mostly the owner, as a load balancer and forwarding do.
func (c *client) choose(of ...any) *simHost {
	if c.at != nil {
		return c.at
	}
	r := c.draw("host", c.number, fmt.Sprint(of...))
	reg := of[1].(register)
	if c.sure || r.IntN(3) > 0 {
		found, err := c.bucket.Get(always, "dirs/"+tenantID(reg.tenant)+"/owner", "")
		if err == nil {
			owner, err := object.Decode[object.Owner](found.Body)
			for _, h := range c.hosts {
				if err == nil && h.name == owner.Host && (!c.sure || h.running() != nil) {
					return h
				}
			}
		}
	}
	return c.hosts[r.IntN(c.plan.hosts)]
}

// ask has a process do something, unless it dies first, or takes too long.
func ask[T any](c *client, p *process, timeout time.Duration, do func(context.Context) (T, error)) (a answer[T], answered bool) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	result := make(chan answer[T], 1)
	p.requests.Go(func() {
		at := fmt.Sprint("client ", c.number)
		if p.pass(at) != nil {
			return
		}
		value, err := do(ctx)
		if p.pass(at) == nil {
			result <- answer[T]{value, err}
		}
	})
	select {
	case a = <-result:
		return a, true
	case <-p.died:
	case <-ctx.Done():
	}
	return a, false
}

func (p *process) call(op string, reg register, body string) (*rewrite.Call, *datadir.Dir, error) {
	tenant, _ := p.tenants.ByID(tenantID(reg.tenant))
	method := "POST"
	switch op {
	case "select":
		method = "GET"
	case registertest.Swap:
		op = "update"
	}
	head, err := rewrite.ParseHead(method, "/"+op, fmt.Sprintf("p=%s&c=1.1.1/1.1.1/1.1.%d", reg.name(), reg.scroll+1), datadir.RewriteTenant(tenant))
	if err != nil {
		return nil, nil, err
	}
	call, err := head.Call([]byte(body))
	return call, p.dirs.Of(tenant.DataDir), err
}

// readAt reads, and says whether that was possible.
func (c *client) readAt(h *simHost, reg register, timeout time.Duration) bool {
	p := h.running()
	if p == nil {
		return false
	}
	begun := c.now()
	a, answered := ask(c, p, timeout, func(ctx context.Context) (string, error) {
		return routed(ctx, c, p, reg.tenant, func(ctx context.Context, p *process) (string, error) {
			call, dir, err := p.call("select", reg, "")
			if err != nil {
				return "", err
			}
			a, err := p.reader.Read(ctx, dir, call, false)
			if err != nil {
				return "", err
			}
			defer a.Release()
			return a.Text, nil
		})
	})
	c.say("client %d: read %v at host %d: %q, %v, %v", c.number, reg, h.number, a.value, a.err, answered)
	if a.err != nil || !answered {
		return false
	}
	c.last[reg] = a.value
	c.note(c, called{Register: reg, Op: registertest.Read}, told{Text: a.value}, begun)
	return true
}

// write makes some write, and says whether it was acknowledged. An insert is repeated with
// the same Idempotency-Key, also at other hosts, if it is not known whether it was made.
func (c *client) write(n int, reg register, timeout time.Duration) bool {
	r := c.draw("write", c.number, n, reg)
	call := called{Register: reg, Op: registertest.Update, Text: fmt.Sprintf("<%d.%d>", c.number, n)}
	request := writer.Request{ID: "a request", KeyName: "a key"}
	tries := 1
	switch last := c.last[reg]; r.IntN(4) {
	case 0:
		call.Op = registertest.Insert
		if r.IntN(2) == 0 {
			tries, request.IdempotencyKey = 4, call.Text
		}
	case 1, 2:
		if last != "" {
			call.Op, call.Expected = registertest.Swap, last
			request.IfMatch = []string{etag.Of(last)}
		}
	}
	begun, t := c.now(), told{}
	for try := range tries {
		if try > 0 {
			time.Sleep(between(r, time.Millisecond, 3*time.Second))
		}
		h := c.choose(n, reg, try)
		p := h.running()
		if p == nil {
			continue
		}
		a, answered := ask(c, p, timeout, func(ctx context.Context) (writer.Result, error) {
			return routed(ctx, c, p, reg.tenant, func(ctx context.Context, p *process) (_ writer.Result, err error) {
				request := request
				if request.Call, _, err = p.call(call.Op, reg, call.Text); err != nil {
					return writer.Result{}, err
				}
				request.Tenant, _ = p.tenants.ByID(tenantID(reg.tenant))
				return p.writer.Commit(ctx, request)
			})
		})
		c.say("client %d: %+v at host %d: %v, %v", c.number, call, h.number, a.err, answered)
		refusal := apierror.From(a.err)
		switch {
		case answered && a.err == nil:
			if call.Op != registertest.Insert {
				c.last[reg] = call.Text
			}
			c.note(c, call, told{}, begun)
			return true
		case refusal != nil && refusal.Kind == apierror.Precondition && tries == 1:
			delete(c.last, reg)
			c.note(c, call, told{Refused: true}, begun)
			return true
		case !answered, refusal == nil || refusal.Kind == apierror.NotKnown:
			t.Unknown = true
		}
	}
	if t.Unknown {
		c.note(c, call, t, begun)
	}
	return false
}
