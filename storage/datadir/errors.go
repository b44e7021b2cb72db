package datadir

import (
	"errors"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

var (
	// ErrBusy is memory that is full of other requests' bodies and answers.
	ErrBusy = apierror.RetryIn(time.Second, apierror.Unavailable,
		"too much is being sent at once to hold it all in memory: try again in a moment")
	// ErrDisabled is a tenant that the operator disabled.
	ErrDisabled = apierror.New(apierror.TenantDisabled,
		"this tenant is disabled: ask the operator of the service to enable it")

	// ErrMoved is a directory that this host does not own, or not any more.
	ErrMoved = apierror.RetryIn(time.Second, apierror.Unavailable,
		"this tenant's data is moving to another host, or this host cannot reach its bucket: nothing was changed; try again in a moment")

	// ErrUnnamed is returned by Config.TakeOver if no tenant has the directory.
	ErrUnnamed = errors.New("no tenant has this directory, so it is not in the bucket")

	errNotFetched = apierror.RetryIn(5*time.Second, apierror.Unavailable,
		"this phext could not be fetched from the bucket: nothing was changed; try again in a moment; the operator's log says more")

	// ErrTooLarge is work that needs more memory than one directory may ever take.
	ErrTooLarge = apierror.New(apierror.TooLarge,
		"this takes more memory than the service has for one tenant, also when nobody else uses it, so nothing was done: ask for less at a time, or keep fewer or shorter scrolls in one phext; the operator can raise --read-memory")

	errQueueFull = apierror.RetryIn(time.Second, apierror.Unavailable,
		"too many requests of this tenant are waiting for its database: try again in a moment")
	// ErrKeyRevoked is a key that was revoked, or has expired, while it was in use.
	ErrKeyRevoked = apierror.New(apierror.Unauthorized, "this key was revoked, or has expired: nothing was changed")
	errTenantGone = apierror.New(apierror.Unauthorized, "the tenant of this API key is gone")
	errNoWriter   = apierror.New(apierror.Forbidden, "this key may not write here any more")
	// ErrTenantChanged is a tenant that has another directory than when its request came.
	ErrTenantChanged = apierror.RetryIn(time.Second, apierror.Unavailable, "this tenant was just changed: try again")
	// ErrNotRecovered is a directory whose files could not be put in order; the log says why.
	// Config.TakeOver returns it while it does not try again.
	ErrNotRecovered = apierror.RetryIn(5*time.Second, apierror.Unavailable,
		"this tenant's files are being put in order after a failure: try again in a moment; the operator's log says more")
	errNoAccess = apierror.RetryIn(30*time.Second, apierror.Unavailable,
		"this service may not open this tenant's files, so they are neither read nor changed until its operator gives it the right to: its log says more")
	errOthers = apierror.RetryIn(30*time.Second, apierror.Unavailable,
		"this tenant's data directory leads to another one, so nothing is read or changed until the operator of this service puts that right: its log says more")
	errNoRoom = apierror.RetryIn(30*time.Second, apierror.Unavailable,
		"the disk of this service is full, so a failed write could not be put in order yet: nothing is lost, and nothing was changed; try again later")
)

// ErrNoName is a name that no coordinate of the phext has.
func ErrNoName(name string) error {
	return apierror.New(apierror.NotFound, "there is no scroll named %.80q in this phext: toc lists the names", name)
}
