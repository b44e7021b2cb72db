package memlimit

import (
	"strconv"
	"testing"
)

func TestShares(t *testing.T) {
	s := NewShares(128, 64)
	take := func(owner string, n int64, want bool) {
		t.Helper()
		if got := s.Of(owner).Take(n); got != want {
			t.Errorf("%q takes %d: %v", owner, n, got)
		}
	}
	take("a", 65, false) // more than one may have
	take("a", 60, true)
	take("a", 5, false)
	take("b", 52, true)
	take("b", 1, false) // the last 16 are for those who have little
	take("a", 1, false)
	take("c", 3, false)
	take("c", 2, true)
	take("c", 1, false)
	take("d", 1, true)
	take("d", 1, false)
	take("", 14, false)
	take("", 12, true) // whose all of it is
	take("e", 1, true)
	take("f", 1, false)
	for owner, n := range map[string]int64{"a": 60, "b": 52, "c": 2, "d": 1, "": 12, "e": 1} {
		s.Of(owner).Give(n)
	}
	if len(s.by) > 0 || s.Used() != 0 {
		t.Errorf("%d are used, by %v", s.Used(), s.by)
	}
	take("", 128, true)
	if a, all := s.Of("a").Limit(), s.Of("").Limit(); a != 64 || all != 128 {
		t.Errorf("limits %d and %d", a, all)
	}
}

// TestManyOwnersLeaveSomethingForTheNext, one after the other of whom takes all that it gets.
func TestManyOwnersLeaveSomethingForTheNext(t *testing.T) {
	for what, test := range map[string]struct{ limit, one int64 }{"places": {1024, 1}, "bytes": {96 << 20, 64 << 10}} {
		s := NewShares(test.limit, test.limit/2)
		for n := range 30 {
			share, taken := s.Of(strconv.Itoa(n)), 0
			for share.Take(test.one) {
				taken++
			}
			if taken == 0 {
				t.Fatalf("%s: after %d owners there is nothing for the next", what, n)
			}
		}
	}
}

func TestAThingOfManyOwnersIsThereOnce(t *testing.T) {
	s := NewSharedBy(NewShares(128, 64))
	take := func(owner, thing string, want bool) {
		t.Helper()
		if got := s.Take(owner, thing, 40); got != want {
			t.Errorf("%q takes %q: %v", owner, thing, got)
		}
	}
	owners := []string{"a", "b", "c", "d", ""}
	for _, owner := range owners {
		take(owner, "popular", true)
		take(owner, "popular", true)
	}
	if s.Used() != 40 {
		t.Errorf("%d are used", s.Used())
	}
	take("a", "another", false) // more than one may have
	take("e", "another", true)
	take("e", "popular", false)
	take("f", "a third", false) // the last 16 are for those who have little
	if !s.Take("f", "a little", 4) {
		t.Error("there is no room for a little")
	}
	for _, owner := range owners {
		s.Give(owner, "popular", 40)
		s.Give(owner, "popular", 40)
	}
	if s.Used() != 44 || len(s.things) != 2 || len(s.users) != 2 {
		t.Errorf("%d are used, by %v", s.Used(), s.users)
	}
	take("f", "a third", true)
	s.Give("f", "a third", 40)
	s.Give("f", "a little", 4)
	s.Give("e", "another", 40)
	if s.Used() != 0 || len(s.things) != 0 || len(s.shares.by) != 0 {
		t.Errorf("%d are used, by %v", s.Used(), s.shares.by)
	}
	if !s.Take("a", "larger than its part", 1000) || s.Take("a", "x", 1) {
		t.Error("it does not fit when there is nothing else")
	}
}
