package proxy

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/http1"
	"mirrorborn.us/sqgate/internal/jwtauth"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// access is who a request is from, and what it may do.
type access struct {
	known  *tenants.Snapshot // in which it was looked up
	tenant *tenants.Tenant   // whose phexts the request is about
	caller *tenants.Tenant   // whose key it has; nil for a public read
	key    string            // that was given; for its fingerprint alone
	scoped *tenants.Key      // that it is; nil = the tenant's own key, or a token
	scope  *rewrite.Scope    // of its rights
	class  quota.Class       // of the call, for the caller's limits
}

// isPublic says whether the request is served without regard to a key.
func (a *access) isPublic() bool { return a.scope != nil && a.scope.Anonymous }

// identify is the one place where a request becomes an access. The key names the
// caller. An id in front of the path names the tenant, which is the caller unless
// another lets it in.
//
// What is refused without a key does not tell whether there is such a tenant: the
// answer is the same, and is made in the same way.
//
// turn is that of a new request: what takes long is done in it, and it is the caller's from
// then on. It is nil where a request is looked at again, perhaps by another goroutine.
func (g *Gateway) identify(r *http.Request, at time.Time, turn *fairqueue.Turn) (access, error) {
	info, known := infoOf(r), g.Tenants()
	if refusal := known.Refusal(); refusal != nil {
		return access{}, refusal
	}
	who, err := g.callerOf(r, known, at, turn)
	who.known = known
	if err != nil {
		return who, err
	}
	op, instance := rewrite.Find(r.Method, info.path)
	who.tenant, who.class = who.caller, classOf(op)
	if who.caller != nil {
		turn.SetOwner(who.caller.ID)
		if instance == "" || instance == who.caller.ID {
			return who, nil
		}
	} else if err := g.checkLimited(r); err != nil {
		return access{}, err
	}
	name, everywhere, isRead := readPhext(r, op, turn)
	other, ok := known.ByID(instance)
	if !ok {
		other = nobody
	}
	caller := who.caller
	if who.scoped != nil {
		caller = nil // it has rights at home only
	}
	switch scope := other.ScopeFor(caller); {
	case scope == rewrite.Guests:
		who.tenant, who.scope = other, scope.Within(who.scope.Access)
		return who, nil
	case scope != nil && isRead && (everywhere || scope.CoversPhext(name)):
		return access{known: known, tenant: other, scope: scope}, nil
	case who.caller == nil:
		return access{}, errWrongKey
	}
	return who, nil // rewrite refuses the id in front of the path
}

// checkLimited is the error for a new request without a key that has a long URL, if its
// address has to wait in any case: to parse it takes up to milliseconds.
func (g *Gateway) checkLimited(r *http.Request) error {
	if infoOf(r).known != nil || !isLong(r) { // one that was let in is looked at again
		return nil
	}
	if wait := g.KeyLimit.Wait(r); wait > 0 {
		return errWrongKeys(wait)
	}
	if wait := g.PublicLimit.Wait(r); wait > 0 {
		return errPublicReads(wait)
	}
	return nil
}

// readPhext is rewrite.ReadPhext. A long URL of a new request is parsed in its turn.
func readPhext(r *http.Request, op rewrite.Op, turn *fairqueue.Turn) (name string, everywhere, isRead bool) {
	if !isLong(r) {
		return rewrite.ReadPhext(r.Method, op, r.URL.RawQuery)
	}
	turn.Do(func() { name, everywhere, isRead = rewrite.ReadPhext(r.Method, op, r.URL.RawQuery) })
	return name, everywhere, isRead
}

// isLong says whether the URL of a request is parsed in a turn.
func isLong(r *http.Request) bool { return len(r.RequestURI) > parsedAside }

// classOf is the class of an operation, of which "" is none.
func classOf(op rewrite.Op) quota.Class {
	switch {
	case op == "":
		return quota.NoClass
	case op == rewrite.MCP:
		return quota.Uncounted
	case op.Mutates():
		return quota.Writes
	case op == rewrite.List || op == rewrite.Search:
		return quota.Lists
	}
	return quota.Reads
}

// nobody stands for a tenant that there is not.
var nobody = &tenants.Tenant{}

