package proxy

import (
	"log/slog"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/rewrite"
)

var (
	errWrongKey = apierror.New(apierror.Unauthorized,
		"the API key is missing or wrong: send it as 'Authorization: Bearer KEY'")
	errExpiredToken = apierror.New(apierror.Unauthorized, "the token has expired: get a new one")
	errExpiredKey   = apierror.New(apierror.Unauthorized, "this key has expired: get a new one")
	errBackend      = apierror.New(apierror.BackendFailed,
		"the database did not answer as it should: the operator's log says more")
	errEncoded = apierror.New(apierror.Encoded,
		"the body has a Content-Encoding, and bodies are stored as they come: send the text itself, without compression")
	errIfMatchOfBatch = apierror.New(apierror.BadRequest,
		"the header If-Match is about one scroll, and a batch has several operations: nothing was changed; put it into the operation that it is about, as if_match")
	errListTooLarge = apierror.New(apierror.TooLarge,
		"to read this body takes more memory than one tenant may have: send a manifest, a set or a batch in parts, and a text as it is, with the coordinate in the URL")
)

func errWrongKeys(wait time.Duration) error {
	return apierror.RetryIn(wait, apierror.RateLimited, "too many wrong API keys from this address: try again later, with the right one")
}

// errOperatorsKey is told only to whoever has that key.
func errOperatorsKey(what string) error {
	return apierror.New(apierror.Forbidden, "this is the %s: a tenant's calls take that tenant's API key", what)
}

func errPublicReads(wait time.Duration) error {
	return apierror.RetryIn(wait, apierror.RateLimited, "too many reads without an API key from this address: try again later, or send a key")
}

func errNoScroll(coordinate string) error {
	e := apierror.New(apierror.NotFound, "Coordinate not found") // the words of the published reference
	e.Coordinate = coordinate
	return e
}

func errBodyTooLarge(limit int64) error {
	return apierror.New(apierror.TooLarge,
		"this is larger than %d bytes, or would make the phext so, which is the most there can be: store it in parts", limit)
}

func errBodyCutShort(err error) error {
	return apierror.New(apierror.BadRequest, "the body ended before it was complete (%v): nothing was changed, send it again", err)
}

// refuse answers with an error, and keeps its code for the access log. What the
// operator has to look after is logged with its reason. An error that is none of
// apierror's table is the backend's, and the log says more.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	info := infoOf(r)
	if info.movedAway(err) {
		return
	}
	e, level := apierror.From(err), slog.LevelWarn
	if e == nil {
		e, level = errBackend, slog.LevelError
	}
	if e.IsOperators() {
		attrs := []slog.Attr{slog.String(logkey.Request, info.id), slog.Any(logkey.Error, err)}
		if info.tenant != nil {
			attrs = append(attrs, slog.String(logkey.Tenant, info.tenant.ID), slog.String(logkey.DataDir, info.tenant.DataDir))
		}
		g.Logger.LogAttrs(r.Context(), level, "a request failed", attrs...)
	}
	info.code = e.Code
	if rewrite.IsPublished(info.path) {
		apierror.WritePublished(w, e)
		return
	}
	apierror.Write(w, e)
}
