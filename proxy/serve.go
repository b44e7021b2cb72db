package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/storage/writer"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// serveCall understands an authenticated request and has it answered.
func (g *Gateway) serveCall(w http.ResponseWriter, r *http.Request) {
	info := infoOf(r)
	head, err := rewrite.ParseHead(r.Method, info.path, r.URL.RawQuery, datadir.RewriteTenant(info.tenant))
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	info.op = head.Op
	head.Pace, head.Recipient = info.turn.Pace(), info.recipient()
	if info.isPublic() {
		head.IgnoreBody() // the phext, and with it the right to read it, is known from the query
	}
	if head.Op == rewrite.Changes { // which takes none of the places of requests that end soon
		if err := g.serveChanges(w, r, head); err != nil {
			g.refuse(w, r, err)
		}
		return
	}
	dir := g.Dirs.Of(info.tenant.DataDir)
	if head.Op == rewrite.Search || head.Op == rewrite.History || head.Op == rewrite.Restore {
		leave, err := dir.EnterSearch(info.group())
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		defer leave()
	}
	leave, err := dir.Enter(info.group())
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	if head.Op == rewrite.MCP {
		leave = sync.OnceFunc(leave)
		info.leave = leave
	}
	defer leave()
	budgets := dir.BodyBudgets(info.group(), info.owner())
	body := memlimit.Reserve(budgets[:]...)
	defer body.Release()
	call, err := g.parse(r, head, body)
	if err == nil {
		err = g.allows(r, call)
	}
	if err == nil {
		err = g.dispatch(w, r, dir, call)
	}
	if err != nil {
		g.refuse(w, r, err)
	}
}

// parse reads the body, if it means anything, and completes the call. What is longer than
// parsedAside is parsed in a turn.
func (g *Gateway) parse(r *http.Request, head *rewrite.Head, held *memlimit.Reservation) (*rewrite.Call, error) {
	var body []byte
	if head.TakesBody() && framed(r) {
		if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return nil, errEncoded
		}
		var err error
		if body, err = g.readBody(r, held, head.LargestBody(g.Dirs.MaxBody)); err != nil {
			return nil, err
		}
		if g.Hosts != nil {
			infoOf(r).body = body
		}
	}
	turn := infoOf(r).turn
	if len(body)+len(r.URL.RawQuery)+len(r.URL.Path) > parsedAside {
		if err := turn.Take(r.Context()); err != nil {
			return nil, err
		}
		defer turn.Give()
	}
	if err := growFor(held, head.ParsedMemory(body, r.URL.RawQuery), turn); err != nil {
		return nil, err
	}
	return head.Call(body)
}

// growFor has held have more bytes, for lists. It may wait, without the turn.
func growFor(held *memlimit.Reservation, more int64, turn *fairqueue.Turn) error {
	if more > memlimit.Little {
		defer turn.Suspend()()
	}
	switch {
	case more == 0:
	case !held.Fits(held.Size() + more):
		return errListTooLarge
	case !held.Grow(held.Size() + more):
		return datadir.ErrBusy
	}
	return nil
}

// parsedAside is the size of a body or a URL, in bytes, up to which it is parsed beside the turns:
// it may be of many small parts, and parsing takes milliseconds then.
const parsedAside = 1 << 10

// framed says whether a request has a body, if only an empty one: a length or
// chunks. Over HTTP/1.0 there are no chunks.
func framed(r *http.Request) bool {
	return r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Content-Length") != ""
}

// dispatch answers a call. An error is returned only while nothing was written to w.
func (g *Gateway) dispatch(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	switch {
	case call.Published != nil:
		return g.servePublished(w, r, dir, call)
	case call.Op == rewrite.Usage:
		return g.answerUsage(w, r, dir, call)
	case call.Op == rewrite.History:
		return g.answerHistory(w, r, call)
	case call.Op == rewrite.Restore:
		return g.restore(w, r, call)
	case call.Op == rewrite.Where:
		if err := infoOf(r).turn.Take(r.Context()); err != nil {
			return err
		}
		g.writeText(w, reader.Where(call))
		return nil
	case call.Op == rewrite.MCP:
		return g.serveMCP(w, r, dir, call)
	case call.Batch != nil:
		return g.writeBatch(w, r, call)
	case call.Op.Mutates():
		return g.write(w, r, call)
	case g.Reader.Forwards(call):
		return g.forward(w, r, dir, call)
	}
	return g.read(w, r, dir, call)
}

// write commits a mutation and says what became of it.
func (g *Gateway) write(w http.ResponseWriter, r *http.Request, call *rewrite.Call) error {
	result, err := g.commit(w, r, call)
	if err == nil {
		g.writeBody(w, result.Body)
	}
	return err
}

// writeBatch commits a batch, whose answer is JSON.
func (g *Gateway) writeBatch(w http.ResponseWriter, r *http.Request, call *rewrite.Call) error {
	if len(r.Header.Values("If-Match")) > 0 {
		return errIfMatchOfBatch
	}
	result, err := g.commit(w, r, call)
	if err != nil {
		return err
	}
	defer result.Release()
	w.Header().Set("Content-Type", apierror.JSON)
	g.writeBody(w, result.Body)
	return nil
}

