package supervisor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
)

func TestWhatCallersAreTold(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		retry time.Duration
	}{
		{"closed", ErrClosed, time.Second},
		{"start", &StartError{Dir: "/secret", Err: context.DeadlineExceeded, Lines: []string{"secret"}}, time.Second},
		{"crash loop", &CrashLoopError{Dir: "/secret", RetryAfter: 7 * time.Second, Last: "secret"}, 7 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := apierror.From(fmt.Errorf("wrapped: %w", test.err))
			if e == nil || e.Kind != apierror.Unavailable || e.RetryAfter != test.retry {
				t.Fatalf("%+v", e)
			}
			if strings.Contains(e.Message, "secret") {
				t.Errorf("message %q", e.Message)
			}
		})
	}
}
