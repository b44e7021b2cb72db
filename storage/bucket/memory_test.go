package bucket

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaults has each fault, and what it leaves behind.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		var fault Fault
		m.Fault = func(Op, string) Fault { return fault }
		there := func(key string) bool {
			fault = Fault{}
			_, err := m.Get(t.Context(), key, "")
			return err == nil
		}
		fault = Fault{Refuse: ErrTemporary}
		if _, err := m.Put(t.Context(), "a", nil, IfAbsent()); !errors.Is(err, ErrTemporary) || there("a") {
			t.Error("a lost request:", err)
		}
		fault = Fault{Lose: ErrUnknownOutcome}
		if _, err := m.Put(t.Context(), "a", nil, IfAbsent()); !errors.Is(err, ErrUnknownOutcome) || !there("a") {
			t.Error("a lost answer:", err)
		}
		fault = Fault{Twice: true}
		if _, err := m.Put(t.Context(), "b", nil, IfAbsent()); !errors.Is(err, ErrPreconditionFailed) || !there("b") {
			t.Error("a request that came twice:", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		fault = Fault{Delay: time.Hour}
		if _, err := m.Put(ctx, "c", nil, IfAbsent()); !errors.Is(err, ErrUnknownOutcome) {
			t.Error("a slow request:", err)
		}
		fault = Fault{Short: 1}
		if page, more, err := m.List(t.Context(), "", "", 10); err != nil || len(page) != 1 || !more {
			t.Error("a short list:", page, more, err)
		}
		fault = Fault{Miss: 1}
		if page, more, err := m.List(t.Context(), "", "", 10); err != nil || len(page) != 1 || more || page[0].Key != "a" {
			t.Error("a list without the newest:", page, more, err)
		}
		if calls := m.Calls(); calls[OpPut] != 4 || calls[OpList] != 2 || len(m.Calls()) != 0 {
			t.Error(calls)
		}
	})
}
