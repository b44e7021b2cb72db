package proxy

import (
	"context"
	"errors"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// aPart is a mutation as it comes to mutate.
func aPart(t *testing.T, tenant *tenants.Tenant, target, scroll string, headers ...string) *part {
	t.Helper()
	r := httptest.NewRequest("POST", target, strings.NewReader(scroll))
	r = r.WithContext(&visit{Context: t.Context(), tenant: tenant})
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	head, err := rewrite.ParseHead("POST", r.URL.Path, r.URL.RawQuery, rewriteTenant(tenant))
	if err != nil {
		t.Fatal(err)
	}
	call, err := head.Call([]byte(scroll))
	if err != nil {
		t.Fatal(err)
	}
	return newPart(httptest.NewRecorder(), r, call)
}

// TestGather has one mutation take along those of others that it may.
func TestGather(t *testing.T) {
	g := benchGateway(t)
	defer func() { _ = g.config.Journal.Close() }() // it was opened and not written to
	will, _ := g.config.Tenants.Current().ByID("will")
	d := g.dir(will.DataDir)
	other := *will
	lead := aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "lead")
	c := &change{part: lead, parts: []*part{lead}, gateway: g, dir: d}
	if decided, err := c.plan(); decided || err != nil {
		t.Fatal(decided, err)
	}
	joins := []*part{
		aPart(t, will, "/api/v2/insert?p=notes&c=1.1.1/1.1.1/1.1.3", " longer"),
		aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.2", "two"),
	}
	stays := []*part{
		aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "the same scroll"),
		aPart(t, will, "/api/v2/delete?p=notes&c=1.1.1/1.1.1/1.1.3", ""),
		aPart(t, will, "/api/v2/update?p=another&c=1.1.1/1.1.1/1.1.5", "another phext"),
		aPart(t, &other, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.6", "another tenant"),
	}
	refused := aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.7", "x", "If-Match", `"not its tag"`)
	ended := 0
	for _, p := range slices.Concat(joins, stays, []*part{refused}) {
		p.cancel = func() { ended++ }
		d.lobby.enter(p)
	}
	c.gather()
	if !slices.Equal(c.parts[1:], joins) || !slices.Equal(d.lobby.waiting, stays) || ended != len(joins)+1 {
		t.Errorf("%d were taken along, %d wait, the wait of %d has ended", len(c.parts)-1, len(d.lobby.waiting), ended)
	}
	if err := <-refused.ended; !errors.Is(err, errChanged) {
		t.Errorf("a precondition that does not hold: %v", err)
	}
	if got := c.next.Text(); got != "lead\x17two\x17the scroll longer" {
		t.Errorf("the file is to hold %q", got)
	}
	if joins[0].answer != "Inserted 7 bytes" || joins[1].answer != "Updated 3 bytes" {
		t.Errorf("answers %q and %q", joins[0].answer, joins[1].answer)
	}
	if c.removes() {
		t.Error("it takes up no room")
	}
}

func TestWhatIsMadeAlone(t *testing.T) {
	g := benchGateway(t)
	defer func() { _ = g.config.Journal.Close() }() // nothing was opened
	free, _ := g.config.Tenants.Current().ByID("will")
	will := *free
	will.AllowDelimiters = true
	where := "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1"
	for name, p := range map[string]*part{
		"a name":             aPart(t, &will, "/api/v2/update?p=notes&c=a.name", "x"),
		"a large scroll":     aPart(t, &will, where, strings.Repeat("x", smallScroll+1)),
		"a delimiter":        aPart(t, &will, where, "x\x17y"),
		"an Idempotency-Key": aPart(t, &will, where, "x", idempotencyKey, "k"),
	} {
		if !p.alone {
			t.Errorf("%s may be taken along", name)
		}
	}
	if p := aPart(t, &will, where, "x"); p.alone {
		t.Error("nothing may be taken along")
	}
}

// TestAWaitThatEnds is that of a mutation for its turn.
func TestAWaitThatEnds(t *testing.T) {
	g := benchGateway(t)
	defer func() { _ = g.config.Journal.Close() }() // nothing was opened
	will, _ := g.config.Tenants.Current().ByID("will")
	d := g.dir(will.DataDir)
	mine := aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "x")
	done, err := d.writeWith(t.Context(), mine)
	if err != nil || len(d.lobby.waiting) != 0 {
		t.Fatalf("a turn that was free: %v, %d wait", err, len(d.lobby.waiting))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.writeWith(gone, mine); !errors.Is(err, context.Canceled) || len(d.lobby.waiting) != 0 {
		t.Errorf("a context that has ended: %v, %d wait", err, len(d.lobby.waiting))
	}
	taken, result := aPart(t, will, "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.2", "x"), make(chan error)
	go func() {
		_, err := d.writeWith(t.Context(), taken)
		result <- err
	}()
	for len(d.lobby.take(1, func(p *part) bool { return p == taken })) == 0 {
		runtime.Gosched()
	}
	if err := <-result; !errors.Is(err, errTaken) {
		t.Errorf("taken along: %v", err)
	}
	done()
	if done, err = d.writeWith(t.Context(), mine); err != nil {
		t.Fatalf("the turn is not free: %v", err)
	}
	done()
}
