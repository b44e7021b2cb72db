package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/fsutil"
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

// TestAnAnswerIsAsDurableAsItsWrite when another segment is begun, whatever the policy: a power
// cut leaves both.
func TestAnAnswerIsAsDurableAsItsWrite(t *testing.T) {
	for _, policy := range []Policy{Off, Batch, Always} {
		for _, suspended := range []bool{false, true} {
			w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = policy }))
			var unsynced []string // files of which a power cut leaves nothing
			w.tune = func(s *settings) {
				replace := s.replace
				s.replace = func(path string, content io.WriterTo, mode fs.FileMode, durable bool) error {
					if !durable {
						unsynced = append(unsynced, path)
					}
					return replace(path, content, mode, durable)
				}
			}
			w.reopen()
			w.mutate(keyed("k1", "one"))
			w.j.mustRotate = true
			w.mutate(update("b.phext", 1, "in another segment"))
			if suspended {
				w.must(w.j.Suspend())
			}
			for _, path := range unsynced {
				w.must(fsutil.IgnoreMissing(os.Remove(path)))
			}
			w.cfg.BootID = "boot-2"
			if suspended {
				w.reopen()
			} else {
				(&model{world: w}).reopenAfterCut()
			}
			w.recover()
			w.expect(t, "will", "k1", "one")
		}
	}
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

// TestAnswersTakeNoMemory but for where they are, also while they are read and written again.
func TestAnswersTakeNoMemory(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = Off }))
	const n = mostAnswerBytes >> 20
	long := strings.Repeat("x", 1<<20)
	answer := func(i int) string { return fmt.Sprint(i) + long[:len(long)-2] }
	before := heap()
	for i := range n {
		w.mutate(keyed(fmt.Sprint("k", i), answer(i)))
	}
	for range 2 {
		for i := range n {
			w.expect(t, "will", fmt.Sprint("k", i), answer(i))
		}
		if more := heap() - before; more > 2<<20 {
			t.Errorf("%d KiB are kept for answers of %d KiB", more>>10, n<<10)
		}
		w.reopen()
	}
}

// TestAnswersAreForgottenManyAtATime, since all are looked at for that.
func TestAnswersAreForgottenManyAtATime(t *testing.T) {
	left := func(n, size int) int {
		forget := AnswersToForget(n, func(int) (AnswerWriter, int) { return 1, size })
		return n - len(slices.DeleteFunc(forget, func(f bool) bool { return !f }))
	}
	const size, fit = 16 << 10, mostAnswerBytes / (16 << 10)
	for _, c := range []struct{ n, size, want int }{
		{fit, size, fit}, {fit + 1, size, fit - fit/16}, {2 * fit, size, fit - fit/16},
		{mostAnswers, 1, mostAnswers}, {mostAnswers + 1, 1, mostAnswers - mostAnswers/16},
	} {
		if got := left(c.n, c.size); got != c.want {
			t.Errorf("%d of %d with %d bytes are left, want %d", got, c.n, c.size, c.want)
		}
	}
}

// TestAnswersOfWhoeverHasTheMost are forgotten, one after the other.
func TestAnswersOfWhoeverHasTheMost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type kept struct {
			of   AnswerWriter
			size int
		}
		all := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) kept {
			return kept{AnswerWriter(rapid.Uint64Range(1, 4).Draw(rt, "of")), rapid.SampledFrom([]int{1, shortAnswer, mostAnswerBytes / 8, mostAnswerBytes / 3}).Draw(rt, "size")}
		}), 0, 60).Draw(rt, "answers")
		keep := rapid.IntRange(0, len(all)).Draw(rt, "keep")
		want := make([]bool, len(all))
		// next is that of whoever's answers weigh the most, and of several the oldest.
		next := func(weight func(kept) int, longFirst bool) int {
			weights, first := map[AnswerWriter]int{}, map[AnswerWriter]int{}
			for i, a := range all {
				if want[i] {
					continue
				}
				weights[a.of] += weight(a)
				if f, ok := first[a.of]; !ok || longFirst && all[f].size <= shortAnswer && a.size > shortAnswer {
					first[a.of] = i
				}
			}
			best := -1
			for of, i := range first {
				if best < 0 || weights[of] > weights[all[best].of] || weights[of] == weights[all[best].of] && i < best {
					best = i
				}
			}
			return best
		}
		for range len(all) - keep {
			want[next(func(kept) int { return 1 }, false)] = true
		}
		bytes := func() (n int) {
			for i, a := range all {
				if !want[i] {
					n += a.size
				}
			}
			return n
		}
		if bytes() > mostAnswerBytes {
			for bytes() > fewer(mostAnswerBytes) {
				want[next(func(a kept) int { return a.size }, true)] = true
			}
		}
		got := answersToForget(len(all), keep, func(i int) (AnswerWriter, int) { return all[i].of, all[i].size })
		if !slices.Equal(got, want) {
			rt.Fatalf("%v are forgotten, want %v", got, want)
		}
	})
}

