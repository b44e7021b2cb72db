package rewrite

import (
	"strconv"

	"mirrorborn.us/sqgate/internal/apierror"
)

// defaultLimit is legacy's shortest scroll that counts for `where`, in bytes.
const defaultLimit = 100

// setWhere reads algo and limit. Legacy falls back silently on a value that it
// does not know; here a client is told.
func (c *Call) setWhere(p *params) *apierror.Error {
	if c.Op != Where {
		return nil
	}
	switch p.get(paramAlgo) {
	case "", "xor":
	case "checksum":
		c.Checksum = true
	default:
		return badRequest("parameter \"algo\" is %s: xor or checksum is wanted", clip(p.get(paramAlgo)))
	}
	return c.setLimit(p)
}

func (c *Call) setLimit(p *params) *apierror.Error {
	c.Limit = defaultLimit
	if !p.given(paramLimit) {
		return nil
	}
	text := p.get(paramLimit)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return badRequest("parameter \"limit\" is %s: a number of bytes, 0 or more, is wanted", clip(text))
	}
	c.Limit = n
	return nil
}
