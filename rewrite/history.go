package rewrite

import (
	"bytes"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/strictjson"
)

// HistorySpec is what history and restore ask for, beside the phext and the coordinate.
type HistorySpec struct {
	Everywhere bool // of all phexts; never for restore
	OfScroll   bool // of the scroll at Call.At, or with Call.Name; else of the whole phext

	After string // history: only later changes, as the client wrote it; "" = all
	Limit int    // history: the most changes of an answer; 0 = as many as there may be

	At     string // restore: the moment to go back to, as the client wrote it
	To     *Call  // restore: of the phext that it becomes, by its name; nil = of itself
	DryRun bool   // restore: change nothing
}

// largestRestore is the largest body of a restore, in bytes.
const largestRestore = 64 << 10

// restore reads the body of a restore, and adds its phext and coordinate to the parameters.
// It is as strict as the management API: without a field that is misspelt, the call might
// change more than was meant.
func (h *Head) restore(got *collector, body []byte) (*HistorySpec, *apierror.Error) {
	var in struct {
		P          *string `json:"p"`
		Phext      *string `json:"phext"`
		C          *string `json:"c"`
		Coordinate *string `json:"coordinate"`
		At         *string `json:"at"`
		To         *string `json:"to"`
		DryRun     *bool   `json:"dry_run"`
	}
	switch {
	case h.query != "":
		return nil, badRequest("restore takes no parameters in the query: put them into a JSON object as the body")
	case len(bytes.TrimSpace(body)) == 0:
		return nil, badRequest(`the body is empty: restore takes a JSON object such as {"phext": "notes", "at": "10m"}`)
	}
	if err := strictjson.Decode(body, &in); err != nil {
		return nil, badRequest("%v", err)
	}
	for _, f := range []struct {
		name  string
		value *string
	}{{"p", in.P}, {"phext", in.Phext}, {"c", in.C}, {"coordinate", in.Coordinate}} {
		if f.value != nil {
			if err := got.add(f.name, *f.value); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case !got.given(paramPhext):
		return nil, badRequest(`field "phext" is missing: name the one to restore, of which "" has no name`)
	case in.At == nil:
		return nil, badRequest(`field "at" is missing: give the moment to go back to, a time or a duration back from now such as "10m"`)
	case in.To != nil && got.hasCoordinate():
		return nil, badRequest(`fields "to" and "coordinate": one scroll is restored into its own phext; leave one of them out`)
	}
	spec := &HistorySpec{At: *in.At, DryRun: in.DryRun != nil && *in.DryRun}
	if in.To != nil {
		var p params
		p[paramPhext].name, p[paramPhext].value = "to", *in.To
		spec.To = &Call{Op: Restore, Pace: h.Pace, tenant: h.tenant}
		if err := spec.To.setPhext(&p); err != nil {
			return nil, err
		}
		if len(spec.To.wireName())+len(NamesSuffix) > longestName { // it may get names of coordinates
			return nil, badPhext("the name of the phext to restore to is %d bytes long: %d bytes less are wanted", len(*in.To), len(spec.To.wireName())+len(NamesSuffix)-longestName)
		}
	}
	return spec, nil
}

// longestAfter is far longer than any time, in bytes.
const longestAfter = 64

// setHistory reads what history and restore have in common, and the parameters of history.
func (c *Call) setHistory(p *params) (err *apierror.Error) {
	if c.Op == History {
		c.History = &HistorySpec{Everywhere: !p.given(paramPhext) || c.Phext == everyPhext, After: p.get(paramAfter)}
		if len(c.History.After) > longestAfter {
			return badRequest("after is %d bytes long: a time such as 2026-01-31T15:04:05Z is wanted, or a duration back from now such as 2h or 7d", len(c.History.After))
		}
		if c.History.Limit, err = positive(p, paramLimit, 0); err != nil {
			return err
		}
	}
	if c.History == nil || !p.hasCoordinate() {
		return nil
	}
	if c.History.Everywhere {
		return badRequest("the history of a scroll is in that of its phext: name the phext with p")
	}
	c.History.OfScroll = true
	return c.readCoordinate(p)
}
