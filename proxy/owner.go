package proxy

import (
	"errors"
	"net/http"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// HostHandler is the chain for requests that other hosts of the bucket have sent here,
// which are served here or not at all. Only such hosts may reach it: what they say of a
// request is believed.
func (g *Gateway) HostHandler() http.Handler {
	chain := g.chain(true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		as, id, ok := cluster.Received(r)
		if !ok {
			http.Error(w, "this address is for hosts of the same bucket", http.StatusBadRequest)
			return
		}
		chain.ServeHTTP(w, as.WithContext(withReceivedID(as.Context(), id)))
	})
}

// withOwner has a request answered by the host that owns its tenant's directory. Limits,
// quotas, counts and metrics are that host's, so they come behind this link.
func (g *Gateway) withOwner(fromHost bool, next http.Handler) http.Handler {
	switch {
	case g.Hosts == nil:
		return next
	case fromHost:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info := infoOf(r)
			info.onMoved = func() { cluster.RefuseNotOwner(w) }
			switch accepted, err := g.Hosts.Accepts(r.Context(), info.tenant.DataDir); {
			case err != nil:
				g.refuse(w, r, err)
			case !accepted:
				info.onMoved()
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoOf(r)
		op, _ := rewrite.Find(r.Method, info.path)
		info.sentOn = true
		if op == rewrite.Changes {
			ctx, leave := g.streams.untilEnding(r.Context(), info.client)
			defer leave()
			r = r.WithContext(ctx)
		}
		err := g.Hosts.Serve(w, r, cluster.Call{
			Dir: info.tenant.DataDir, ID: info.id, Owner: info.owner(), Endless: op == rewrite.Changes,
			Repeatable: op != "" && op != rewrite.MCP && !op.Mutates() || r.Header.Get("Idempotency-Key") != "",
			Enter:      func() (leave func(), err error) { return g.enterToSendOn(r) },
			Here: func() (moved bool, read []byte) {
				info.sentOn, info.body = false, nil
				info.onMoved = func() { moved = true }
				next.ServeHTTP(w, r)
				if moved {
					info.sentOn, info.onMoved = true, nil
				}
				return moved, info.body
			},
		})
		if err != nil {
			info.sentOn, info.onMoved = false, nil
			g.refuse(w, r, err)
		}
	})
}

// enterToSendOn counts in a request that another host answers, and what is kept of its body.
func (g *Gateway) enterToSendOn(r *http.Request) (leave func(), err error) {
	info := infoOf(r)
	dir := g.Dirs.Of(info.tenant.DataDir)
	leaveDir, err := dir.Enter(info.group())
	kept := cluster.Kept(r)
	if err != nil || kept <= uncounted || pace.Came(r) {
		return leaveDir, err
	}
	budgets := dir.BodyBudgets(info.group(), info.owner())
	body := memlimit.Reserve(budgets[:]...)
	if !body.Grow(kept) {
		leaveDir()
		return nil, datadir.ErrBusy
	}
	return func() { body.Release(); leaveDir() }, nil
}

// movedAway says whether a request is to be answered by another host instead of being
// refused, because its directory is that one's now. Nothing was answered or changed.
func (i *requestInfo) movedAway(err error) bool {
	if i.onMoved == nil || !errors.Is(err, datadir.ErrMoved) {
		return false
	}
	i.onMoved()
	return true
}
