package admin

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// Limits of the streams of events. All that they send is worked out while somebody
// listens, and at no other time.
const (
	eventInterval = time.Second
	eventPart     = 20 // at most one part in so many of a stream's time is spent on its events
	mostListeners = 8
	longestStream = 15 * time.Minute // a page then opens another one
)

var errTooManyListeners = apierror.RetryIn(10*time.Second, apierror.Unavailable, "%d others look at the status already: close one of their pages", mostListeners)

// event is the state of the gateway. After the first event of a stream, it has only
// what is not as it was.
type event struct {
	At      time.Time         `json:"at"`
	Tenants []json.RawMessage `json:"tenants,omitempty"`
	Removed []string          `json:"removed,omitempty"` // ids
	Calls   json.RawMessage   `json:"calls,omitempty"`
	SQ      json.RawMessage   `json:"sq,omitempty"`
	Config  json.RawMessage   `json:"config,omitempty"`
	Storage json.RawMessage   `json:"storage,omitempty"`
	Bucket  json.RawMessage   `json:"bucket,omitempty"` // if there is one
	Hosts   json.RawMessage   `json:"hosts,omitempty"`  // if others share it
	Audit   json.RawMessage   `json:"audit,omitempty"`
}

// tenantEvent is a tenant with its last minutes.
type tenantEvent struct {
	tenantView
	Calls  slots  `json:"calls,omitzero"`
	Errors slots  `json:"errors,omitzero"`
	Error  string `json:"error,omitempty"` // its directory cannot be read or written, and why
}

// callsView is the last minutes of the whole gateway. Errors are answers of 400 and
// above, also those to nobody's requests.
type callsView struct {
	SlotSeconds int   `json:"slot_seconds"`
	Calls       slots `json:"calls"`
	Errors      slots `json:"errors"`
}

type configView struct {
	ReadAt time.Time `json:"read_at"`
	Error  string    `json:"error,omitempty"`
}

// sqView is the SQ processes. Those in trouble come first, and at most mostChildren.
type sqView struct {
	States   map[supervisor.State]int `json:"states"`
	Missing  int                      `json:"data_dirs_missing"`
	Children []childView              `json:"children"`
}

// bucketView is what of a BucketStatus is worth a look each second.
type bucketView struct {
	URL           string  `json:"bucket"`
	Lease         bool    `json:"lease"`
	Sync          bool    `json:"sync"`
	BehindSeconds float64 `json:"behind_seconds"`
}

type childView struct {
	Dir       string           `json:"data_dir"`
	State     supervisor.State `json:"state"`
	PID       int              `json:"pid,omitempty"`
	Starts    int              `json:"starts"`
	StartedAt time.Time        `json:"started_at,omitzero"`
}

const mostChildren = 100

