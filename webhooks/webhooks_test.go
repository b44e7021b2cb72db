package webhooks

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLost has the receiver read everything again when the history does not go back to
// where it was.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.change(1, 1)
		synctest.Wait()
		w.stop()
		w.change(2, 5)
		w.kept = 4
		w.start()
		w.want("after the gap", "a.org", "resync-c0", "c1", "resync-c5")
		w.change(6, 6)
		w.want("from then on", "a.org", "resync-c0", "c1", "resync-c5", "c6")
	})
}

// TestStop stops what is under way when a tenant is disabled or a webhook removed, and
// nobody inherits how far it was.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := hookTo("a", "https://a.org/x")
		w := newWorld(t, one)
		synctest.Wait()
		w.answers(func(request) (int, http.Header) { return 0, nil })
		w.change(1, 1)
		w.want("under way", "a.org", "resync-c0", "c1")
		began := time.Now()
		w.load(fileWith(t, false, one))
		synctest.Wait()
		if s := w.statusOf("a"); time.Since(began) > 0 || s.State != Stopped || len(w.Lag()) > 0 {
			t.Errorf("it goes on for %v: %+v", time.Since(began), s)
		}
		w.change(2, 2)
		time.Sleep(time.Hour)
		w.want("disabled", "a.org", "resync-c0", "c1")
		w.answers(func(request) (int, http.Header) { return 200, nil })
		w.load(fileWith(t, true, one))
		w.want("enabled again", "a.org", "resync-c0", "c1", "c1", "c2")
		w.load(fileWith(t, true))
		w.change(3, 3)
		synctest.Wait()
		if left, err := os.ReadDir(w.state); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		w.load(fileWith(t, true, one))
		w.want("added again", "a.org", "resync-c0", "c1", "c1", "c2", "resync-c3")
		w.stop()
		w.mu.Lock()
		w.file = fileWith(t, true, hookTo("b", "https://a.org/x"))
		w.mu.Unlock()
		w.start()
		synctest.Wait()
		w.stop()
		if left, err := os.ReadDir(w.state); err != nil || len(left) != 1 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestIncarnation has a tenant with an id that was used before, which begins anew.
func TestIncarnation(t *testing.T) {
	of := func(incarnation string) *tenants.Snapshot {
		s, err := tenants.Parse([]byte(`{"tenants": [{"id": "will", "api_key": "key-of-will", "data_dir": "/d/w", "incarnation": "` + incarnation + `", "webhooks": [` + hookTo("a", "https://a.org/x") + `]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.load(of("20260131T150405.000000000Z"))
		w.settle()
		w.change(1, 1)
		w.want("the first", "a.org", "resync-c0", "c1")
		w.load(of("20260131T150406.000000000Z"))
		w.want("the next", "a.org", "resync-c0", "c1", "resync-c1")
	})
}

// TestMoved stops while another host serves the tenant, and begins anew when it is back.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.answers(func(request) (int, http.Header) { return 500, nil })
		w.change(1, 1)
		w.want("before", "a.org", "resync-c0", "c1")
		w.mu.Lock()
		w.moved = true
		w.mu.Unlock()
		time.Sleep(time.Hour)
		w.want("elsewhere", "a.org", "resync-c0", "c1")
		w.answers(func(request) (int, http.Header) { return 200, nil })
		w.mu.Lock()
		w.moved = false
		w.mu.Unlock()
		time.Sleep(lookMost)
		w.want("again here", "a.org", "resync-c0", "c1", "c1")
	})
}

// TestManyOfOne has one tenant with receivers that do not answer, and looks at how many
// requests are made at once.
func TestManyOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hooks []string
		for _, host := range strings.Fields("a b c d e f g h i j k l m n o p") {
			hooks = append(hooks, hookTo(host, "https://"+host+".org/"))
		}
		w := newWorld(t)
		w.answers(func(request) (int, http.Header) { return 0, nil })
		w.load(fileWith(t, true, hooks...))
		synctest.Wait()
		if n := len(w.sent()); n != mostOfTenant {
			t.Errorf("%d requests at once", n)
		}
		time.Sleep(attemptTimeout)
		synctest.Wait()
		if n := len(w.sent()); n != 2*mostOfTenant {
			t.Errorf("%d requests until then", n)
		}
	})
}

// TestPace sends no more than so many requests a second for one tenant.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.change(1, 1000)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(w.sent()); n < 2*mostOfTenantASecond || n > 2*mostOfTenantASecond+mostOfTenant+1 {
			t.Errorf("%d requests in 2 s", n)
		}
	})
}
