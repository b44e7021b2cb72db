package quota

import (
	"fmt"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

// ExceededError refuses a write because of the tenant's quota: its bytes or the
// number of its phexts.
type ExceededError struct {
	Used, Quota, Needed int64 // bytes; Needed is the use after the write
	Phexts, MaxPhexts   int   // set instead if there are too many phexts
}

func (e *ExceededError) Error() string {
	if e.MaxPhexts > 0 {
		return fmt.Sprintf("the tenant has %d phexts, and %d is the most it may have: delete one, or ask the operator for more", e.Phexts, e.MaxPhexts)
	}
	return fmt.Sprintf("the quota is %d bytes, %d are used, and this write would make it %d: delete something, or ask the operator for more", e.Quota, e.Used, e.Needed)
}

// APIError is what a client is told.
func (e *ExceededError) APIError() *apierror.Error {
	return apierror.New(apierror.QuotaExceeded, e.Error())
}

// DiskError refuses a write because the file system could run out of space.
type DiskError struct {
	Free, Needed int64 // bytes
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the disk has %d bytes left for this, and SQ could need %d to write the phext: nothing was changed; the operator has to make room", max(0, e.Free), e.Needed)
}

// APIError is what a client is told.
func (e *DiskError) APIError() *apierror.Error { return apierror.New(apierror.DiskFull, e.Error()) }

// LimitError refuses a call because the tenant has made too many.
type LimitError struct {
	Limit      int
	Of         string // what there may be so many of: "calls", "reads", "writes" or "lists and searches"
	Per        string // "minute" or "day"
	RetryAfter time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("this tenant may make %d %s a %s: try again in %v", e.Limit, e.Of, e.Per, e.RetryAfter.Round(time.Second))
}

// APIError is what a client is told.
func (e *LimitError) APIError() *apierror.Error {
	return apierror.RetryIn(e.RetryAfter, apierror.RateLimited, e.Error())
}
