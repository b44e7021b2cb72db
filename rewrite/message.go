package rewrite

import (
	"encoding/json"

	"mirrorborn.us/sqgate/internal/apierror"
)

// Limits of a message of the Model Context Protocol. What it holds is for mcp to say; here it
// is only bounded, since to parse it takes memory and time.
const (
	largestMessage = 256 << 10 // bytes; models write less at once
	mostValues     = 256       // in lists and objects: the library takes a millisecond for as many
)

// How much memory a message takes, in bytes, beside itself: measured with the SDK 1.8.0, of texts
// 13 copies, and of lists and objects up to 600 for each value.
const (
	copiesOfMessage = 16
	valueMemory     = 600
)

// messageMemory is Head.ParsedMemory for a message.
func messageMemory(body []byte) int64 {
	return copiesOfMessage*int64(len(body)) + valueMemory*int64(min(valuesIn(body), mostValues))
}

// valuesIn is at least how many values there are in lists and objects of a JSON text.
func valuesIn(text []byte) (n int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++ // is in quotes, or a mistake
		case '[', '{', ',':
			if !quoted {
				n++
			}
		}
	}
	return n
}

// checkMessage refuses what is not one JSON object, or of too many parts. Of a list of
// messages, tools would run at the same time.
func (c *Call) checkMessage() *apierror.Error {
	var object struct{}
	c.Long = &LongTexts{}
	short, ok := c.Long.takeOut(c.Scroll, c.Pace)
	c.Scroll = short
	switch {
	case ok && valuesIn(c.Scroll) > mostValues:
		return badRequest("the message has more than %d values: ask for less at once", mostValues)
	case !ok || json.Unmarshal(c.Scroll, &object) != nil:
		return badRequest("the body must be one JSON-RPC message of the Model Context Protocol, and no list of them")
	}
	return nil
}
