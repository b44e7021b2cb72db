package journal

import (
	"errors"
	"fmt"
	"time"
)

// At is the state of a file that a client saw at t: after all mutations that
// were done by then. Of a file that was not touched before t, as far as the
// journal goes, it is what the first checkpoint after t holds, and of one that
// was never touched what lies in the data_dir now. ErrBeyondHistory if t is
// before what is kept.
func (j *Journal) At(file string, t time.Time) (state State, err error) {
	if err := checkName(file); err != nil {
		return State{}, err
	}
	v, err := j.view(false)
	if err != nil {
		return State{}, err
	}
	defer v.close()
	if err := v.within(t); err != nil {
		return State{}, fmt.Errorf("%s at that moment: %w", file, err)
	}
	return v.at(file, sinceEpoch(t))
}

// within is an error if t is before what is kept.
func (v *view) within(t time.Time) error {
	gone, err := v.beyond(sinceEpoch(t))
	if err == nil && gone {
		err = fmt.Errorf("%s %w", t.UTC().Format(time.RFC3339Nano), ErrBeyondHistory)
	}
	return err
}

func (v *view) at(file string, t int64) (State, error) {
	var later *opening
	var first int64
	for i := len(v.segments) - 1; i >= 0; i-- {
		o := v.segments[i]
		tr, err := v.trackOf(o, file, t)
		if err != nil {
			return State{}, err
		}
		if len(tr.trail) > 0 {
			return v.stateAfter(o, &tr)
		}
		if tr.first != 0 {
			later, first = o, tr.first
		}
	}
	if later == nil {
		return v.current(file)
	}
	return v.stateAfter(later, &track{trail: []step{{offset: first}}})
}

// errEnough ends a walk that has found what it looks for.
var errEnough = errors.New("enough")

// trackOf is the track of one file until t.
func (v *view) trackOf(o *opening, file string, t int64) (tr track, err error) {
	err = v.walk(o, func(r record) error {
		if r.kind == opened || r.m.File != file {
			return nil
		}
		tr.add(r, t)
		if tr.first != 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return tr, err
}

func (v *view) stateAfter(o *opening, tr *track) (State, error) {
	d, err := v.replay(o, tr)
	if err != nil {
		return State{}, err
	}
	return d.state(), nil
}
