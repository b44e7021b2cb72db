package registry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants"
)

// TestManyHosts has three hosts add, change and remove tenants at the same time, while the
// bucket loses answers, is slow and fails. What was acknowledged is there exactly once,
// what was refused is not, and all hosts have the same in the end.
func TestManyHosts(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			testManyHosts(t, seed)
		})
	}
}

func testManyHosts(t *testing.T, seed uint64) {
	b := bucket.NewMemory()
	first := newMachine(t, b)
	first = started(t, b, first.entry("shared"))
	hosts := []*machine{first, first.another(), first.another()}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, seed))
	b.Fault = func(bucket.Op, string) (f bucket.Fault) {
		mu.Lock()
		defer mu.Unlock()
		f.Delay = time.Duration(random.IntN(3)) * time.Millisecond
		switch random.IntN(20) {
		case 0:
			f.Lose = bucket.ErrUnknownOutcome
		case 1:
			f.Refuse = bucket.ErrTemporary
		case 2:
			f.Refuse = bucket.ErrUnknownOutcome
		case 3:
			f.Twice = true
		}
		return f
	}
	ctx, stop := inBubble(t)
	var polling, working sync.WaitGroup
	want, unknown := map[string]bool{}, map[string]bool{}
	note := func(id string, there bool, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch told := apierror.From(err); {
		case err == nil:
			want[id] = there
		case told != nil && told.Kind == apierror.NotKnown:
			unknown[id] = true
		case told == nil || told.Kind != apierror.Unavailable && told.Kind != apierror.NotFound:
			t.Errorf("%s: %v", id, err)
		}
	}
	for n, m := range hosts {
		m.registry.Poll = 20 * time.Millisecond
		polling.Go(func() { m.registry.Run(ctx, m.Follow, nil) })
		working.Go(func() {
			for i := range 8 {
				id := fmt.Sprintf("t-%d-%d", n, i)
				note(id, true, m.add(id))
				err := m.Edit(func(d *tenants.Document) error {
					return d.Change("shared", func(e *tenants.Entry) error { *ptr(&e.AdminEmail) += id + " "; return nil })
				})
				note(" "+id, true, err)
				if i%3 == 0 {
					note(id, false, m.remove(id))
				}
			}
		})
	}
	working.Wait()
	stop()
	polling.Wait()
	b.Fault = nil
	for _, m := range hosts {
		m.look()
		m.check(m.Follow())
	}
	for _, m := range append(hosts, first.another()) {
		shared, _ := m.Current().ByID("shared")
		for id, there := range want {
			_, is := m.Current().ByID(id)
			if of, isChange := strings.CutPrefix(id, " "); isChange { // of the tenant that all change
				is = strings.Count(shared.AdminEmail, of+" ") == 1
			}
			if is != there && !unknown[id] {
				t.Errorf("%s: %v, want %v", id, is, there)
			}
		}
		for _, is := range m.Current().All() {
			if there := want[is.ID]; !there && !unknown[is.ID] && is.ID != "shared" {
				t.Errorf("%s is there, and nobody was told", is.ID)
			}
		}
	}
}
