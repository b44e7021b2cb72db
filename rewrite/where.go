package rewrite

import "strconv"

// defaultLimit is legacy's shortest scroll that counts for `where`, in bytes.
const defaultLimit = 100

// setWhere reads algo and limit. Legacy falls back silently on a value that it
// does not know; here a client is told.
func (c *Call) setWhere(p params) *Error {
	if c.Op != Where {
		return nil
	}
	switch p[paramAlgo] {
	case "", "xor":
	case "checksum":
		c.Checksum = true
	default:
		return badRequest("parameter \"algo\" is %s: xor or checksum is wanted", clip(p[paramAlgo]))
	}
	return c.setLimit(p)
}

func (c *Call) setLimit(p params) *Error {
	c.Limit = defaultLimit
	text, given := p[paramLimit]
	if !given {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return badRequest("parameter \"limit\" is %s: a number of bytes, 0 or more, is wanted", clip(text))
	}
	c.Limit = n
	return nil
}
