package datadir

import (
	"context"
	"time"

	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/tenants"
)

// LockForRead waits until t may have SQ read the phext of a call and, if there is a
// bucket, until the phext is here and what the files hold is in the bucket.
func (d *Dir) LockForRead(ctx context.Context, t *tenants.Tenant, call *rewrite.Call) (unlock func(), err error) {
	if unlock, err = d.admit(ctx, t, call, d.lockForRead); err != nil {
		return nil, err
	}
	if err := d.waitUploaded(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// LockForWrite waits until t has the directory to itself, and the phext of a call is here.
func (d *Dir) LockForWrite(ctx context.Context, t *tenants.Tenant, call *rewrite.Call) (unlock func(), err error) {
	return d.admit(ctx, t, call, d.lockForWrite)
}

// admit locks the directory in a state in which its files are recovered, and the phext of
// a call is here. Then it looks again whether the tenant may have it: the tenant, and its files with
// it, may have been disabled, moved or deleted during the wait.
func (d *Dir) admit(ctx context.Context, t *tenants.Tenant, call *rewrite.Call, lock func(context.Context) (func(), error)) (unlock func(), err error) {
	for {
		if err := d.Recover(ctx); err != nil {
			return nil, err
		}
		if err := d.awaitFiles(ctx, call); err != nil {
			return nil, err
		}
		if unlock, err = lock(ctx); err != nil {
			return nil, err
		}
		if err := d.dirs.CheckTenant(t); err != nil {
			unlock()
			return nil, err
		}
		d.disownUnless(t)
		if err := d.checkOwn(d.Path); err != nil {
			unlock()
			return nil, err
		}
		if d.Recovered() && d.has(call) {
			return unlock, nil
		}
		unlock() // the write before this one left its phext to recovery, or it is another directory
	}
}

// CheckTenant is the error for a tenant that may not have its directory any more, since it
// was disabled, moved or deleted. Whoever has waited for the directory calls it.
func (ds *Dirs) CheckTenant(t *tenants.Tenant) error {
	switch now, ok := ds.Tenants().ByID(t.ID); {
	case now == t:
		return nil
	case !ok, !now.Incarnation.Equal(t.Incarnation):
		return errTenantGone
	case !now.Enabled:
		return ErrDisabled
	case now.DataDir != t.DataDir || now.SharedDataDir != t.SharedDataDir:
		return ErrTenantChanged
	}
	return nil
}

// CheckWriter is the error for a writer of t that may not write there any more. A nil
// writer is t itself.
func (ds *Dirs) CheckWriter(t, writer *tenants.Tenant) error {
	if writer == nil {
		return nil
	}
	known := ds.Tenants()
	space, ok := known.ByID(t.ID)
	now, here := known.ByID(writer.ID)
	if !ok || !here || now.UniqueID() != writer.UniqueID() || space.ScopeFor(now) != rewrite.Guests {
		return errNoWriter
	}
	return nil
}

// CheckKey looks again whether a key may make a call, which was authorized by it: it may
// have been revoked, changed or have expired since. Whoever waits, or sends an answer for
// long, calls it again when it is done with waiting. A nil key is a tenant's own.
func (ds *Dirs) CheckKey(k *tenants.Key, call *rewrite.Call) error {
	if k == nil {
		return nil
	}
	now, ok := ds.Tenants().Now(k, time.Now())
	switch {
	case !ok:
		return ErrKeyRevoked
	case now == k:
		return nil
	}
	return now.Scope.Authorize(call)
}

// RewriteTenant is what package rewrite has to know of a tenant.
func RewriteTenant(t *tenants.Tenant) rewrite.Tenant {
	return rewrite.Tenant{ID: t.ID, SharedDataDir: t.SharedDataDir, AllowDelimiters: t.AllowDelimiters}
}
