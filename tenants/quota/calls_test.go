package quota

import (
	"context"
	"errors"
	"log/slog"
	"os"
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

// TestCountsAreOfOneIncarnation counts two tenants with one id, of which the first
// has counts from before there were incarnations.
func TestCountsAreOfOneIncarnation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.json")
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	if err := os.WriteFile(path, []byte(`{"a": {"calls": 7, "day": "2026-01-31", "last_active": "2026-01-31T11:00:00Z"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	first, second := &tenants.Tenant{ID: "a"}, &tenants.Tenant{ID: "a", Incarnation: now}
	calls := OpenCalls(path, slog.Default())
	if err := calls.Admit(second, now); err != nil {
		t.Fatal(err)
	}
	if a, b := calls.Of(first, now).Today, calls.Of(second, now).Today; a != 7 || b != 1 {
		t.Errorf("%d and %d calls", a, b)
	}
	calls.Forget(first)
	calls = OpenCalls(path, slog.Default())
	if a, b := calls.Of(first, now).Today, calls.Of(second, now).Today; a != 0 || b != 1 {
		t.Errorf("after the first was forgotten: %d and %d calls", a, b)
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
