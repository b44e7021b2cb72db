// Package registertest says whether what clients have seen of registers is linearizable:
// whether there is one order of all calls, in which each took effect at a moment between its
// begin and its end. A register is a text that is read, updated, appended to and swapped.
package registertest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The operations of Called.
const (
	Read   = "read"
	Update = "update"
	Insert = "insert" // behind what is there
	Swap   = "swap"   // an update that is refused unless the expected text is there
)

// Called is what a client has asked for.
type Called struct {
	Register any // comparable
	Op       string
	Text     string // to be written; no other call writes it, and none is a part of another
	Expected string // by a swap
}

// Told is what it was told.
type Told struct {
	Text    string // by a read
	Refused bool   // a swap found another text
	Unknown bool   // a write may have happened, or not
	excused bool   // and a swap may have been refused because of such a write
}

// Operation is a call for Check. With an unknown outcome, it has no end.
func Operation(client int, c Called, t Told, begun, ended time.Duration) porcupine.Operation {
	if t.Unknown {
		ended = math.MaxInt64
	}
	return porcupine.Operation{ClientId: client, Input: c, Output: t, Call: int64(begun), Return: int64(ended)}
}

// model says what a register may do.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, c, t := state.(string), input.(Called), output.(Told)
		switch c.Op {
		case Read:
			return now == t.Text, now
		case Update:
			return true, c.Text
		case Insert:
			return true, now + c.Text
		}
		if t.Unknown {
			if now == c.Expected {
				return true, c.Text
			}
			return true, now
		}
		if now == c.Expected && !t.Refused {
			return true, c.Text
		}
		return t.Refused && (now != c.Expected || t.excused), now
	},
	Partition: func(all []porcupine.Operation) (parts [][]porcupine.Operation) {
		byRegister := map[any][]porcupine.Operation{}
		for _, o := range all {
			r := o.Input.(Called).Register
			byRegister[r] = append(byRegister[r], o)
		}
		for _, part := range byRegister {
			parts = append(parts, part)
		}
		return parts
	},
}

// settle makes the history of a register one that can be checked in a short time. All texts
// are different. So a write whose outcome is not known and that somebody has seen happened
// before that, and one that nobody has seen matters only to swaps that were refused.
func settle(part []porcupine.Operation) (settled []porcupine.Operation) {
	unseen := int64(math.MaxInt64) // when the first of those began
	for _, o := range part {
		if !o.Output.(Told).Unknown {
			settled = append(settled, o)
			continue
		}
		for _, read := range part {
			if read.Input.(Called).Op == Read && strings.Contains(read.Output.(Told).Text, o.Input.(Called).Text) {
				o.Return = min(o.Return, read.Return)
			}
		}
		if o.Return < math.MaxInt64 {
			settled = append(settled, o)
		} else {
			unseen = min(unseen, o.Call)
		}
	}
	for i, o := range settled {
		if t := o.Output.(Told); t.Refused {
			t.excused = unseen < o.Return
			settled[i].Output = t
		}
	}
	return settled
}

// Check returns what is not linearizable. It takes at most within for each register.
func Check(all []porcupine.Operation, within time.Duration) error {
	for _, part := range model.Partition(all) {
		part = settle(part)
		if result := porcupine.CheckOperationsTimeout(model, part, within); result != porcupine.Ok {
			slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			text := fmt.Sprintf("not linearizable (%v):", result)
			for _, o := range part {
				text += fmt.Sprintf("\n  client %d, %v to %v: %+v, %+v", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
			}
			return errors.New(text)
		}
	}
	return nil
}
