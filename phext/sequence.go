package phext

// Sequence is text as libphext reads it, scroll by scroll in the order of the file.
// Unlike Parse it keeps repeated coordinates, and the empty scroll that libphext
// finds at the end of a text that is empty or ends in more than one delimiter. Its
// coordinate is where libphext began to look for it (recorded in "seeded trail").
func Sequence(text string) []Scroll {
	var out []Scroll
	eachScroll(text, func(s Scroll) { out = append(out, s) })
	return out
}

// CountDistinct is how many coordinates the scrolls of Sequence have.
func CountDistinct(text string) int {
	n, ordered, last := 0, true, Coordinate{}
	eachScroll(text, func(s Scroll) {
		switch c := last.Compare(s.At); {
		case c < 0:
			n, last = n+1, s.At
		case c > 0:
			ordered = false // the delimiters count past Max
		}
	})
	if ordered {
		return n
	}
	seen := map[Coordinate]struct{}{}
	eachScroll(text, func(s Scroll) { seen[s.At] = struct{}{} })
	return len(seen)
}

// eachScroll calls visit for each scroll of Sequence, without collecting them.
func eachScroll(text string, visit func(Scroll)) {
	at, i := Origin(), 0
	for {
		began, first := at, -1
		var begin Coordinate
		for ; i < len(text); i++ {
			d := dimension[text[i]]
			if d == 0 {
				if first < 0 {
					first, begin = i, at
				}
				continue
			}
			at.advance(d - 1)
			if first >= 0 {
				break
			}
		}
		if first < 0 {
			visit(Scroll{At: began})
			return
		}
		visit(Scroll{begin, text[first:i]})
		i++
		if i >= len(text) {
			return
		}
	}
}
