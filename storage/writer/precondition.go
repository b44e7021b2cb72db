package writer

import (
	"strings"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/phext"
)

// longestIdempotencyKey is in bytes.
const longestIdempotencyKey = 255

// answerRepeat answers a mutation that was made already under the same
// Idempotency-Key.
func (tx *transaction) answerRepeat() (answered bool, err error) {
	m := tx.lead
	if m.IdempotencyKey == "" {
		return false, nil
	}
	if len(m.IdempotencyKey) > longestIdempotencyKey {
		return false, errKeyTooLong
	}
	first, digest, known, err := tx.journal.Answered(m.Tenant.UniqueID(), m.IdempotencyKey)
	switch {
	case known && err != nil:
		tx.log("the write that a request repeats stands, but the journal is not on disk", err)
		return false, errNotDurable
	case err != nil:
		return false, err
	}
	if known && digest != m.digest() {
		return false, errKeyReused
	}
	m.result.Body = []byte(first)
	return known, nil
}

// digest tells one mutation from another.
func (m *mutation) digest() string {
	where := m.Call.Name
	if where == "" {
		where = m.Call.At.String()
	}
	return phext.Checksum(strings.Join([]string{string(m.Call.Op), m.Call.Phext, where, string(m.Call.Scroll)}, "\x00"))
}

// checkPrecondition is If-Match: the scroll must still be what the client read.
// A scroll that does not exist has no tag, and does not match "*" either.
func (m *mutation) checkPrecondition(scroll string, exists bool) error {
	if len(m.IfMatch) == 0 || exists && etag.Matches(m.IfMatch, etag.Of(scroll)) {
		return nil
	}
	return errChanged
}
