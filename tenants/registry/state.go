package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/tenants"
)

// state is what this host remembers of its bucket. Without it nobody could tell which of
// two that differ has changed, the tenants file or the bucket.
type state struct {
	Service string       `json:"service"` // "" = none yet
	Tenants tenants.Sums `json:"tenants"` // when the tenants file and the bucket were last the same; nil = never
	// Filling is set as long as PutAll may not have put all Tenants there yet.
	Filling bool `json:"filling"`
}

// readState returns no state if there is no file.
func readState(path string) (s state, err error) {
	text, err := fsutil.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&s)
	}
	if err != nil {
		return state{}, fmt.Errorf("%s, which says when the tenants file and the bucket were the same, cannot be read; without it, they have to be the same now: %w", path, err)
	}
	return s, nil
}

func (s state) write(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return fsutil.ReplacePrivate(path, string(text)+"\n")
}

// remember notes that the tenants file and the bucket are the same. If that cannot be
// written, it is tried again the next time.
func (r *Registry) remember(sums tenants.Sums) {
	if r.noted && maps.Equal(r.state.Tenants, sums) {
		return
	}
	r.state.Tenants = sums
	err := r.state.write(r.State)
	r.noted = err == nil
	if err != nil {
		r.Logger.Error("what the tenants file and the bucket agree on could not be noted", "file", r.State, logkey.Error, err)
	}
}
