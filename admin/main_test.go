package admin

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if vaultChild() {
		return
	}
	goleak.VerifyTestMain(m)
}
