package quota

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

func TestCallsRollOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.json")
	calls, tenant := OpenCalls(path, slog.Default()), &tenants.Tenant{ID: "a", CallsPerDay: 2}
	late := time.Date(2026, 1, 31, 23, 59, 50, 0, time.UTC)
	for range 2 {
		if err := calls.Admit(tenant, Reads, late); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, Reads, late); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Errorf("%v", err)
	}
	if err := calls.Admit(tenant, Reads, late.Add(limit.RetryAfter)); err != nil {
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
	if err := calls.Admit(second, Reads, now); err != nil {
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
		if err := calls.Admit(tenant, Reads, now); err != nil {
			t.Fatal(err)
		}
	}
	var limit *LimitError
	if err := calls.Admit(tenant, Reads, now); !errors.As(err, &limit) || limit.RetryAfter != 10*time.Second {
		t.Fatalf("%v", err)
	}
	if err := calls.Admit(tenant, Reads, now.Add(limit.RetryAfter-time.Second)); err == nil {
		t.Error("let in before the time it said")
	}
	if err := calls.Admit(tenant, Reads, now.Add(limit.RetryAfter)); err != nil {
		t.Errorf("when it said: %v", err)
	}
}

// TestLimitsOfClasses has each kind of call limited on its own. A call that is refused
// uses up nothing of any limit.
func TestLimitsOfClasses(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	calls := OpenCalls("", slog.Default())
	tenant := &tenants.Tenant{ID: "a", ReadsPerMinute: 3, WritesPerMinute: 1, ListsPerMinute: 2, RequestsPerMinute: 20}
	admit := func(class Class, admitted int, wait time.Duration, says string) {
		t.Helper()
		for range admitted {
			if err := calls.Admit(tenant, class, now); err != nil {
				t.Errorf("%v", err)
			}
		}
		var limit *LimitError
		err := calls.Admit(tenant, class, now)
		if wait == 0 && err == nil {
			return
		}
		if !errors.As(err, &limit) || limit.RetryAfter != wait || !strings.Contains(err.Error(), says) {
			t.Errorf("%v", err)
		}
	}
	admit(Writes, 1, time.Minute, "may make 1 writes a minute")
	for range 50 {
		admit(Writes, 0, time.Minute, "1 writes")
	}
	admit(Reads, 3, 20*time.Second, "3 reads")
	admit(Lists, 2, 30*time.Second, "2 lists and searches")
	admit(NoClass, 14, 3*time.Second, "20 calls") // 20 with the 6 before
	admit(Reads, 0, 20*time.Second, "3 reads")    // the longer wait of the two
	now = now.Add(20 * time.Second)
	admit(Reads, 1, 20*time.Second, "3 reads")
	tenant.ReadsPerMinute = 0
	admit(Reads, 5, time.Second, "20 calls") // of 6.67 in 20 seconds
	tenant.RequestsPerMinute = 0
	admit(Reads, 100, 0, "")
}

// TestLeft is what a tenant may still do, which asking does not change.
func TestLeft(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	calls, tenant := OpenCalls("", slog.Default()), &tenants.Tenant{ID: "a", CallsPerDay: 5, RequestsPerMinute: 60, WritesPerMinute: 6}
	want := func(what string, at time.Time, want Left) {
		t.Helper()
		for range 2 {
			if got := calls.Left(tenant, at); got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
	}
	want("before any call", now, Left{Requests: 60, Writes: 6, Today: 5})
	for _, class := range []Class{Writes, Writes, Reads} {
		if err := calls.Admit(tenant, class, now); err != nil {
			t.Fatal(err)
		}
	}
	want("after three", now, Left{Requests: 57, Writes: 4, Today: 2})
	want("ten seconds later", now.Add(10*time.Second), Left{Requests: 60, Writes: 5, Today: 2})
	for range 4 {
		_ = calls.Admit(tenant, Lists, now.Add(10*time.Second)) // the last ones are refused
	}
	want("too many", now.Add(10*time.Second), Left{Requests: 58, Writes: 5, Today: 0})
	want("a day later", now.Add(24*time.Hour), Left{Requests: 60, Writes: 6, Today: 5})
	tenant = &tenants.Tenant{ID: "a", RequestsPerMinute: 10}
	want("with another limit", now, Left{Requests: 10})
}
