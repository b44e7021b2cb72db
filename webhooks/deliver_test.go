package webhooks

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// TestDelivery tells two receivers of changes in order, across a restart.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"), hookTo("b", "http://b.org/"))
		w.want("the beginning", "a.org", "resync-c0")
		w.change(1, 5)
		w.want("changes", "a.org", "resync-c0", "c1", "c2", "c3", "c4", "c5")
		w.want("changes", "b.org", "resync-c0", "c1", "c2", "c3", "c4", "c5")
		w.wantCounts(12, 0, 0)
		w.stop()
		w.change(6, 6)
		w.start()
		w.want("after a restart", "a.org", "resync-c0", "c1", "c2", "c3", "c4", "c5", "c6")
		if s := w.statusOf("a"); s.State != Active || time.Since(s.LastDelivered) > time.Second {
			t.Errorf("%+v", s)
		}
	})
}

// TestKill loses what was not saved: the receiver gets a second's requests again, with the
// same ids.
func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.change(1, 2)
		synctest.Wait()
		time.Sleep(saveEvery)
		w.change(3, 4)
		w.want("before", "a.org", "resync-c0", "c1", "c2", "c3", "c4")
		file := (&hook{service: w.Service, key: keyOf(w.Tenants().All()[0], w.Tenants().All()[0].Webhooks()[0])}).path()
		saved, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(saved), `"c2~`) {
			t.Fatalf("%s, %v", saved, err)
		}
		w.stop()
		if err := os.WriteFile(file, saved, 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.want("after", "a.org", "resync-c0", "c1", "c2", "c3", "c4", "c3", "c4")
		ids := map[string]bool{}
		for _, r := range w.sent() {
			ids[r.header.Get("webhook-id")] = true
		}
		if len(ids) != 5 {
			t.Errorf("the ids are %v", ids)
		}
	})
}

// TestSignature has the library of the specification verify what was sent.
func TestSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.change(1, 1)
		w.want("both", "a.org", "resync-c0", "c1")
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.sent() {
			if err := verifier.Verify([]byte(r.body), r.header); err != nil {
				t.Errorf("%s: %v", r.body, err)
			}
			if err := verifier.Verify([]byte(r.body+" "), r.header); err == nil {
				t.Error("another body has the same signature")
			}
			if r.header.Get("Content-Type") != "application/json" {
				t.Error(r.header)
			}
		}
		if got, want := w.sent()[0].body, `{"id":"c0~1","time":"2000-01-01T00:00:00Z","op":"resync"}`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got, want := w.sent()[1].body, `","time":"2000-01-01T00:00:00Z","phext":"notes","op":"update","c":"<a.1>","size":0}`; !strings.HasPrefix(got, `{"id":"c1~`) || !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestRetry waits longer and longer for a receiver that is down, keeps the order, and goes
// on where it was.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"), hookTo("b", "https://b.org/x"))
		w.answers(func(r request) (int, http.Header) {
			if r.host == "a.org" {
				return 503, nil
			}
			return 200, nil
		})
		w.change(1, 10)
		w.settle()
		if got := len(w.got("b.org")); got != 11 {
			t.Errorf("the other receiver got %d", got)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		var times []time.Time
		for _, r := range w.sent() {
			if r.id == "c1" && r.host == "a.org" {
				times = append(times, r.at)
			}
		}
		for i := 2; i < len(times); i++ {
			pause, before := times[i].Sub(times[i-1]), times[i-1].Sub(times[i-2])
			if pause < before && pause < pauseMost*3/4 || pause > pauseMost {
				t.Errorf("pause %d is %v after %v", i, pause, before)
			}
		}
		if len(times) < 18 || len(times) > 24 {
			t.Errorf("%d attempts in 10 hours", len(times))
		}
		s := w.statusOf("a")
		if s.State != Failing || s.Error != "the receiver answered 503" || time.Since(s.FailingSince) < 9*time.Hour {
			t.Errorf("%+v", s)
		}
		if lag := w.Lag()["will"]; lag.Round(time.Minute) != 10*time.Hour {
			t.Errorf("the lag is %v", lag)
		}
		w.answers(func(request) (int, http.Header) { return 200, nil })
		time.Sleep(pauseMost)
		synctest.Wait()
		if got := strings.Join(w.got("a.org"), " "); !strings.HasSuffix(got, "c1 c1 c2 c3 c4 c5 c6 c7 c8 c9 c10") {
			t.Error(got)
		}
		if s := w.statusOf("a"); s.State != Active || s.Error != "" || w.Lag()["will"] != 0 {
			t.Errorf("%+v", s)
		}
		if log := w.log.String(); strings.Count(log, "does not take a change") != 1 || strings.Count(log, "takes changes again") != 1 || !strings.Contains(log, "tenant=will webhook=a") {
			t.Error(log)
		}
	})
}

