package history

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// What a tenant asks for itself is done in its own turns, by few at a time, within its
// quota, and shows what its key may know of.

// longestLook is the longest that one request looks through the history.
const longestLook = 10 * time.Second

var (
	errTooLong = apierror.RetryIn(time.Minute, apierror.Unavailable,
		"it takes too long to look through all of this: name a phext with p, or a later time with after")
	errDiskFull = apierror.New(apierror.DiskFull,
		"the disk has no room for what the phext was: nothing was changed; the operator has to make room")
)

// enter takes one of the places of those who look through a directory's past. There is none
// while the journal waits for all of them to end, to remove what is too old.
func (s *Service) enter(ctx context.Context, t *tenants.Tenant) (leave func(), err error) {
	d := s.Dirs.Of(t.DataDir)
	if !d.Searches.Take(1) {
		return nil, datadir.ErrBusy
	}
	if err = d.Recover(ctx); err == nil {
		var j *journal.Journal
		if j, err = s.journalOf(t); err == nil && j.IsPruneDue() {
			err = datadir.ErrBusy
		}
	}
	if err != nil {
		d.Searches.Give(1)
		return nil, err
	}
	return func() { d.Searches.Give(1) }, nil
}

// whyEnded is the error of whoever looked through the past of a directory.
func whyEnded(ctx context.Context, d *datadir.Dir, err error) error {
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTooLong):
		return errTooLong
	case err == nil && d.InBucket() && !d.Recovered():
		return datadir.ErrMoved // what was read may be what the bucket never had
	}
	return err
}

// shows says whether a tenant is told of an event. It is told of the same ones by changes.
func shows(call *rewrite.Call, phext string, e journal.Event) bool {
	return e.IsTold() && call.ShowsChange(phext, e.At, e.UpTo, e.Note)
}

// concerns says whether an event is one of the scroll of a call, which may be among others.
func concerns(call *rewrite.Call, e journal.Event) bool {
	switch {
	case !e.At.Valid(), e.UpTo.Valid() && call.Name != "" && e.UpTo.Compare(rewrite.FirstNamed()) >= 0:
		return true
	case call.Name != "":
		return e.Note == call.Name
	case e.UpTo.Valid():
		return e.At.Compare(call.At) <= 0 && call.At.Compare(e.UpTo) <= 0
	}
	return e.At == call.At
}

// Entry is an event as people see it.
type Entry struct {
	Time       time.Time `json:"time"`
	Phext      string    `json:"phext"`
	Op         string    `json:"op"`
	Coordinate string    `json:"coordinate,omitempty"`
	Bytes      int       `json:"bytes"`
	Key        string    `json:"key,omitempty"` // the id of one of Tenant.Keys, or else a fingerprint
	Note       string    `json:"note,omitempty"`
	Writer     string    `json:"writer,omitempty"` // id of the other tenant whose key it was
}

// Entries are the events.
func (p *Page) Entries() []Entry {
	entries := make([]Entry, len(p.Events))
	for i := range p.Events {
		entries[i] = p.Entry(i)
	}
	return entries
}

// Entry is an event. To a tenant, the coordinate of a scroll is its name, if it has one, and
// a change of several scrolls is one of the phext, as with changes.
func (p *Page) Entry(i int) Entry {
	e := p.Events[i]
	entry := Entry{Time: e.Time, Phext: e.File, Op: e.Op, Bytes: e.Bytes, Key: e.Key, Note: e.Note}
	if by, _, _ := strings.Cut(e.Tenant, "/"); by != p.tenant.ID {
		entry.Writer = by
	}
	if e.At.Valid() {
		entry.Coordinate = e.At.String()
	}
	if p.call == nil {
		return entry
	}
	if entry.Op, entry.Coordinate = e.Told(); e.At.Valid() {
		entry.Note = "" // it is a name
	}
	if entry.Coordinate == "" && !p.call.ShowsAll() {
		entry.Bytes = 0 // of scrolls that are not shown, too
	}
	return entry
}

// Own is what a tenant restores itself.
type Own struct {
	Call           *rewrite.Call
	Key            *tenants.Key            // that it has; nil = the tenant's own, or a token
	KeyName        string                  // of the key, for the history: its id, or else its fingerprint
	IdempotencyKey string                  // "" = none
	At             time.Time               // Call.History.At
	Answer         func([]Restored) string // what the tenant is told
}

