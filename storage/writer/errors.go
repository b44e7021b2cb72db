package writer

import (
	"errors"
	"fmt"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/datadir"
)

var (
	errDiskFull = apierror.New(apierror.DiskFull,
		"the disk has no room for this write: nothing was changed; the operator has to make room")
	errNotRecorded = apierror.New(apierror.BackendFailed,
		"the write could not be recorded in the journal, without which none is made: nothing was changed; the operator's log says more")
	errNoDirectory = apierror.RetryIn(10*time.Second, apierror.Unavailable,
		"this tenant's data directory could not be made: nothing was changed; the operator's log says why; try again")
	errNotDurable  = datadir.ErrNotDurable
	errNotUploaded = apierror.New(apierror.NotKnown,
		"the write was made, but its bucket did not confirm it: look it up before you repeat it")
	errNotKnown = apierror.New(apierror.NotKnown,
		"it is not known yet whether the write was made: it will be whole or not at all; look it up before you repeat it")
	errChanged = apierror.New(apierror.Precondition,
		"the scroll is not the one that If-Match names: read it again, and decide anew; nothing was changed")
	errNotKept = apierror.New(apierror.Conflict,
		"this phext cannot be written, since its delimiters count past 999: nothing was changed; a key for the whole phext is told which scrolls are concerned")
	errNoRoomForNames = apierror.New(apierror.QuotaExceeded,
		"the last coordinate of the phext is taken, and a new name would come behind it: nothing was changed; delete 999.999.999/999.999.999/999.999.999, after you have written its scroll elsewhere, if you need it")
)

func errAnswerTooLarge(most int, kept bool) error {
	if kept {
		return apierror.New(apierror.TooLarge, "the answer would be larger than %d bytes, and one with an Idempotency-Key is kept for a day: nothing was changed; read less in this batch, or leave the key out", most)
	}
	return apierror.New(apierror.TooLarge, "the answer would be larger than %d bytes: nothing was changed; read less in one batch", most)
}

var (
	// errNotStored is SQ's 200 for a write that the file does not hold.
	errNotStored = errors.New("SQ answered that it stored a write, and the file does not hold it")
	// errNoFile is errNotStored where there is no file at all.
	errNoFile = fmt.Errorf("%w: there is no file", errNotStored)
)
