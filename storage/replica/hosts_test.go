package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
)

// TestHosts has hosts that take a directory over and append to it, whenever they like
// and without any lease, with a bucket that fails in every way. What was acknowledged
// is in the log, once and in order, and nothing of an earlier epoch comes after a
// later one.
func TestHosts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.IntRange(0, 99), 0, 300).Draw(rt, "faults")
		hosts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) hostPlan {
			return hostPlan{rapid.IntRange(1, 3).Draw(t, "rounds"), rapid.IntRange(1, 6).Draw(t, "writes"), time.Duration(rapid.IntRange(0, 1000).Draw(t, "pause")) * time.Millisecond}
		}), 1, 4).Draw(rt, "hosts")
		var wrong []error
		synctest.Test(t, func(t *testing.T) { wrong = runHosts(hosts, faults) })
		if len(wrong) > 0 {
			rt.Fatal(errors.Join(wrong...))
		}
	})
}

type hostPlan struct {
	rounds, writes int
	pause          time.Duration
}

func runHosts(hosts []hostPlan, faults []int) (wrong []error) {
	m := bucket.NewMemory()
	var mu sync.Mutex
	m.Fault = func(bucket.Op, string) bucket.Fault {
		mu.Lock()
		defer mu.Unlock()
		if len(faults) == 0 {
			return bucket.Fault{}
		}
		n := faults[0]
		faults = faults[1:]
		delay := time.Duration(n) * time.Millisecond
		return []bucket.Fault{{}, {Lose: bucket.ErrUnknownOutcome}, {Refuse: bucket.ErrTemporary}, {Twice: true},
			{Refuse: bucket.ErrUnknownOutcome}, {Short: 1}, {Miss: n / 20}, {Delay: delay}, {Delay: delay}, {Delay: delay, Lose: bucket.ErrUnknownOutcome}}[n%10]
	}
	return runHostsOn(m, hosts, func() { m.Fault = nil })
}

func runHostsOn(m bucket.Bucket, hosts []hostPlan, mend func()) (wrong []error) {
	ctx := context.Background()
	var mu sync.Mutex
	acknowledged := map[string][]string{} // by host and epoch, in order
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, err)
	}
	run := func(d *Directory, round, writes int) error {
		o, etag, err := d.Owner(ctx)
		if err != nil {
			return err
		}
		l, err := d.TakeOver(ctx, o, etag)
		if err != nil {
			return err
		}
		for i := range writes {
			text := fmt.Sprintf("%s.%d.%d", d.Host, round, i)
			lease, cancel := context.WithTimeout(ctx, 8*time.Second)
			_, err := l.Append(lease, []object.Group{group(text)})
			cancel()
			if err != nil {
				return err
			}
			mu.Lock()
			key := fmt.Sprintf("%s of %d", d.Host, l.Epoch())
			acknowledged[key] = append(acknowledged[key], text)
			mu.Unlock()
		}
		return nil
	}
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			for round := range h.rounds {
				time.Sleep(h.pause)
				if err := run(newDirectory(m, fmt.Sprint("h", i)), round, h.writes); err != nil && !errors.Is(err, ErrDeposed) && !errors.Is(err, ErrLeaseEnded) {
					note(err)
				}
			}
		})
	}
	wg.Wait()
	mend()
	d := newDirectory(m, "reader")
	end, err := d.End(ctx)
	if err != nil {
		note(err)
	}
	inLog, count := map[string][]string{}, map[string]int{}
	for r, err := range d.Read(ctx, 0, end) {
		if err != nil {
			note(err)
		}
		for _, g := range r.Groups {
			key := fmt.Sprintf("%s of %d", r.Host, r.Epoch)
			inLog[key] = append(inLog[key], g.Mutations[0].Text)
			count[g.Mutations[0].Text]++
		}
	}
	for key, all := range acknowledged {
		if got := inLog[key]; len(got) < len(all) || !slices.Equal(got[:len(all)], all) {
			note(fmt.Errorf("%s was told %q, and the log has %q", key, all, got))
		}
	}
	for text, n := range count {
		if n > 1 {
			note(fmt.Errorf("%s is in the log %d times", text, n))
		}
	}
	return wrong
}

// TestHostsInARealBucket has the same in a directory, and on a server that is killed
// and started again.
func TestHostsInARealBucket(t *testing.T) {
	t.Run("directory", func(t *testing.T) { checkHosts(t, "file://"+t.TempDir()) })
	t.Run("s3", func(t *testing.T) {
		server := s3test.Start(t)
		done := make(chan struct{})
		var killing sync.WaitGroup
		killing.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(100 * time.Millisecond):
					server.Kill()
					server.Restart()
				}
			}
		})
		checkHosts(t, server.URL)
		close(done)
		killing.Wait()
	})
}

func checkHosts(t *testing.T, url string) {
	b, err := bucket.Open(url, bucket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if wrong := runHostsOn(b, []hostPlan{{12, 8, 0}, {9, 15, 0}, {12, 4, time.Millisecond}}, func() {}); len(wrong) > 0 {
		t.Error(errors.Join(wrong...))
	}
}