// callerOf is whose key or token a request has, and what that allows at home. There is no
// caller if it has none. Only a key in a header decides; only without one does a key in
// the path.
func (g *Gateway) callerOf(r *http.Request, known *tenants.Snapshot, at time.Time, turn *fairqueue.Turn) (who access, err error) {
	key, given := headerKey(r.Header)
	ok := false
	who.scope = rewrite.Everything
	if given {
		who.caller, ok = known.ByKey(key, at)
		if !ok {
			who.caller, who.scoped, ok = known.ByScopedKey(key)
		}
		switch {
		case who.scoped != nil && who.scoped.HasExpired(at):
			return access{tenant: who.caller, scoped: who.scoped}, errExpiredKey
		case who.scoped != nil:
			who.scope = who.scoped.Scope
		case !ok:
			if who.caller, who.scope, err = g.byToken(key, known, r, turn); err != nil {
				return access{}, err
			}
			ok = true
		}
	} else if key, _, given = rewrite.SplitPathKey(r.URL.Path); given {
		who.caller, ok = known.ByPathKey(key)
	}
	switch {
	case !given:
		return access{}, nil
	case !ok:
		return access{}, errWrongKey
	case !who.caller.Enabled:
		return access{tenant: who.caller, caller: who.caller, scoped: who.scoped}, datadir.ErrDisabled
	}
	who.key = key
	return who, nil
}

// byToken is the tenant that a JSON Web Token names, and what it allows. A token that was
// issued to an earlier tenant with the same id is wrong.
//
// To verify a token may take milliseconds, and nobody knows yet who asks. So one that is not
// known yet is verified in a turn of its address, and none is of an address that has sent too
// many wrong keys.
func (g *Gateway) byToken(token string, known *tenants.Snapshot, r *http.Request, turn *fairqueue.Turn) (*tenants.Tenant, *rewrite.Scope, error) {
	var limited error
	id, err := g.Tokens.Verify(token, func(work func()) error {
		if wait := g.KeyLimit.Wait(r); wait > 0 {
			limited = errWrongKeys(wait)
			return limited
		}
		turn.Do(work)
		return nil
	})
	switch {
	case limited != nil:
		return nil, nil, limited
	case errors.Is(err, jwtauth.ErrExpired):
		return nil, nil, errExpiredToken
	}
	t, ok := known.ByID(id.Tenant)
	if err != nil || !ok || !id.IssuedAt.IsZero() && id.IssuedAt.Before(t.Incarnation.Truncate(time.Second)) {
		return nil, nil, errWrongKey
	}
	if id.ReadOnly {
		return t, readOnly, nil
	}
	return t, rewrite.Everything, nil
}

// readOnly is the scope of a token with the access read.
var readOnly = rewrite.Everything.Within(rewrite.ReadAccess)

// allows is the error for a call that is beyond the rights of its request, or nil. The
// request may have taken its time, as its answer may: meanwhile its key may have been
// changed, or have expired, its tenant may be gone, and another may have its id. So
// whoever has waited for the client, or has read what a tenant has, asks again.
func (g *Gateway) allows(r *http.Request, call *rewrite.Call) error {
	if err := g.identifyAgain(r); err != nil {
		return err
	}
	a := &infoOf(r).access
	err := a.scope.Authorize(call)
	if err != nil && a.isPublic() {
		return errWrongKey
	}
	return cmp.Or(err, g.Dirs.CheckKey(a.scoped, call))
}

// fresh is how long a request counts as being from whom it was, if no tenant was changed:
// keys and tokens expire.
const fresh = time.Second

var errRightsChanged = apierror.RetryIn(time.Second, apierror.Unavailable, "the rights of this key were just changed, and nothing else was: try again")

func (g *Gateway) identifyAgain(r *http.Request) error {
	info, at := infoOf(r), g.now()
	if g.Tenants() == info.known && at.Sub(info.began) < fresh {
		return nil
	}
	now, err := g.identify(r, at, nil)
	switch gone := g.Dirs.CheckTenant(info.tenant); {
	case gone != nil:
		return gone
	case err == errWrongKey && !info.isPublic():
		return datadir.ErrKeyRevoked
	case err != nil:
		return err
	case !sameTenant(now.caller, info.caller), !sameTenant(now.tenant, info.tenant):
		return datadir.ErrKeyRevoked // it is another's now
	case !reflect.DeepEqual(now.scope, info.scope):
		return errRightsChanged
	}
	info.access = now
	return nil
}

