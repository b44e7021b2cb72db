package journal

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"
)

func keyed(key, answer string) Mutation {
	m := update("a.phext", 1, answer)
	m.Idempotency, m.Digest, m.Answer = key, "digest of "+answer, answer
	return m
}

func (w *world) expect(t *testing.T, tenant, key, want string) {
	t.Helper()
	got, digest, ok, err := w.j.Answered(tenant, key)
	w.must(err)
	if ok != (want != "") || got != want || ok && digest != "digest of "+want {
		t.Errorf("%s/%s: %q, %q, %v, want %q", tenant, key, got, digest, ok, want)
	}
}

// TestTheFirstAnswerStands expects the first answer for a day, also after
// rotation, pruning, restarts and recovery.
func TestTheFirstAnswerStands(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.History = 0 }))
	p := w.begin(keyed("k1", "one"))
	w.expect(t, "will", "k1", "")
	w.must(p.Done(w.put("a.phext", text("one"))))
	w.must(w.begin(keyed("k2", "refused")).Abort())
	w.mutate(keyed("k1", "another"))
	for _, later := range []func(){
		func() {},
		w.reopen,
		func() { w.j.mustRotate = true; w.mutate(update("a.phext", 1, "x")) },
		w.reopen,
		func() { w.j.mustRotate = true; w.mutate(update("a.phext", 1, "y")) },
		func() { w.must(w.j.Suspend()) },
	} {
		later()
		w.expect(t, "will", "k1", "one")
		w.expect(t, "will", "k2", "")
		w.expect(t, "phil", "k1", "")
	}
	w.begin(keyed("k3", "three"))
	w.reopen()
	w.recover()
	w.expect(t, "will", "k3", "three")
	w.now = w.now.Add(24*time.Hour + time.Second)
	w.expect(t, "will", "k1", "")
	w.mutate(keyed("k1", "a day later"))
	w.expect(t, "will", "k1", "a day later")
	w.reopen()
	w.expect(t, "will", "k1", "a day later")
}

func TestAnswersAreBounded(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *Config) { c.Sync = Off })
	w.tune = func(s *settings) { s.answersMax, s.segmentMax = 5, 500 }
	w.reopen()
	closing(t, w)
	for i := range 20 {
		w.mutate(keyed(fmt.Sprint("k", i), fmt.Sprint("answer ", i)))
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			w.reopen()
		}
		w.expect(t, "will", "k14", "")
		w.expect(t, "will", "k15", "answer 15")
		w.expect(t, "will", "k19", "answer 19")
	}
}

// TestARepeatIsAsDurableAsTheFirst repeats a request before anything has synced
// it: the answer must wait for a sync, and fail with it.
func TestARepeatIsAsDurableAsTheFirst(t *testing.T) {
	for policy, syncs := range map[Policy]int{Off: 0, Batch: 1, Always: 1} {
		w, s := spinning(t, policy)
		p := w.begin(keyed("k", "one"))
		before := s.count()
		w.must(p.Done(w.put("a.phext", text("one"))))
		w.expect(t, "will", "k", "one")
		w.expect(t, "will", "k", "one")
		if n := s.count() - before; n != syncs {
			t.Errorf("%v: %d syncs, want %d", policy, n, syncs)
		}
		p = w.begin(keyed("k2", "two"))
		w.must(p.Done(w.put("a.phext", text("two"))))
		s.fail = syscall.EIO
		if _, _, _, err := w.j.Answered("will", "k2"); errors.Is(err, syscall.EIO) != (policy != Off) {
			t.Errorf("%v: the disk fails: %v", policy, err)
		}
		s.fail = nil
	}
}
