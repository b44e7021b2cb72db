package webhooks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/tenants"
)

// state is how far a webhook is. It is a file of this host, since a cursor is good on one
// host alone. A file that is behind, or lost after a power cut, has the receiver told of
// something twice, or asked to read everything again.
type state struct {
	Cursor string    `json:"cursor"`          // behind what is settled; "" = nowhere yet
	Resync time.Time `json:"resync,omitzero"` // since when the receiver does not know of everything; zero = it does
	Gone   bool      `json:"gone,omitempty"`  // it answered 410
}

// When the state is saved, after something has changed.
const (
	saveEvery  = time.Second // a kill repeats the requests since then
	savePassed = time.Minute // of changes that are for nobody
)

// keyOf names a webhook of a tenant, and no other with its id: neither of an earlier
// tenant, nor with another URL.
func keyOf(t *tenants.Tenant, w *tenants.Webhook) string {
	sum := sha256.Sum256([]byte(t.UniqueID() + "\x00" + w.ID + "\x00" + w.URL))
	return hex.EncodeToString(sum[:16])
}

func (h *hook) path() string { return filepath.Join(h.service.StateDir, h.key) }

// load is the zero state if there is none that can be read.
func (h *hook) load() (s state) {
	text, err := fsutil.ReadFile(h.path())
	if err != nil || json.Unmarshal(text, &s) != nil {
		return state{}
	}
	return s
}

// begin has the receiver told first that it does not know of everything until the cursor.
func (h *hook) begin(cursor string) {
	h.state.Cursor, h.state.Resync = cursor, time.Now().UTC()
	h.dirtyBy = time.Now()
}

// moveTo notes what is settled, to be saved within a time.
func (h *hook) moveTo(cursor string, within time.Duration) {
	if h.state.Cursor == cursor {
		return
	}
	h.state.Cursor = cursor
	if by := h.savedAt.Add(within); h.dirtyBy.IsZero() || by.Before(h.dirtyBy) {
		h.dirtyBy = by
	}
	if !h.dirtyBy.After(time.Now()) {
		h.save()
	}
}

// save saves the state, if it has changed.
func (h *hook) save() {
	if h.dirtyBy.IsZero() {
		return
	}
	h.dirtyBy, h.savedAt = time.Time{}, time.Now()
	text, err := json.Marshal(h.state)
	if err == nil {
		err = fsutil.MakeDir(h.service.StateDir, 0o700)
	}
	if err == nil {
		err = fsutil.Replace(h.path(), string(text)+"\n", 0o600, false)
	}
	if err != nil && !h.saveFail {
		h.service.Logger.Warn("it cannot be noted how far a webhook is: after a restart, its receiver is told of changes again", h.attributes(slog.Any(logkey.Error, err))...)
	}
	h.saveFail = err != nil
}

// forget removes the state of a webhook that is no more.
func (h *hook) forget() {
	if err := fsutil.IgnoreMissing(os.Remove(h.path())); err != nil {
		h.service.Logger.Warn("the state of a webhook that was removed is left", h.attributes(slog.Any(logkey.Error, err))...)
	}
}

// sweep removes what is left of webhooks that were removed while sqgate did not run.
func (s *Service) sweep(known map[string]bool) {
	entries, err := os.ReadDir(s.StateDir)
	for _, e := range entries {
		if !known[e.Name()] {
			err = os.Remove(filepath.Join(s.StateDir, e.Name()))
		}
	}
	if fsutil.IgnoreMissing(err) != nil {
		s.Logger.Warn("the state of webhooks that were removed is left", slog.Any(logkey.Error, err))
	}
}
