package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	hosts "mirrorborn.us/sqgate/storage/host"
)

// BucketStatus is what this process knows of its bucket.
type BucketStatus struct {
	URL           string        `json:"bucket"`
	Host          string        `json:"host"`
	Lease         bool          `json:"lease"` // without it, nothing is served
	Sync          bool          `json:"sync"`  // writes wait for the bucket
	LagSeconds    float64       `json:"lag_seconds"`
	BehindSeconds float64       `json:"behind_seconds"` // of the oldest write that is not there
	Since         time.Time     `json:"since"`          // of the requests
	Costs         bucket.Costs  `json:"requests"`
	Directories   []hosts.Owned `json:"directories"`
	Problems      []string      `json:"problems,omitempty"` // what of the tenants there this host cannot take
	Sizes         []BucketSize  `json:"sizes,omitempty"`
}

// BucketSize is the objects of a kind in the bucket.
type BucketSize struct {
	Kind    string `json:"kind"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

// BucketPlace is the bucket that InitBucket is to fill.
type BucketPlace struct {
	URL      string      `json:"bucket"`
	HostName string      `json:"host_name,omitempty"`
	Key      *bucket.Key `json:"key,omitempty"`    // nil: the server's own
	Dialer   string      `json:"dialer,omitempty"` // socket of a process that connects to the bucket's server
}

func (a *API) showBucket(w http.ResponseWriter, r *http.Request) error {
	status := a.BucketStatus()
	if status == nil {
		apierror.WriteJSON(w, http.StatusOK, map[string]any{"bucket": ""})
		return nil
	}
	if r.URL.Query().Get("sizes") == "true" {
		var err error
		if status.Sizes, err = a.BucketSizes(r.Context()); err != nil {
			return apierror.New(apierror.Unavailable, "the bucket cannot be listed: %v", err)
		}
	}
	apierror.WriteJSON(w, http.StatusOK, status)
	return nil
}

// initEvent is how far the filling of a bucket is. The last one has done or an error.
type initEvent struct {
	*hosts.Progress
	Done  bool   `json:"finished,omitempty"`
	Error string `json:"error,omitempty"`
}

// progressEvery is how often a caller is told of progress.
const progressEvery = time.Second

// initBucket fills a bucket for as long as the caller listens, and sends events about it.
// What cannot even begin is answered as an error.
func (a *API) initBucket(w http.ResponseWriter, r *http.Request) error {
	var to BucketPlace
	if err := decode(r, &to); err != nil {
		return err
	}
	if to.URL == "" {
		return badRequest(`field "bucket" is missing: the URL of a bucket is wanted, as --bucket has it`)
	}
	if a.BucketStatus() != nil {
		return apierror.New(apierror.Conflict, "sqgate was started with a bucket, and everything is there: `sqgate bucket status` shows how far it is")
	}
	if !a.filling.TryLock() {
		return apierror.New(apierror.Conflict, "a bucket is being filled already: wait for that")
	}
	defer a.filling.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-a.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	out := &initStream{w: w, cancel: cancel}
	last, begun := hosts.Progress{}, false
	err := a.InitBucket(ctx, to, func(p hosts.Progress) {
		if last = p; !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
		}
		if a.now().Sub(out.at) >= progressEvery {
			out.at = a.now()
			out.send(initEvent{Progress: &p})
		}
	})
	if errors.Is(err, hosts.ErrNotInBucket) {
		err = fmt.Errorf("the bucket has other phexts under the name of a directory, so use another prefix, or remove those: %w", err)
	}
	if !begun && err != nil {
		return badRequest("%v", err)
	}
	end := initEvent{Progress: &last, Done: err == nil}
	if err != nil {
		end.Error = err.Error()
	}
	out.send(end)
	a.record(r, "bucket-init", "", nil, map[string]any{"bucket": to.URL, "phexts": last.Phexts, "error": end.Error})
	return nil
}

type initStream struct {
	w      http.ResponseWriter
	cancel func() // when nobody listens any more
	at     time.Time
}

func (s *initStream) send(e initEvent) {
	text, err := json.Marshal(e)
	if err == nil {
		_, err = s.w.Write(append(append([]byte("data: "), text...), "\n\n"...))
	}
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	if err != nil {
		s.cancel()
	}
}
