package phext

import "strings"

// sink takes what is written of an answer. It cannot fail.
type sink interface {
	Write(b []byte) (int, error)
	WriteString(s string) (int, error)
}

// count is the length of what would be written, in bytes.
type count int

func (n *count) Write(b []byte) (int, error) {
	*n += count(len(b))
	return len(b), nil
}

func (n *count) WriteString(s string) (int, error) {
	*n += count(len(s))
	return len(s), nil
}

// built is what write writes. It is run twice, first for the length alone: an
// answer may be large and may be kept, and a text that grows as it is written
// takes several times its length on the way, and more than it at the end.
func built(write func(sink)) string {
	var n count
	write(&n)
	var out strings.Builder
	out.Grow(int(n))
	write(&out)
	return out.String()
}

// inOrder is Select for coordinates of which none comes before the one asked
// for last: it walks along p once for all of them.
func (p *Phext) inOrder() func(Coordinate) (string, bool) {
	rest := p.scrolls
	return func(at Coordinate) (string, bool) {
		for len(rest) > 0 && rest[0].At.Compare(at) < 0 {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].At != at {
			return "", false
		}
		return rest[0].Text, true
	}
}
