package writer

import (
	"strings"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/tenants"
)

// longestIdempotencyKey is in bytes.
const longestIdempotencyKey = 255

// checkRights looks again whether the key may write here, which may have changed while the
// mutation waited.
func (tx *transaction) checkRights() (answered bool, err error) {
	return false, tx.w.checkRights(tx.lead)
}

func (w *Writer) checkRights(m *mutation) error {
	if err := w.Dirs.CheckWriter(m.Tenant, m.Writer); err != nil {
		return err
	}
	return w.Dirs.CheckKey(m.Key, m.Call)
}

// writer is the tenant whose key the mutation has.
func (m *mutation) writer() *tenants.Tenant {
	if m.Writer != nil {
		return m.Writer
	}
	return m.Tenant
}

// idempotency is the Idempotency-Key as the journal has it. A directory may be shared,
// so the key of another tenant's writer counts for one tenant. Of one API key, nobody with
// another one learns what it was answered. No client's key has a zero byte.
func (m *mutation) idempotency() string {
	switch {
	case m.Writer != nil:
		return m.Tenant.UniqueID() + "\x00" + m.IdempotencyKey
	case m.Key != nil:
		return "\x00" + m.Key.UniqueID() + "\x00" + m.IdempotencyKey
	}
	return m.IdempotencyKey
}

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
	first, digest, known, err := tx.journal.Answered(m.writer().UniqueID(), m.idempotency())
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
