package registertest

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestCheck has histories that are linearizable, and some that are not.
func TestCheck(t *testing.T) {
	read := func(text string) (Called, Told) { return Called{Op: Read}, Told{Text: text} }
	update := func(text string) (Called, Told) { return Called{Op: Update, Text: text}, Told{} }
	insert := func(text string) (Called, Told) { return Called{Op: Insert, Text: text}, Told{} }
	swap := func(from, to string) (Called, Told) { return Called{Op: Swap, Text: to, Expected: from}, Told{} }
	refused := func(from, to string) (Called, Told) {
		return Called{Op: Swap, Text: to, Expected: from}, Told{Refused: true}
	}
	unknown := func(c Called, _ Told) (Called, Told) { return c, Told{Unknown: true} }
	at := func(begun, ended int, register string) func(c Called, told Told) porcupine.Operation {
		return func(c Called, told Told) porcupine.Operation {
			c.Register = register
			return Operation(1, c, told, time.Duration(begun), time.Duration(ended))
		}
	}
	for _, test := range []struct {
		name    string
		history []porcupine.Operation
		wrong   bool
	}{
		{"nothing", nil, false},
		{"one after the other", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(insert("b")), at(5, 6, "x")(read("ab")), at(7, 8, "x")(swap("ab", "c")), at(9, 10, "x")(refused("ab", "d")), at(11, 12, "x")(read("c"))}, false},
		{"a lost write", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(read(""))}, true},
		{"a stale read", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(update("b")), at(5, 6, "x")(read("a"))}, true},
		{"at the same time, in any order", []porcupine.Operation{at(1, 9, "x")(update("a")), at(1, 9, "x")(update("b")), at(10, 11, "x")(read("a"))}, false},
		{"another register", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "y")(read(""))}, false},
		{"both swaps of one text", []porcupine.Operation{at(1, 9, "x")(swap("", "a")), at(1, 9, "x")(swap("", "b"))}, true},
		{"a swap that was refused for nothing", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(refused("a", "b"))}, true},
		{"perhaps made, and not seen", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(unknown(update("b"))), at(5, 6, "x")(read("a"))}, false},
		{"perhaps made, and seen late", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(unknown(update("b"))), at(5, 6, "x")(read("a")), at(7, 8, "x")(read("b"))}, false},
		{"perhaps made, and undone", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(unknown(update("b"))), at(5, 6, "x")(read("b")), at(7, 8, "x")(read("a"))}, true},
		{"perhaps made, and a reason to be refused", []porcupine.Operation{at(1, 2, "x")(update("a")), at(3, 4, "x")(unknown(update("b"))), at(5, 6, "x")(refused("a", "c"))}, false},
		{"made twice", []porcupine.Operation{at(1, 2, "x")(insert("a")), at(3, 4, "x")(read("aa"))}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := Check(test.history, time.Second); (err != nil) != test.wrong {
				t.Errorf("%v", err)
			}
		})
	}
}
