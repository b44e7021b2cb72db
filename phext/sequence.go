package phext

// Sequence is text scroll by scroll as libphext reads it, for those who must
// follow legacy SQ to the letter: in the file's order, repeated coordinates
// included, and with the empty scroll that stands at the end of a text which
// is empty or ends in more than one delimiter. That one lies where the scan
// for it began (recorded in "seeded trail").
func Sequence(text string) []Scroll {
	var out []Scroll
	eachScroll(text, func(s Scroll) { out = append(out, s) })
	return out
}

// eachScroll is Sequence without the memory.
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
