package datadir

import (
	"errors"
	"fmt"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// longestIdempotencyKey is in bytes.
const longestIdempotencyKey = 255

var (
	// ErrKeyReused is the Idempotency-Key of another request.
	ErrKeyReused = apierror.New(apierror.Conflict,
		"this Idempotency-Key was used for another request: nothing was changed; use a new key for a new request")
	errKeyTooLong = apierror.New(apierror.BadRequest,
		"the Idempotency-Key is longer than 255 bytes: make it shorter, a UUID for example")
	// ErrNotDurable is a write that stands, and that the journal on the disk may not have.
	ErrNotDurable = apierror.New(apierror.NotKnown,
		"the write was made, but could not be made safe against a power failure: look it up before you repeat it")
	errAnswer = apierror.New(apierror.NotKnown,
		"the write was made by an earlier request with this Idempotency-Key, but what that was answered cannot be read: look it up before you repeat it")
)

// IdempotencyKey is an Idempotency-Key as the journal has it. A directory may be shared,
// so the key of another tenant's writer counts for one tenant: space, which is else nil.
// Of one API key, nobody with another one learns what it was answered; nil is the
// tenant's own. No client's key has a zero byte.
func IdempotencyKey(key string, space *tenants.Tenant, k *tenants.Key) string {
	switch {
	case space != nil:
		return space.UniqueID() + "\x00" + key
	case k != nil:
		return "\x00" + k.UniqueID() + "\x00" + key
	}
	return key
}

// Repeated is the answer to the first request of a tenant with an Idempotency-Key, if there
// was one, which must have had the same digest. key is an IdempotencyKey. The error is
// ErrNotDurable if the first write stands, and may not be safe.
func Repeated(j *journal.Journal, t *tenants.Tenant, key, digest string) (first string, known bool, err error) {
	if len(key)-strings.LastIndexByte(key, 0)-1 > longestIdempotencyKey {
		return "", false, errKeyTooLong
	}
	first, was, known, err := j.Answered(t.UniqueID(), key)
	switch {
	case errors.Is(err, journal.ErrAnswer):
		return "", true, fmt.Errorf("%w: %w", errAnswer, err)
	case known && err != nil:
		return "", true, fmt.Errorf("%w: %w", ErrNotDurable, err)
	case err != nil:
		return "", false, err
	case known && was != digest:
		return "", true, ErrKeyReused
	}
	return first, known, nil
}

// answersOnly is the file of mutations that change nothing, and have an answer to keep. It
// is no phext's, never exists, and is removed again and again: so every journal and every
// log in a bucket has a place for it.
const answersOnly = ".answered"

// Remember has the journal keep the answer to a request that had nothing to change, or its
// repeat could change what others have written since. m says whose it is and what it is.
// The mutation that is returned has been done, and is to go to the bucket with KnownFile{}.
func Remember(j *journal.Journal, m journal.Mutation) (journal.Mutation, *journal.Pending, error) {
	m.File, m.Op = answersOnly, journal.Remove
	pending, err := j.Begin(m, func() (journal.State, error) { return journal.State{}, nil })
	if err == nil {
		err = pending.Done(fsutil.FileID{})
	}
	return m, pending, err
}
