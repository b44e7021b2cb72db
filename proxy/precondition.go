package proxy

import (
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

const idempotencyKey = "Idempotency-Key"

// longestIdempotency bounds an Idempotency-Key, in bytes.
const longestIdempotency = 255

// precondition is If-Match: the scroll must still be what the client read. A
// scroll that is not there has no tag, not even "*".
func precondition(r *http.Request, scroll string, there bool) error {
	wanted := r.Header.Values("If-Match")
	if len(wanted) == 0 || there && matches(wanted, tagOf(scroll), false) {
		return nil
	}
	return errChanged
}

// repeated answers a mutation that was done already under the same
// Idempotency-Key.
func (c *change) repeated() (decided bool, err error) {
	key := c.r.Header.Get(idempotencyKey)
	if key == "" {
		return false, nil
	}
	if len(key) > longestIdempotency {
		return false, &answer{status: http.StatusBadRequest, code: "bad_request",
			message: "the Idempotency-Key is longer than 255 bytes: make it shorter, a UUID for example"}
	}
	first, digest, known := c.journal.Answered(c.tenant.ID, key)
	if known && digest != digestOf(c.call) {
		return false, errReused
	}
	c.answer = first
	return known, nil
}

// digestOf tells one mutation from another.
func digestOf(call *rewrite.Call) string {
	where := call.Name
	if where == "" {
		where = call.At.String()
	}
	return phext.Checksum(strings.Join([]string{string(call.Op), call.Phext, where, string(call.Scroll)}, "\x00"))
}