// commit commits a mutation and sets the headers of its answer.
func (g *Gateway) commit(w http.ResponseWriter, r *http.Request, call *rewrite.Call) (writer.Result, error) {
	info := infoOf(r)
	var other *tenants.Tenant
	if info.caller != info.tenant {
		other = info.caller
	}
	result, err := g.Writer.Commit(r.Context(), writer.Request{
		ID: info.id, Tenant: info.tenant, Writer: other, Key: info.scoped, KeyName: info.keyName(), Call: call,
		IfMatch: r.Header.Values("If-Match"), IdempotencyKey: r.Header.Get("Idempotency-Key"),
	})
	if err != nil {
		return result, withFigures(call, err)
	}
	if result.Changed {
		setQuotaUsed(w, call, result.QuotaUsed)
	}
	if result.ETag != "" {
		w.Header().Set("ETag", result.ETag)
	}
	return result, nil
}

// setQuotaUsed tells how much of its quota the tenant uses, if the caller may know that.
func setQuotaUsed(w http.ResponseWriter, call *rewrite.Call, used float64) {
	if call.ShowsFigures() {
		w.Header().Set("X-SQ-Quota-Used", strconv.FormatFloat(min(1, used), 'f', 3, 64))
	}
}

var (
	errNoQuotaLeft = apierror.New(apierror.QuotaExceeded, "this write would be more than the tenant may have, and nothing was changed: ask whoever lets you write here")
	errNoDiskLeft  = apierror.New(apierror.DiskFull, "the disk has no room for this write, and nothing was changed: ask whoever lets you write here")
)

// withFigures is the error of a write as its caller may know it: with what the tenant has,
// or without.
func withFigures(call *rewrite.Call, err error) error {
	var quotas *quota.ExceededError
	var disk *quota.DiskError
	switch {
	case call.ShowsFigures():
	case errors.As(err, &quotas):
		return errNoQuotaLeft
	case errors.As(err, &disk):
		return errNoDiskLeft
	}
	return err
}

// revalidate lets an answer be kept, if it is asked for again before it is used.
var revalidate = []string{"private, no-cache"}

// read answers from memory. A client that has the answer already, by its
// entity tag, is told so.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, dir *datadir.Dir, call *rewrite.Call) error {
	answer, err := g.Reader.Read(r.Context(), dir, call, acceptsGzip(r.Header.Values("Accept-Encoding")))
	if err != nil {
		return err
	}
	defer answer.Release()
	if err := g.allows(r, call); err != nil {
		return err
	}
	g.writeAnswer(w, r, call, answer)
	return nil
}

func (g *Gateway) writeAnswer(w http.ResponseWriter, r *http.Request, call *rewrite.Call, answer reader.Answer) {
	h := w.Header()
	switch call.Op {
	case rewrite.JSONExport, rewrite.Query, rewrite.List, rewrite.Search:
		h.Set("Content-Type", apierror.JSON)
	}
	if reader.Compresses(call.Op) {
		h["Vary"] = acceptEncoding
	}
	if answer.ETag != "" {
		h["Etag"] = []string{answer.ETag}
		h["Cache-Control"] = revalidate
		if etag.Matches(r.Header.Values("If-None-Match"), answer.ETag) {
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if answer.Gzip {
		h["Content-Encoding"] = []string{"gzip"}
	}
	if answer.Stream != nil {
		g.setWriteDeadline(w, answer.Size)
		h["Content-Length"] = []string{strconv.Itoa(answer.Size)}
		answer.Stream(w)
		return
	}
	g.writeText(w, answer.Text)
}

// acceptEncoding is the value of Vary where an answer may be compressed.
var acceptEncoding = []string{"Accept-Encoding"}

// acceptsGzip says whether Accept-Encoding names gzip, with a weight above 0.
func acceptsGzip(headers []string) bool {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			coding, weight, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				_, q, weighed := strings.Cut(weight, "=")
				return !weighed || strings.Trim(q, " 0.") != ""
			}
		}
	}
	return false
}

func (g *Gateway) writeText(w http.ResponseWriter, text string) {
	// net/http sends bytes as they are, and a string in pieces of 4 KB.
	g.writeBody(w, unsafe.Slice(unsafe.StringData(text), len(text)))
}

// writeBody sends the answer. It must not write to body, which may be a string's.
func (g *Gateway) writeBody(w http.ResponseWriter, body []byte) {
	g.setWriteDeadline(w, len(body))
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body) // the client may have gone; the access log has the count
}

func (g *Gateway) setWriteDeadline(w http.ResponseWriter, bytes int) {
	_ = http.NewResponseController(w).SetWriteDeadline(g.now().Add(pace.AnswerTime(bytes))) // a test's recorder has no deadlines
}
