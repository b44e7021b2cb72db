package cluster

import (
	"strconv"
	"testing"
)

// TestManyOwnersLeaveAPlaceForTheNext has owners that take all that they get, one after
// the other.
func TestManyOwnersLeaveAPlaceForTheNext(t *testing.T) {
	p := newPlaces(mostRequests)
	for n := range mostRequests / firstPart {
		owner := strconv.Itoa(n)
		p.fill(t, owner)
		if p.by[owner] == 0 {
			t.Fatalf("after %d owners there is no place for the next", n)
		}
		if want := mostRequests * (firstPart - 1) / firstPart / 2; n == 0 && p.by[owner] != want {
			t.Errorf("one alone has %d, want %d", p.by[owner], want)
		}
	}
}
