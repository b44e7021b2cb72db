package journal

import (
	"errors"
	"time"
)

// Restoring says what is to be as it was.
type Restoring struct {
	At         time.Time
	Phext      *string // nil = all of the tenant's
	Coordinate string  // of one scroll, a name or nine numbers; "" = the whole phext
	To         *string // under this name instead; nil = in its place
	DryRun     bool
	Key        string // fingerprint of who wants it
}

// Restored is what became of one phext.
type Restored struct {
	Phext   string `json:"phext"`
	Bytes   int64  `json:"bytes"`
	Changed bool   `json:"changed"`
	Removed bool   `json:"removed,omitempty"` // it did not exist then
}

// ErrNotBackup is a file that is no backup of a tenant's phexts.
var ErrNotBackup = errors.New("this is not a backup made by sqgate")
