package rewrite

import "bytes"

// Answer takes off SQ's answer what is the host's business: status and load
// name the phext, not the path of its file. Every other answer of SQ holds no
// coordinate and no path: it drops the prefix when it parses a coordinate
// (recorded in "coordinate spellings").
func (c *Call) Answer(body []byte) []byte {
	switch c.Op {
	case Load:
		return c.LoadAnswer()
	case Status:
		_, rest, _ := bytes.Cut(body, []byte("\n"))
		return append(c.hosting(), rest...)
	}
	return body
}

// LoadAnswer is what load says.
func (c *Call) LoadAnswer() []byte { return []byte("Loaded " + c.Phext) }

func (c *Call) hosting() []byte { return []byte("Hosting: " + c.Phext + "\n") }

// StatusAnswer is status for a phext that SQ has not been asked about. The
// connection's number counts connections to SQ, so it is 0 here.
func (c *Call) StatusAnswer(size, scrolls int) []byte {
	return append(c.hosting(), "Connection ID: 0\nPhext Size: "+itoa(size)+"\nScrolls: "+itoa(scrolls)...)
}
