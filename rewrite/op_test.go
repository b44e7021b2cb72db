package rewrite

import (
	"strings"
	"testing"
	"unsafe"
)

// TestOperationIsNoPartOfTheRequest looks at where the name of an operation is
// in memory. One that pointed into the path kept the whole request alive for as
// long as a metric has a series with that name.
func TestOperationIsNoPartOfTheRequest(t *testing.T) {
	for _, op := range listed {
		path := strings.Clone("/api/v2/" + string(op))
		r, err := parseRoute(path, "will")
		if err != nil || r.op != op {
			t.Fatalf("%s: %v, %v", path, r.op, err)
		}
		if unsafe.StringData(string(r.op)) == unsafe.StringData(path[len("/api/v2/"):]) {
			t.Errorf("%s points into the path", op)
		}
	}
	if len(listed) != len(operations) {
		t.Errorf("%d operations are listed, and %d are known", len(listed), len(operations))
	}
}