// OwnResult is what became of a phext.
type OwnResult struct {
	Answer    string  // of the first request, if this one repeats it
	Changed   bool    // false: there was nothing to do, and the rest is not set
	QuotaUsed float64 // part of the quota, 0 to 1; 0 if there is no quota
}

// RestoreOwn is Restore of one phext, or of one scroll, for the tenant itself. Errors of
// quota, in addition, mean that nothing was changed.
func (s *Service) RestoreOwn(ctx context.Context, t *tenants.Tenant, own Own) (result OwnResult, err error) {
	if own.At.After(time.Now()) { // it may not be any more when the directory is locked
		return result, errFuture
	}
	leave, err := s.enter(ctx, t)
	if err != nil {
		return result, err
	}
	defer leave()
	early, done, err := s.lookUp(ctx, t, own)
	defer done()
	if err != nil {
		return result, err
	}
	target := own.target()
	r, release, err := s.begin(ctx, t, target, noteOf(target))
	if err != nil {
		return result, err
	}
	defer release()
	r.own, r.result, r.turn, r.early = &own, &result, fairqueue.FromContext(ctx), early
	if err := errors.Join(s.Dirs.CheckTenant(t), s.Dirs.CheckKey(own.Key, own.Call)); err != nil {
		return result, err
	}
	if own.IdempotencyKey != "" {
		first, known, err := datadir.Repeated(r.journal, t, own.idempotency(), own.digest())
		if known || err != nil {
			result.Answer = first
			return result, err
		}
	}
	restored, err := r.restore(ctx)
	return result, r.explain(err, restored)
}

// lookUp looks through the journal for what a restore needs, before the directory is locked:
// that can take seconds, in which others go on. What is in a bucket is looked up later. done
// gives the memory back, and may always be called.
func (s *Service) lookUp(ctx context.Context, t *tenants.Tenant, own Own) (found map[string]early, done func(), err error) {
	d := s.Dirs.Of(t.DataDir)
	var charges []*datadir.Charge
	done = func() {
		for _, c := range charges {
			c.Release()
		}
	}
	if d.InBucket() {
		return nil, done, nil
	}
	j, err := s.journalOf(t)
	if err != nil {
		return nil, done, err
	}
	turn := fairqueue.FromContext(ctx)
	if err := s.mustKnow(ctx, t, j, own.Call, turn); err != nil {
		return nil, done, err
	}
	found = map[string]early{}
	for _, file := range []string{own.Call.FileName(), own.Call.NamesFileName()} {
		charge := d.NewCharge()
		charges = append(charges, charge)
		var e early
		if e.state, e.known, err = j.KnownAt(file, own.At, turn, charge); err != nil {
			return nil, done, err
		}
		if e.state.Source == nil {
			charge.KeepText(e.state.Size())
		}
		found[file] = e
	}
	return found, done, nil
}

func (o *Own) target() Target {
	past := o.Call.History
	target := Target{At: o.At, Phext: &o.Call.Phext, DryRun: past.DryRun, Key: o.KeyName}
	if past.To != nil {
		target.To = &past.To.Phext
	}
	if past.OfScroll {
		target.Coordinate = o.where()
	}
	return target
}

// where is the scroll that is meant, as a client would write it, or "".
func (o *Own) where() string {
	switch {
	case !o.Call.History.OfScroll:
		return ""
	case o.Call.Name != "":
		return o.Call.Name
	}
	return o.Call.At.String()
}

func (o *Own) idempotency() string { return datadir.IdempotencyKey(o.IdempotencyKey, nil, o.Key) }

// digest tells one restore from another, and from a write.
func (o *Own) digest() string {
	to, past := "", o.Call.History
	if past.To != nil {
		to = "to " + past.To.Phext
	}
	return phext.Checksum(strings.Join([]string{string(o.Call.Op), o.Call.Phext, o.where(), past.At, to, strconv.FormatBool(past.DryRun)}, "\x00"))
}

// remember has the journal keep the answer with a mutation.
func (o *Own) remember(m *journal.Mutation, answer string) {
	if o.IdempotencyKey != "" {
		m.Idempotency, m.Digest, m.Answer = o.idempotency(), o.digest(), answer
	}
}