// sameTenant says whether a tenant is enabled, and has the phexts that it had. Nobody stays
// nobody.
func sameTenant(now, was *tenants.Tenant) bool {
	if now == nil || was == nil {
		return now == was
	}
	return now.Enabled && now.UniqueID() == was.UniqueID() && now.DataDir == was.DataDir && now.SharedDataDir == was.SharedDataDir
}

// withAuthentication lets a request pass that has the key of an enabled tenant, or
// needs none.
//
// A request that another host has sent has a key that is good there. If it is not good
// here, it may be newer than what is known here.
func (g *Gateway) withAuthentication(fromHost bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoOf(r)
		who, err := g.identify(r, info.began, info.turn)
		if err != nil && fromHost && g.RefreshTenants != nil {
			g.RefreshTenants(r.Context())
			who, err = g.identify(r, info.began, info.turn)
		}
		infoOf(r).access = who
		switch {
		case err == errWrongKey && g.operatorsKey(r) != "":
			err = errOperatorsKey(g.operatorsKey(r))
		case err == errWrongKey || err == errExpiredToken || err == errExpiredKey:
			if wait := g.KeyLimit.Count(r); wait > 0 {
				err = errWrongKeys(wait)
			} else {
				w.Header().Set("WWW-Authenticate", `Bearer realm="sqgate"`)
			}
		case err == nil && who.isPublic():
			infoOf(r).sender = keylimit.Sender(r).String()
			if wait := g.PublicLimit.Count(r); wait > 0 {
				err = errPublicReads(wait)
			}
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		if size := http1.HeadMemory(infoOf(r).client); size > 0 && g.Headers != nil {
			g.serveLargeHeader(w, r, size, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveLargeHeader counts what a header takes for its caller: the answer may be a stream
// without an end.
func (g *Gateway) serveLargeHeader(w http.ResponseWriter, r *http.Request, size int64, next http.Handler) {
	share := g.Headers.Of(infoOf(r).recipient().Caller)
	if !share.Take(size) {
		g.refuse(w, r, http1.ErrNoRoom)
		return
	}
	defer share.Give(size)
	next.ServeHTTP(w, r)
}

// operatorsKey is what the key in the headers is at the management API, or "".
func (g *Gateway) operatorsKey(r *http.Request) string {
	key, given := headerKey(r.Header)
	if !given || g.OperatorKey == nil {
		return ""
	}
	return g.OperatorKey(key)
}

// isOperators says whether a request has the management key in any of the headers that may have
// it. Nothing is allowed by that.
func (g *Gateway) isOperators(r *http.Request) bool {
	return g.operatorsKey(r) != "" || g.OperatorKey != nil && g.OperatorKey(strings.TrimSpace(r.Header.Get("X-Admin-Api-Key"))) != ""
}

// withCallLimits counts a call, and refuses one past its caller's limits. Public
// reads have a limit of their own. An Uncounted call is counted by whoever serves it, and
// here if it was refused before that.
func (g *Gateway) withCallLimits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoOf(r)
		if info.caller == nil || info.class == quota.Uncounted {
			next.ServeHTTP(w, r)
			if info.caller != nil && !info.counted {
				_ = g.Calls.Admit(info.caller, quota.NoClass, info.began) // it has its answer already
			}
			return
		}
		if err := g.Calls.Admit(info.caller, info.class, info.began); err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headerKey takes the key from the headers in the contract's order. A header
// that is there twice with two values is not a key: proxies on the way could
// each have believed another one.
func headerKey(h http.Header) (key string, given bool) {
	for _, name := range []string{"Authorization", "X-Sq-Api-Key"} {
		values := h.Values(name)
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			return "", true
		}
		if name == "Authorization" {
			return credential(values[0]), true
		}
		return strings.TrimSpace(values[0]), true
	}
	return "", false
}

// credential reads `Bearer KEY` in any case, `Basic` with the key as password, or a bare key.
func credential(value string) string {
	value = strings.TrimSpace(value)
	scheme, rest, ok := strings.Cut(value, " ")
	if !ok {
		return value
	}
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return rest
	case "basic":
		return basicPassword(rest)
	}
	return value
}

func basicPassword(encoded string) string {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(b), ":")
	return password
}
