package writer

import (
	"errors"
	"strings"

	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

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

// idempotency is the Idempotency-Key as the journal has it.
func (m *mutation) idempotency() string {
	var space *tenants.Tenant
	if m.Writer != nil {
		space = m.Tenant
	}
	return datadir.IdempotencyKey(m.IdempotencyKey, space, m.Key)
}

// answerRepeat answers a mutation that was made already under the same
// Idempotency-Key.
func (tx *transaction) answerRepeat() (answered bool, err error) {
	m := tx.lead
	if m.IdempotencyKey == "" {
		return false, nil
	}
	first, known, err := datadir.Repeated(tx.journal, m.writer(), m.idempotency(), m.digest())
	if errors.Is(err, errNotDurable) {
		tx.log("the write that a request repeats stands, but the journal is not on disk", err)
	}
	if err == nil && m.Call.Batch != nil { // others are short
		err = tx.countAnswer(len(first))
	}
	m.result.Body = []byte(first)
	tx.repeats = known
	return known, err
}

// endAnswered ends a commit that has nothing to write. The answer is kept like that to a
// write: others may write what a repeat would change. It waits like that, too: the write that
// left nothing to do may not be on the disk yet.
func (tx *transaction) endAnswered() outcome {
	m := tx.lead
	switch {
	case tx.repeats:
		tx.unlock()
		return outcome{}
	case m.IdempotencyKey == "":
		tx.startSync(tx.journal.Written())
		tx.unlock()
		return tx.awaitSync()
	}
	kept := journal.Mutation{
		Tenant: m.writer().UniqueID(), Key: m.KeyName,
		Idempotency: m.idempotency(), Digest: m.digest(), Answer: string(m.result.Body),
	}
	err := tx.recorded(func() (err error) {
		kept, tx.pending, err = datadir.Remember(tx.journal, kept)
		return err
	})
	if err != nil {
		return tx.abort(err)
	}
	if tx.replica != nil {
		tx.replica.Add([]journal.Mutation{kept}, datadir.KnownFile{}, tx.pending.Time())
	}
	tx.startSync(tx.pending.Sync)
	tx.unlock()
	return tx.awaitSync()
}

// digest tells one mutation from another.
func (m *mutation) digest() string {
	if m.Call.Batch != nil {
		return operationsDigest(m.Call)
	}
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
