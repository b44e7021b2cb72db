package fakesq

import "mirrorborn.us/sqgate/phext"

// readCoordinate is SQ's parse, which takes anything: bytes that are neither
// digits nor separators are skipped, a separator before the first digit counts
// for nothing, numbers wrap at 32 bits, and what is missing is 1 (recorded in
// "coordinate spellings" and "digit-bearing prefix collides").
func readCoordinate(s string) phext.Coordinate {
	c := phext.Origin()
	index, value := 0, uint32(0)
	for i := range len(s) {
		switch b := s[i]; {
		case b == '.' || b == '/' || b == ';':
			if index >= 1 && index <= 8 {
				c[index-1] = value
				index++
			}
			value = 0
		case b >= '0' && b <= '9':
			value = value*10 + uint32(b-'0')
			index = max(index, 1)
		}
	}
	if index > 0 {
		c[8] = value
	}
	return c
}

// printable says whether SQ prints c, or an empty text in its place. It lets
// 1000 through here, and nowhere else.
func printable(c phext.Coordinate) bool {
	for _, n := range c {
		if n < phext.Min || n > phext.Max+1 {
			return false
		}
	}
	return true
}

func show(c phext.Coordinate) string {
	if !printable(c) {
		return ""
	}
	return c.String()
}
