package quota

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

func TestCallsRollOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.json")
	calls, tenant := OpenCalls(path, slog.Default()), &tenants.Tenant{ID: "a", CallsPerDay: 2}
	late := time.Date(2026, 1, 31, 23, 59, 50, 0, time.UTC)
	for range 2 {
		if err := calls.Admit(tenant, late); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, late); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Errorf("%v", err)
	}
	if err := calls.Admit(tenant, late.Add(limit.RetryAfter)); err != nil {
		t.Errorf("when it said: %v", err)
	}
	if got := calls.Of(tenant, late.Add(time.Minute)); got.Today != 1 || got.Day != "2026-02-01" {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := calls.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := OpenCalls(path, slog.Default()).Of(tenant, late.Add(time.Minute)); got.Today != 1 || !got.LastActive.Equal(late.Add(10*time.Second)) {
		t.Errorf("read back: %+v", got)
	}
}

func TestRequestsPerMinute(t *testing.T) {
	calls, tenant := OpenCalls("", slog.Default()), &tenants.Tenant{ID: "a", RequestsPerMinute: 6}
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for range 6 {
		if err := calls.Admit(tenant, now); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, now); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Fatalf("%v", err)
	}
	if err := calls.Admit(tenant, now.Add(limit.RetryAfter-time.Second)); err == nil {
		t.Error("let in before the time it said")
	}
	if err := calls.Admit(tenant, now.Add(limit.RetryAfter)); err != nil {
		t.Errorf("when it said: %v", err)
	}
}