// TestGiveUp drops a change that a receiver never takes, tells it so, and goes on.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.answers(func(r request) (int, http.Header) {
			if r.id == "c2" {
				return 500, nil
			}
			return 200, nil
		})
		w.change(1, 3)
		time.Sleep(giveUpAfter - time.Minute)
		synctest.Wait()
		w.wantCounts(2, len(w.sent())-2, 0)
		time.Sleep(pauseMost + time.Minute)
		synctest.Wait()
		if got := strings.Join(w.got("a.org"), " "); !strings.HasSuffix(got, "c2 c2 resync-c2 c3") {
			t.Error(got)
		}
		w.wantCounts(4, len(w.sent())-4, 1)
		if !strings.Contains(w.log.String(), "level=ERROR") {
			t.Error(w.log)
		}
	})
}

// TestReceiverForDays gets each change once it is back, though the first was dropped.
func TestReceiverForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.answers(func(request) (int, http.Header) { return 0, nil })
		w.change(1, 3)
		time.Sleep(5 * 24 * time.Hour)
		w.answers(func(request) (int, http.Header) { return 200, nil })
		time.Sleep(pauseMost + time.Minute)
		synctest.Wait()
		if got := strings.Join(w.got("a.org"), " "); !strings.HasSuffix(got, "resync-c1 resync-c1 c2 c3") {
			t.Error(got)
		}
	})
}

// TestAnswers is about what a receiver can answer.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		after  string
		next   time.Duration // from the first request to the second one; 0 = there is none
	}{
		{"taken", 200, "", 0},
		{"taken, too", 299, "", 0},
		{"a redirect", 302, "", pauseFirst},
		{"not allowed", 405, "", pauseFirst},
		{"too many", 429, "120", 2 * time.Minute},
		{"much too many", 429, "999999999", pauseMost},
		{"a date", 503, "Fri, 31 Dec 1999 23:59:59 GMT", pauseFirst},
		{"no answer", 0, "", attemptTimeout + pauseFirst},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, hookTo("a", "https://a.org/x"))
				synctest.Wait()
				w.answers(func(request) (int, http.Header) {
					return test.status, http.Header{"Retry-After": {test.after}, "Location": {"https://b.org/"}}
				})
				w.change(1, 1)
				time.Sleep(2 * pauseMost)
				synctest.Wait()
				if len(w.got("b.org")) > 0 {
					t.Error("a redirect was followed")
				}
				if got := w.got("a.org"); test.next == 0 && len(got) != 2 || test.next != 0 && len(got) < 3 {
					t.Fatal(got)
				}
				if test.next == 0 {
					return
				}
				if pause := w.sent()[2].at.Sub(w.sent()[1].at); pause > test.next || pause < test.next-pauseFirst/4-1 {
					t.Errorf("the pause is %v, want %v", pause, test.next)
				}
			})
		})
	}
}

// TestGone ends a webhook for good, until it has another URL.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hookTo("a", "https://a.org/x"))
		w.answers(func(r request) (int, http.Header) {
			if r.host == "a.org" {
				return 410, nil
			}
			return 200, nil
		})
		w.change(1, 2)
		w.want("until then", "a.org", "resync-c0", "c1")
		if s := w.statusOf("a"); s.State != Gone {
			t.Errorf("%+v", s)
		}
		w.stop()
		w.start()
		w.change(3, 3)
		w.want("after a restart", "a.org", "resync-c0", "c1")
		if s := w.statusOf("a"); s.State != Gone {
			t.Errorf("after a restart: %+v", s)
		}
		w.load(fileWith(t, true, hookTo("a", "https://b.org/x")))
		w.want("another URL", "b.org", "resync-c3")
		w.answers(func(request) (int, http.Header) { return 200, nil })
		w.load(fileWith(t, true))
		w.load(fileWith(t, true, hookTo("a", "https://a.org/x")))
		w.want("added again", "a.org", "resync-c0", "c1", "resync-c3")
	})
}
