package changes

import (
	"testing"

	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// TestCursor reads what it has given, and nothing that was given to nobody or another.
func TestCursor(t *testing.T) {
	will, emi := &tenants.Tenant{ID: "will"}, &tenants.Tenant{ID: "emi"}
	for _, p := range []journal.Position{{}, {Segment: 1}, {Segment: 7, Created: 1_700_000_000_000_000_000, Offset: 1 << 40, Seq: 1<<64 - 1}} {
		text := cursor(p, will)
		if got, ok := parseCursor(text, will); !ok || got != p {
			t.Errorf("%+v became %+v, %v", p, got, ok)
		}
		if _, ok := parseCursor(text, emi); ok {
			t.Errorf("another tenant may use the cursor of %+v", p)
		}
		for i := range len(text) {
			for _, c := range []byte("Aa9-_. ") {
				wrong := text[:i] + string(c) + text[i+1:]
				if got, ok := parseCursor(wrong, will); ok && got != p {
					t.Errorf("%q is taken for %+v", wrong, got)
				}
			}
			if _, ok := parseCursor(text[:i], will); ok {
				t.Errorf("%q is taken for a cursor", text[:i])
			}
		}
	}
}
