package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/writer"
)

// pairName is a phext that is written and read by batches alone. Its two scrolls are always
// the same, whatever happens to hosts and bucket.
const pairName = "pair"

// pair writes both scrolls and reads them, in one batch, or reads them alone.
func (c *client) pair(n int, tenant int, timeout time.Duration) {
	r := c.draw("pair", c.number, n)
	h := c.choose(n, register{tenant: tenant})
	p := h.running()
	if p == nil {
		return
	}
	text, writes := fmt.Sprintf("<%d.%d>", c.number, n), r.IntN(3) > 0
	a, answered := ask(c, p, timeout, func(ctx context.Context) (result writer.Result, err error) {
		of, _ := p.tenants.ByID(tenantID(tenant))
		head, err := rewrite.ParseHead("POST", "/batch", "p="+pairName, datadir.RewriteTenant(of))
		if err != nil {
			return result, err
		}
		var operations string
		if writes {
			operations = fmt.Sprintf(`{"op":"insert","c":"1.1.1/1.1.1/1.1.1","s":%q},{"op":"insert","c":"a.name","s":%q},`, text, text)
		}
		call, err := head.Call([]byte(`{"operations":[` + operations + `{"op":"select","c":"1.1.1/1.1.1/1.1.1"},{"op":"select","c":"a.name"}]}`))
		if err != nil {
			return result, err
		}
		return p.writer.Commit(ctx, writer.Request{ID: "a request", KeyName: "a key", Tenant: of, Call: call})
	})
	c.say("client %d: pair %q of %d at host %d: %s, %v, %v", c.number, text, tenant, h.number, a.value.Body, a.err, answered)
	if a.err != nil || !answered {
		return
	}
	var got struct{ Results []struct{ S string } }
	if err := json.Unmarshal(a.value.Body, &got); err != nil {
		c.fail(err)
		return
	}
	if one, other := got.Results[len(got.Results)-2].S, got.Results[len(got.Results)-1].S; one != other {
		c.fail(fmt.Errorf("client %d was shown a part of a batch: %q and %q", c.number, one, other))
	}
}