// TestAnswersOfOthersAreKept however many those of one key are, or of another tenant in a
// shared directory, also where all directories have too many.
func TestAnswersOfOthersAreKept(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	for name, key := range map[string]func(i int) Mutation{
		"tenant": func(i int) Mutation { m := keyed(fmt.Sprint(i), "a"); m.Tenant = "eve"; return m },
		"guest":  func(i int) Mutation { return keyed(fmt.Sprint("space\x00", i), "a") },
		"key":    func(i int) Mutation { return keyed(fmt.Sprint("\x00reader\x00", i), "a") },
	} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprint(name, full), func(t *testing.T) {
				a := w.set.cfg.newAnswers()
				defer a.free()
				if full {
					a.all.TakeAnyway(mostAnswersAll)
					defer a.all.Give(mostAnswersAll)
				}
				mine := answerOf(keyed("pay-1", "mine"), 1)
				a.add(mine)
				for i := range mostAnswers + 500 {
					a.add(answerOf(key(i), 1))
				}
				if got, ok := a.find(mine.key, 2); !ok || got != mine {
					t.Error("another's answer is forgotten")
				}
				if _, ok := a.find(keyOf(key(0).Tenant, key(0).Idempotency), 2); ok || len(a.queue) != len(a.byKey) {
					t.Errorf("nothing is forgotten, and %d of %d are found", len(a.byKey), len(a.queue))
				}
			})
		}
	}
}

// TestTheAnswerToALongText is found without the text.
func TestTheAnswerToALongText(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	m := keyed("k", "one")
	m.Text = strings.Repeat("x", 2*mostKept)
	w.mutate(m)
	for range 2 {
		w.expect(t, "will", "k", "one")
		w.reopen()
	}
}

// heap is what is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAnswersOfAllAreBounded lets one data_dir have all that there may be. Another one keeps
// sureAnswers all the same, and the first one its own.
func TestAnswersOfAllAreBounded(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	first, second := w.set.cfg.newAnswers(), w.set.cfg.newAnswers()
	for k := range mostAnswers + 1 {
		first.add(answerOf(keyed(fmt.Sprint(k), "a"), 1))
	}
	first.all.TakeAnyway(mostAnswersAll - int64(len(first.queue)))
	for k := range 2 * sureAnswers {
		second.add(answerOf(keyed(fmt.Sprint(k), "a"), 1))
	}
	n := len(second.queue)
	if len(first.queue) != fewer(mostAnswers) || n < sureAnswers || n > sureAnswers+sureAnswers/16 || second.queue[0].key != keyOf("will", fmt.Sprint(2*sureAnswers-n)) {
		t.Errorf("%d and %d are kept", len(first.queue), n)
	}
	first.free()
	for k := range sureAnswers {
		second.add(answerOf(keyed(fmt.Sprint("more", k), "a"), 1))
	}
	if second.free(); len(second.queue) != n+sureAnswers {
		t.Errorf("%d are kept where there is room again", len(second.queue))
	}
}

// TestAnswersThatAreDamaged are of requests that were made. Others are kept, and the journal
// goes on.
func TestAnswersThatAreDamaged(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	rotate := func() {
		w.j.mustRotate = true
		w.mutate(update("a.phext", 1, "x"))
	}
	w.mutate(keyed("k1", "one"))
	w.mutate(keyed("k2", "two"))
	rotate()
	path := filepath.Join(w.j.dir, answersFile)
	b, err := os.ReadFile(path)
	w.must(err)
	b[len(b)-1]++ // of the second one
	w.must(os.WriteFile(path, b, 0o600))
	w.expect(t, "will", "k1", "one")
	if _, _, ok, err := w.j.Answered("will", "k2"); !ok || !errors.Is(err, ErrDamaged) {
		t.Errorf("%v %v", ok, err)
	}
	w.mutate(keyed("k3", "three"))
	rotate()
	w.expect(t, "will", "k1", "one")
	w.expect(t, "will", "k2", "")
	w.expect(t, "will", "k3", "three")
	w.must(os.Remove(path))
	rotate()
	w.expect(t, "will", "k1", "")
}

