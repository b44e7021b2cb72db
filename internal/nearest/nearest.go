// Package nearest finds the word that somebody meant and misspelt: a flag, a variable,
// a field of JSON. It decides nothing; whoever asks says it in an error.
package nearest

import "strings"

const (
	mostLetters = 2 // in which a suggestion may differ
	shortest    = 4 // word that is recognised as a part of another, in letters
	mostWords   = 3 // that are suggested; more are no help
)

// DidYouMean is ": did you mean A or B?" for the words of known that are nearest to
// word, each with prefix in front, or "" if none is near.
func DidYouMean(word, prefix string, known []string) string {
	if all := of(word, known); len(all) > 0 {
		return ": did you mean " + prefix + strings.Join(all, " or "+prefix) + "?"
	}
	return ""
}

// of leaves case and separators out of account, which count for no letter. A word that
// is a part of another, as "quota" is of "quota_mb", is as near as can be allowed.
func of(word string, known []string) (all []string) {
	word = plain(word)
	best := mostLetters
	for _, one := range known {
		other := plain(one)
		d := distance(word, other)
		if len(word) >= shortest && strings.Contains(other, word) {
			d = min(d, mostLetters)
		}
		switch {
		case d > best || d >= len(word):
		case d < best:
			best, all = d, []string{one}
		default:
			all = append(all, one)
		}
	}
	if len(all) > mostWords {
		return nil
	}
	return all
}

// Misspells says whether word is another but for case and separators, or for one letter
// that is missing, too many, wrong, or in the place of its neighbour. Words of fewer than
// four letters have others too near for that: of them, only case and separators may differ.
func Misspells(word, other string) bool {
	word, other = plain(word), plain(other)
	if len(other) < shortest || word == other {
		return word == other
	}
	return distance(word, other) == 1 || swapped(word, other)
}

// swapped says whether two neighbours in a are the other way round in b.
func swapped(a, b string) bool {
	for i := 1; i < len(a) && len(a) == len(b); i++ {
		if a[i-1] != b[i-1] {
			return a[:i-1]+a[i:i+1]+a[i-1:i]+a[i+1:] == b
		}
	}
	return false
}

var separators = strings.NewReplacer("-", "", "_", "")

func plain(word string) string { return strings.ToLower(separators.Replace(word)) }

// distance is how many letters have to be added, removed or changed to make one
// word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // the distances of the beginnings of b to a[:i]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			same := diagonal
			if a[i] != b[j] {
				same++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, diagonal+1, same)
		}
	}
	return row[len(b)]
}
