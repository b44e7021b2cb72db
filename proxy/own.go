package proxy

import (
	"bytes"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/internal/strictjson"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// What a tenant sees of itself: what it uses, and the past of its phexts.

// usage is what a key may know of its tenant. A megabyte is 1,048,576 bytes. A key that is
// for some phexts has the figures of those, and one with a prefix has none.
type usage struct {
	Tenant            string     `json:"tenant_id"`
	StorageUsedMB     *float64   `json:"storage_used_mb,omitempty"`
	StorageUsedBytes  *int64     `json:"storage_used_bytes,omitempty"`
	QuotaMB           *int64     `json:"quota_mb,omitempty"` // 0 = no limit
	Phexts            *int       `json:"phexts,omitempty"`
	MaxPhexts         *int       `json:"max_phexts,omitempty"`
	CallsToday        *int64     `json:"api_calls_today,omitempty"` // with this one
	LastActive        *time.Time `json:"last_active,omitempty"`
	RequestsPerMinute int        `json:"requests_per_minute,omitempty"`
	ReadsPerMinute    int        `json:"reads_per_minute,omitempty"`
	WritesPerMinute   int        `json:"writes_per_minute,omitempty"`
	ListsPerMinute    int        `json:"lists_per_minute,omitempty"`
	CallsPerDay       int        `json:"calls_per_day,omitempty"`
	Left              *left      `json:"left,omitempty"`
	Key               keyRights  `json:"key"`
}

// left is what is left of each limit, by its name. A limit that is not set is left out.
type left struct {
	QuotaMB           *float64 `json:"quota_mb,omitempty"`
	MaxPhexts         int      `json:"max_phexts"`
	RequestsPerMinute *int     `json:"requests_per_minute,omitempty"`
	ReadsPerMinute    *int     `json:"reads_per_minute,omitempty"`
	WritesPerMinute   *int     `json:"writes_per_minute,omitempty"`
	ListsPerMinute    *int     `json:"lists_per_minute,omitempty"`
	CallsPerDay       *int     `json:"calls_per_day,omitempty"`
}

// keyRights is the key of a request, and what it may do.
type keyRights struct {
	ID      string     `json:"id"` // as the history has it
	Access  string     `json:"access"`
	Phexts  []string   `json:"phexts,omitempty"` // patterns; none = all
	Prefix  string     `json:"prefix,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
}

func rightsOf(i *requestInfo) keyRights {
	k := keyRights{ID: i.keyName(), Access: i.scope.Access.String(), Phexts: i.scope.Phexts}
	if i.scope.Prefix != nil {
		k.Prefix = i.scope.Prefix.Text
	}
	if i.scoped != nil && !i.scoped.Expires.IsZero() {
		k.Expires = &i.scoped.Expires
	}
	return k
}

func (g *Gateway) answerUsage(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	info := infoOf(r)
	if err := dir.Recover(r.Context()); err != nil { // the files may not be here, or not as they should be
		return err
	}
	t := info.tenant
	u := usage{Tenant: t.ID, Key: rightsOf(info), RequestsPerMinute: t.RequestsPerMinute, ReadsPerMinute: t.ReadsPerMinute,
		WritesPerMinute: t.WritesPerMinute, ListsPerMinute: t.ListsPerMinute, CallsPerDay: t.CallsPerDay}
	if call.ShowsAll() {
		use, err := g.useOf(t, call)
		if err == nil && use.Phexts == 0 { // it may only seem so
			err = dir.CheckPresent()
		}
		if err != nil {
			return err
		}
		u.StorageUsedBytes, u.StorageUsedMB, u.Phexts = &use.Bytes, new(megabytes(use.Bytes)), &use.Phexts
		if call.ShowsFigures() {
			u.addTenant(t, use, g.Calls, g.now())
		}
	}
	if err := g.allows(r, call); err != nil {
		return err
	}
	g.writeJSON(w, u)
	return nil
}

// useOf is the use of those phexts that a key is for.
func (g *Gateway) useOf(t *tenants.Tenant, call *rewrite.Call) (quota.Use, error) {
	if call.ShowsFigures() {
		return g.Ledger.Use(t)
	}
	return g.Ledger.UseOf(t, func(file string) bool {
		name, ok := call.PhextOf(file)
		return ok && call.ShowsPhext(name)
	})
}

// addTenant adds what concerns the whole tenant.
func (u *usage) addTenant(t *tenants.Tenant, use quota.Use, calls *quota.Calls, now time.Time) {
	stats, rest := calls.Of(t, now), calls.Left(t, now)
	u.QuotaMB, u.MaxPhexts, u.CallsToday, u.LastActive = new(t.QuotaBytes>>20), &t.MaxPhexts, &stats.Today, &stats.LastActive
	u.Left = &left{MaxPhexts: max(0, t.MaxPhexts-use.Phexts)}
	if t.QuotaBytes > 0 {
		u.Left.QuotaMB = new(megabytes(max(0, t.QuotaBytes-use.Bytes)))
	}
	for _, one := range []struct {
		limit, left int
		into        **int
	}{
		{t.RequestsPerMinute, rest.Requests, &u.Left.RequestsPerMinute}, {t.ReadsPerMinute, rest.Reads, &u.Left.ReadsPerMinute},
		{t.WritesPerMinute, rest.Writes, &u.Left.WritesPerMinute}, {t.ListsPerMinute, rest.Lists, &u.Left.ListsPerMinute},
		{t.CallsPerDay, rest.Today, &u.Left.CallsPerDay},
	} {
		if one.limit > 0 {
			*one.into = &one.left
		}
	}
}

// megabytes has six decimals, as stats of the management API.
func megabytes(bytes int64) float64 { return math.Round(float64(bytes)/(1<<20)*1e6) / 1e6 }

func errNoMoment(name, text string) error {
	return apierror.New(apierror.BadRequest, "%q is %.80q: a time such as 2026-01-31T15:04:05.123Z, a date or a duration back from now such as 90m is wanted", name, text)
}

// answerHistory answers with what was done to phexts.
func (g *Gateway) answerHistory(w http.ResponseWriter, r *http.Request, call *rewrite.Call) error {
	info, past := infoOf(r), call.History
	sel := history.Selection{Call: call, Limit: history.MostEvents}
	if past.Limit > 0 {
		sel.Limit = min(sel.Limit, past.Limit)
	}
	if past.After != "" {
		var ok bool
		if sel.After, ok = duration.Back(past.After, g.now()); !ok {
			return errNoMoment("after", past.After)
		}
	}
	page, err := g.History.Events(r.Context(), info.tenant, sel)
	if err != nil {
		return err
	}
	defer page.Release()
	if err := g.allows(r, call); err != nil {
		return err
	}
	if err := info.turn.Take(r.Context()); err != nil {
		return err
	}
	w.Header().Set("Content-Type", apierror.JSON)
	g.writeText(w, historyText(info.tenant, &page, info.turn.Pace()))
	return nil
}

// perEvent is what an event of the history counts as work, in bytes, beside its JSON.
const perEvent = 1 << 10

// historyText is the JSON of a page, event by event.
func historyText(t *tenants.Tenant, page *history.Page, pace phext.Pace) string {
	out, one := phext.Builder{Pace: pace}, bytes.Buffer{}
	out.WriteString(`{"tenant_id":"` + t.ID + `","events":[`)
	for i := range page.Events {
		if i > 0 {
			out.WriteString(",")
		}
		one.Reset()
		strictjson.WriteLine(&one, page.Entry(i))
		_, _ = out.Write(bytes.TrimSuffix(one.Bytes(), []byte("\n"))) // which never fails
		pace.Did(perEvent)
	}
	out.WriteString(`],"more":` + strconv.FormatBool(page.More) + "}\n")
	return out.String()
}

// jsonText is a value as JSON on one line. Names stay as short as they are.
func jsonText(v any) string {
	var out strings.Builder
	strictjson.WriteLine(&out, v)
	return out.String()
}

var errNoCondition = apierror.New(apierror.BadRequest,
	"restore takes no If-Match, so nothing was changed: leave it out, or give dry_run to see what would change")

// restore makes a phext or a scroll what it was.
func (g *Gateway) restore(w http.ResponseWriter, r *http.Request, call *rewrite.Call) error {
	info := infoOf(r)
	at, ok := duration.Back(call.History.At, g.now())
	switch {
	case !ok:
		return errNoMoment("at", call.History.At)
	case r.Header.Get("If-Match") != "":
		return errNoCondition
	}
	result, err := g.History.RestoreOwn(r.Context(), info.tenant, history.Own{
		Call: call, Key: info.scoped, KeyName: info.keyName(), IdempotencyKey: r.Header.Get("Idempotency-Key"), At: at,
		Answer: func(done []history.Restored) string { return restoreAnswer(info.tenant, done, call.History.DryRun) },
	})
	if err != nil {
		return withFigures(call, err)
	}
	if result.Changed {
		setQuotaUsed(w, call, result.QuotaUsed)
	}
	w.Header().Set("Content-Type", apierror.JSON)
	g.writeText(w, result.Answer)
	return nil
}

func restoreAnswer(t *tenants.Tenant, done []history.Restored, dryRun bool) string {
	return jsonText(struct {
		Tenant   string             `json:"tenant_id"`
		Restored []history.Restored `json:"restored"`
		Removed  []string           `json:"removed"`
		DryRun   bool               `json:"dry_run"`
	}{t.ID, done, history.Removed(done), dryRun})
}
