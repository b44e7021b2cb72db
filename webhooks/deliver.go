package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/internal/strictjson"
	"mirrorborn.us/sqgate/storage/changes"
)

// How a change is delivered.
const (
	attemptTimeout = 10 * time.Second // for a request, from the look-up of the name to the answer
	pauseFirst     = time.Second      // after the first failure; each further one doubles it
	pauseMost      = time.Hour
	giveUpAfter    = 24 * time.Hour // since the first attempt
	mostAnswer     = 64 << 10       // bytes of an answer that are read, so that its connection is used again
)

// message is the body of a request, with the id by which the receiver knows it again.
type message struct {
	id   string
	body []byte
	at   time.Time // when it was made
	keep bool      // it is never given up
}

// changeMessage has an id that is the same whenever the change is read, which that of the
// change, a cursor, need not be.
func changeMessage(c *changes.Change) message {
	same := *c
	same.ID = ""
	sum := sha256.Sum256(encode(same))
	return message{id: base64.RawURLEncoding.EncodeToString(sum[:16]), body: encode(c), at: c.Time}
}

// resyncMessage tells the receiver that it was not told of everything until now.
func resyncMessage(s state) message {
	return message{id: "resync-" + s.Cursor, at: s.Resync, keep: true, body: encode(struct {
		ID   string    `json:"id"` // the cursor behind which the changes are that follow
		Time time.Time `json:"time"`
		Op   string    `json:"op"`
	}{s.Cursor, s.Resync, "resync"})}
}

// encode is v as the changes feed writes it.
func encode(v any) []byte {
	var out bytes.Buffer
	strictjson.WriteLine(&out, v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// errGone is the answer of a receiver that wants nothing more.
var errGone = errors.New("the receiver answered 410, which ends the webhook")

// deliver makes requests until one succeeds, or the change is given up. It returns
// Delivered if the first one did, Failed if a later one did, and Dropped. An error means
// that nothing is settled.
func (h *hook) deliver(ctx context.Context, f feed, m message) (Result, error) {
	h.setPending(m.at)
	defer h.setPending(time.Time{})
	began := time.Now()
	result := Delivered
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		if f.Moved() {
			return "", errElsewhere
		}
		asked, err := h.attempt(ctx, m)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err == nil:
			h.delivered(result)
			return result, nil
		}
		h.service.Count(h.tenant.ID, Failed)
		h.failed(err, result == Delivered)
		if result = Failed; errors.Is(err, errGone) {
			h.state.Gone, h.dirtyBy = true, time.Now()
			return "", errGone
		}
		if !m.keep && time.Since(began) >= giveUpAfter {
			h.service.Count(h.tenant.ID, Dropped)
			h.service.Logger.ErrorContext(ctx, "a webhook's receiver has not taken a change for a day: it is dropped, and the receiver is told so", h.attributes(slog.Any(logkey.Error, err))...)
			return Dropped, nil
		}
		// A receiver that asks for time gets it, within bounds.
		if !sleep(ctx, max(jitter(pause), min(asked, pauseMost))) {
			return "", ctx.Err()
		}
	}
}

func (h *hook) setPending(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending = at
}

func (h *hook) delivered(result Result) {
	h.service.Count(h.tenant.ID, Delivered)
	if result == Failed {
		h.service.Logger.Info("a webhook's receiver takes changes again", h.attributes()...)
	}
	h.setStatus(func(s *Status) { *s = Status{State: Active, LastDelivered: time.Now()} })
}

func (h *hook) failed(err error, first bool) {
	switch gone := errors.Is(err, errGone); {
	case gone:
		h.service.Logger.Warn("a webhook has ended, because its receiver wants nothing more", h.attributes(slog.Any(logkey.Error, err))...)
	case first:
		h.service.Logger.Warn("a webhook's receiver does not take a change: it is tried again for a day", h.attributes(slog.Any(logkey.Error, err))...)
	}
	h.setStatus(func(s *Status) {
		if s.Error = err.Error(); s.FailingSince.IsZero() {
			s.FailingSince = time.Now()
		}
		if s.State = Failing; errors.Is(err, errGone) {
			s.State = Gone
		}
	})
}

// attempt makes one request, when it is the turn of the tenant. retryAfter is for how long
// the receiver wants to be left alone.
func (h *hook) attempt(ctx context.Context, m message) (retryAfter time.Duration, err error) {
	s := h.service
	for _, limit := range []interface{ Wait(context.Context) error }{h.share.pace, s.pace} {
		if err := limit.Wait(ctx); err != nil {
			return 0, err
		}
	}
	if err := h.share.atOnce.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer h.share.atOnce.Release(1)
	if err := s.atOnce.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer s.atOnce.Release(1)
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(m.body))
	if err != nil {
		return 0, errors.New("the URL cannot be used")
	}
	h.sign(req, m, time.Now())
	// Not by an http.Client: redirects are not followed.
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return 0, shortened(err)
	}
	defer resp.Body.Close()
	// Behind the status 101, it is the connection, which does not end with the request.
	defer context.AfterFunc(ctx, func() { _ = resp.Body.Close() })()
	_, _ = io.CopyN(io.Discard, resp.Body, mostAnswer) // what the receiver says beside the status does not count
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return 0, nil
	case resp.StatusCode == http.StatusGone:
		return 0, errGone
	}
	seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31) // 0 if there is none, or another form
	return time.Duration(seconds) * time.Second, fmt.Errorf("the receiver answered %d", resp.StatusCode)
}

// longestError is how much of an error is kept and logged, in bytes.
const longestError = 300

// shortened is an error of which a receiver may have written a part, as much as it liked.
func shortened(err error) error {
	if text := err.Error(); len(text) > longestError {
		return errors.New(strings.ToValidUTF8(text[:longestError], "") + "…")
	}
	return err
}

// sign sets the headers of the Standard Webhooks specification.
func (h *hook) sign(req *http.Request, m message, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, h.Secret())
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", m.id, timestamp, m.body) // a hash does not fail
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sqgate-webhooks")
	req.Header.Set("webhook-id", m.id)
	req.Header.Set("webhook-timestamp", timestamp)
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	// It is not sent, and has the transport repeat a request whose kept connection the
	// receiver has closed meanwhile.
	req.Header["Idempotency-Key"] = nil
}