// TestAnswersAreFoundAfterAFailure of which it is not known whether their file was replaced.
func TestAnswersAreFoundAfterAFailure(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(keyed("old", "one"))
	w.now = w.now.Add(AnswerAge / 2)
	w.mutate(keyed("new", "two"))
	w.j.mustRotate = true
	w.mutate(update("a.phext", 1, "x"))
	w.now = w.now.Add(AnswerAge * 3 / 4) // the old one is left out from now on
	w.mutate(update("a.phext", 1, "y"))
	replace := w.j.cfg.replace
	w.j.cfg.replace = func(path string, content io.WriterTo, mode fs.FileMode, _ bool) error {
		return errors.Join(fsutil.ReplaceFrom(path, content, mode, false), errDisk)
	}
	w.j.mu.Lock()
	err := w.j.saveAnswersLocked()
	w.j.cfg.replace = replace
	w.j.mu.Unlock()
	if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	w.expect(t, "will", "old", "")
	w.expect(t, "will", "new", "two")
}

// TestAJournalThatCannotBeOpenedTakesNoPlaces for answers, however often that is tried.
func TestAJournalThatCannotBeOpenedTakesNoPlaces(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), nil))
	w.mutate(keyed("k", "one"))
	w.j.mustRotate = true
	w.mutate(update("a.phext", 1, "x"))
	w.must(w.j.Suspend())
	floor := filepath.Join(w.j.dir, floorFile)
	w.must(os.RemoveAll(floor))
	w.must(os.Mkdir(floor, 0o700))
	for range 10 {
		if _, _, _, err := w.j.Answered("will", "k"); err == nil {
			t.Fatal("it was opened")
		}
	}
	if n := w.set.cfg.answersAll.Above(1); n > 0 {
		t.Errorf("%d answers more are counted than there are", n)
	}
	w.must(os.Remove(floor))
	w.expect(t, "will", "k", "one")
}

var errDisk = errors.New("the disk fails")

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
		w.expect(t, "will", "k2", "two")
	}
}

// TestADamagedAnswerIsLostAlone damages each byte of the file with the answers: as it is read
// at a start, and as it is written again by a journal that is in use.
func TestADamagedAnswerIsLostAlone(t *testing.T) {
	w := closing(t, newWorld(t, t.TempDir(), func(c *Config) { c.Sync = Off }))
	const n = 5
	for i := range n {
		w.mutate(keyed(fmt.Sprint("k", i), fmt.Sprint("answer ", i)))
	}
	w.j.mustRotate = true
	w.mutate(update("a.phext", 1, "in the next segment"))
	path := filepath.Join(w.j.dir, answersFile)
	whole, err := os.ReadFile(path)
	w.must(err)
	left := func() (all []string) {
		for i := range n {
			got, _, ok, err := w.j.Answered("will", fmt.Sprint("k", i))
			if want := fmt.Sprint("answer ", i); ok && err == nil && got == want {
				all = append(all, got)
			} else if ok && err == nil {
				t.Fatalf("%q instead of %q", got, want)
			}
		}
		return all
	}
	for at := range whole {
		w.must(os.WriteFile(path, whole, 0o600))
		w.must(w.j.Suspend())
		if all := left(); len(all) != n {
			t.Fatalf("%q are there before the damage", all)
		}
		damaged := slices.Clone(whole)
		damaged[at] ^= 0xa5
		w.must(os.WriteFile(path, damaged, 0o600))
		w.must(w.j.saveAnswers())
		if all := left(); len(all) < n-1 {
			t.Fatalf("byte %d is damaged while the journal is in use: only %q are left", at, all)
		}
		w.must(os.WriteFile(path, damaged, 0o600))
		w.must(w.j.Suspend())
		if all := left(); len(all) < n-1 {
			t.Fatalf("byte %d is damaged at a start: only %q are left", at, all)
		}
	}
}

func (j *Journal) saveAnswers() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.saveAnswersLocked()
}
