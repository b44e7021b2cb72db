package proxy

import "testing"

// TestAnUpgradeHeaderMeansNothing, also one that no protocol has for its name.
func TestAnUpgradeHeaderMeansNothing(t *testing.T) {
	w := newWorld(t, options{})
	if answer := w.ask("GET", third, "", "Connection", "Upgrade", "Upgrade", "caf\xe9"); answer.Code != 200 || answer.Body.String() != "the scroll" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}