// sendEvents streams the state of the gateway as server-sent events, until the client
// leaves, EndStreams is called, or longestStream is over. With ?once=true it sends one.
func (a *API) sendEvents(w http.ResponseWriter, r *http.Request) error {
	if !a.listeners.TryAcquire(1) {
		return errTooManyListeners
	}
	defer a.listeners.Release(1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	out, sent := http.NewResponseController(w), &sentState{seed: maphash.MakeSeed(), sums: map[string]uint64{}}
	once := r.URL.Query().Get("once") == "true"
	end := time.NewTimer(longestStream)
	defer end.Stop()
	for {
		began := time.Now()
		text, err := json.Marshal(a.eventSince(sent))
		if err != nil {
			return err
		}
		took := time.Since(began)
		if _, err := w.Write(append(append([]byte("data: "), text...), "\n\n"...)); err != nil || once {
			return nil // the client has gone, or has all
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		select {
		case <-a.ending:
			return nil
		case <-end.C:
			return nil
		case <-time.After(max(eventInterval, eventPart*took)):
		}
	}
}

// EndStreams ends all streams of events, now and from now on. It may be called again.
func (a *API) EndStreams() { a.endOnce.Do(func() { close(a.ending) }) }

// sentState knows what a stream has sent, by its checksums.
type sentState struct {
	seed maphash.Seed
	sums map[string]uint64
}

// changed is v in JSON, or nil if that was sent already under this name.
func (s *sentState) changed(name string, v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return nil // there is no such value
	}
	sum := maphash.Bytes(s.seed, text)
	if was, ok := s.sums[name]; ok && was == sum {
		return nil
	}
	s.sums[name] = sum
	return text
}

// The names of a stream's parts. No tenant's id has a slash.
const (
	callsPart   = "/calls"
	sqPart      = "/sq"
	configPart  = "/config"
	storagePart = "/storage"
	bucketPart  = "/bucket"
	hostsPart   = "/hosts"
	auditPart   = "/audit"
)

// eventSince has what is not as sent knows it.
func (a *API) eventSince(sent *sentState) event {
	current, children := a.Store.Current(), a.children()
	a.Counts.recent.keep(current)
	e := event{At: a.now().UTC()}
	total := callsView{SlotSeconds: int(slotTime / time.Second)}
	total.Calls, total.Errors = a.Counts.recent.of("")
	for _, t := range current.All() {
		one := a.tenantEventOf(t, children)
		total.Calls.add(one.Calls)
		total.Errors.add(one.Errors)
		if text := sent.changed(t.ID, one); text != nil {
			e.Tenants = append(e.Tenants, text)
		}
	}
	for id := range sent.sums {
		if _, ok := current.ByID(id); !ok && id[0] != '/' {
			e.Removed = append(e.Removed, id)
			delete(sent.sums, id)
		}
	}
	e.Calls = sent.changed(callsPart, total)
	e.SQ = sent.changed(sqPart, a.sqNow())
	e.Config = sent.changed(configPart, a.configNow())
	e.Storage = sent.changed(storagePart, a.storageNow())
	if b := a.BucketStatus(); b != nil {
		e.Bucket = sent.changed(bucketPart, bucketView{b.URL, b.Lease, b.Sync, b.BehindSeconds})
	}
	if list := a.hostsNow(); list != nil {
		e.Hosts = sent.changed(hostsPart, list.still())
	}
	e.Audit = sent.changed(auditPart, a.audit.last())
	return e
}

func (a *API) tenantEventOf(t *tenants.Tenant, children map[string]supervisor.ChildStatus) tenantEvent {
	v, err := a.viewOf(t, children)
	one := tenantEvent{tenantView: v}
	if err != nil {
		one.Error = err.Error()
	}
	one.Calls, one.Errors = a.Counts.recent.of(t.ID)
	return one
}

func (a *API) configNow() configView {
	status := a.Store.Status()
	v := configView{ReadAt: status.At.UTC()}
	if status.Err != nil {
		v.Error = status.Err.Error()
	}
	return v
}

func (a *API) sqNow() sqView {
	v := sqView{States: map[supervisor.State]int{}, Missing: a.Dirs.Missing(), Children: []childView{}}
	var others []childView
	for _, c := range a.Children.Children() {
		v.States[c.State]++
		one := childView{Dir: c.Dir, State: c.State, PID: c.PID, Starts: c.Starts, StartedAt: c.StartedAt}
		if c.State == supervisor.StateReady {
			others = append(others, one)
		} else {
			v.Children = append(v.Children, one)
		}
	}
	v.Children = append(v.Children, others...)
	v.Children = v.Children[:min(len(v.Children), mostChildren)]
	return v
}

// auditTail is how much of the end of the audit log is looked at, in bytes, and
// auditLines how many lines are shown. auditDetail bounds what is shown of a line's
// values, in bytes.
const (
	auditTail   = 64 << 10
	auditLines  = 20
	auditDetail = 400
)

// auditEvent is a line of the audit log, with its values as text.
type auditEvent struct {
	Time   time.Time `json:"time"`
	From   string    `json:"from"`
	What   string    `json:"what"`
	Tenant string    `json:"tenant,omitempty"`
	Before string    `json:"before,omitempty"`
	After  string    `json:"after,omitempty"`
}

// last is the newest lines of the audit log, newest first.
func (l *auditLog) last() []auditEvent {
	events := []auditEvent{}
	lines := bytes.Split(bytes.TrimSpace(l.tail()), []byte("\n"))
	for i := len(lines) - 1; i >= 0 && len(events) < auditLines; i-- {
		var line struct {
			auditEvent
			Before json.RawMessage `json:"before"`
			After  json.RawMessage `json:"after"`
		}
		if json.Unmarshal(lines[i], &line) != nil {
			continue // cut off at the beginning, or somebody's own
		}
		line.auditEvent.Before, line.auditEvent.After = shortened(line.Before), shortened(line.After)
		events = append(events, line.auditEvent)
	}
	return events
}

func shortened(text json.RawMessage) string {
	if len(text) > auditDetail {
		return string(bytes.ToValidUTF8(text[:auditDetail], nil)) + "…"
	}
	return string(text)
}
