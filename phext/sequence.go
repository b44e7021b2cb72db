package phext

// Sequence is text as libphext reads it, scroll by scroll in the order of the file.
// Unlike Parse it keeps repeated coordinates, and the empty scroll that libphext
// finds at the end of a text that is empty or ends in more than one delimiter. Its
// coordinate is where libphext began to look for it (recorded in "seeded trail").
func Sequence(text string) []Scroll {
	var out []Scroll
	eachScroll(text, nil, func(s Scroll) { out = append(out, s) })
	return out
}

// CountDistinct is how many coordinates the scrolls of Sequence have.
func CountDistinct(text string, pace Pace) int {
	n, distinct := countOrdered(text, pace)
	if distinct {
		return n
	}
	seen := map[Coordinate]struct{}{}
	eachScroll(text, pace, func(s Scroll) { seen[s.At] = struct{}{} })
	return len(seen)
}

// CountCost is at least the memory that CountDistinct takes, in bytes.
func CountCost(text string, pace Pace) int64 {
	n, distinct := countOrdered(text, pace)
	if distinct {
		return 0
	}
	return seenSize * int64(n)
}

// countOrdered is how many scrolls of Sequence are at another coordinate than the one
// before. All these are distinct unless the delimiters count past Max.
func countOrdered(text string, pace Pace) (n int, distinct bool) {
	distinct = true
	last := Coordinate{}
	eachScroll(text, pace, func(s Scroll) {
		c := last.Compare(s.At)
		distinct = distinct && c <= 0
		if c != 0 {
			n, last = n+1, s.At
		}
	})
	return n, distinct
}

// eachScroll calls visit for each scroll of Sequence, without collecting them.
func eachScroll(text string, pace Pace, visit func(Scroll)) {
	at, i := Origin(), 0
	for {
		began, first := at, -1
		var begin Coordinate
		pace.Did(perScroll)
		for ; i < len(text); i++ {
			if i%pieceSize == 0 {
				pace.Did(pieceSize)
			}
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
