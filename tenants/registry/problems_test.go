package registry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/tenants"
)

// neighbours are ids of tenants in the same object as acme, and of one in another.
func neighbours() (same, other string) {
	for c := 'a'; same == "" || other == ""; c++ {
		if id := "t-" + string(c); object.TenantShard(id) == object.TenantShard("acme") {
			same = id
		} else {
			other = id
		}
	}
	return same, other
}

// TestABadObject is not believed if it is damaged, missing, or of another place: the tenants
// in it stay as they were, also at a start, and cannot be changed. All others are followed.
func TestABadObject(t *testing.T) {
	same, other := neighbours()
	n := object.TenantShard("acme")
	for name, spoil := range map[string]func(*machine, []byte){
		"damaged":            func(m *machine, was []byte) { m.put(n, was[:len(was)/2]) },
		"emptied":            func(m *machine, _ []byte) { m.put(n, nil) },
		"of a newer version": func(m *machine, was []byte) { m.put(n, append([]byte("SQB\x09"), was[4:]...)) },
		"missing":            func(m *machine, _ []byte) { m.check(m.Bucket.Delete(m.Context(), shardKey(n))) },
		"moved": func(m *machine, _ []byte) {
			o, err := m.Bucket.Get(m.Context(), shardKey(object.TenantShard(other)), "")
			m.check(err)
			m.put(n, o.Body)
		},
		"of another service": func(m *machine, _ []byte) { m.putTenant("other", "acme", `{"id":"acme"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMemory()
			one := newMachine(t, b)
			one = started(t, b, one.entry("acme"), one.entry(other, `"writers": ["acme"]`))
			two := one.another()
			was, err := b.Get(t.Context(), shardKey(n), "")
			one.check(err)
			spoil(one, was.Body)
			two.look()
			one.check(one.setQuota(other, 5))
			two.look()
			two.inForce("acme:0", other+":5[acme]")
			two.check(two.start())
			two.inForce("acme:0", other+":5[acme]")
			one.check(one.setQuota(other, 6))
			two.look()
			two.check(two.setQuota(other, 7))
			two.inForce("acme:0", other+":7[acme]")
			for what, edit := range map[string]func() error{
				"change": func() error { return two.setQuota("acme", 1) }, "add": func() error { return two.add(same) }, "remove": func() error { return two.remove("acme") },
			} {
				err := edit()
				if told := apierror.From(err); told == nil || told.Kind != apierror.Unavailable || !strings.Contains(told.Message, shardKey(n)) {
					t.Errorf("%s: %v", what, err)
				}
			}
			two.inForce("acme:0", other+":7[acme]")
			if p := two.registry.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], shardKey(n)) || strings.Count(two.log.String(), "level=ERROR") != 2 {
				t.Errorf("%q\n%s", p, two.log)
			}
			if next := newMachine(t, b); next.start() == nil {
				t.Errorf("a new machine takes %s", next.text())
			}
			if _, err := PutAll(t.Context(), two.Config); err == nil {
				t.Error("the bucket counts as filled")
			}
			two.put(n, was.Body)
			two.look()
			two.check(two.setQuota("acme", 1))
			one.look()
			one.want("acme:1", other+":7[acme]")
			two.want("acme:1", other+":7[acme]")
			if p := two.registry.Problems(); len(p) > 0 {
				t.Error(p)
			}
		})
	}
}

// inForce sees that the tenants in force and in the file are these, as want does.
func (m *machine) inForce(tenantsWanted ...string) {
	m.Helper()
	file, err := tenants.Load(m.File)
	m.check(err)
	m.has("in force", m.Current(), tenantsWanted...)
	m.has("in the file", file, tenantsWanted...)
	if !m.Status().Successful() {
		m.Error(m.Status().Err)
	}
}

// TestAnEditByHandOfABadObject is not in force, and does not start either: the bucket does not
// have it. Nothing of it is undone.
func TestAnEditByHandOfABadObject(t *testing.T) {
	b := bucket.NewMemory()
	m := newMachine(t, b)
	m = started(t, b, m.entry("acme"), m.entry("b"))
	m.put(object.TenantShard("acme"), []byte("damaged"))
	m.look()
	for _, entries := range [][]string{{m.entry("acme", `"quota_mb": 3`), m.entry("b")}, {m.entry("b")}} {
		m.byHand(entries...)
		before := m.text()
		for _, err := range []error{m.Reload(), m.start()} {
			if err == nil || !strings.Contains(err.Error(), shardKey(object.TenantShard("acme"))) {
				t.Error(err)
			}
		}
		if a, ok := m.Current().ByID("acme"); !ok || a.QuotaBytes != 0 || m.text() != before {
			t.Errorf("%v %s", ok, m.text())
		}
	}
}

// TestABadObjectIsPutBack has a host that does not poll find out by itself.
func TestABadObjectIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b)
		m = started(t, b, m.entry("acme"), m.entry("b"))
		n := object.TenantShard("acme")
		m.check(m.setQuota("acme", 1))
		was, err := b.Get(t.Context(), shardKey(n), "")
		m.check(err)
		m.put(n, []byte("damaged"))
		m.check(m.start())
		m.inForce("acme:1", "b:0")
		ctx, stop := inBubble(t)
		var running sync.WaitGroup
		running.Go(func() { m.registry.Run(ctx, m.Follow, nil) })
		defer running.Wait()
		defer stop()
		m.put(n, was.Body)
		time.Sleep(2 * lookAgain)
		synctest.Wait()
		m.check(m.setQuota("acme", 2))
		m.want("acme:2", "b:0")
		b.Calls()
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls := b.Calls(); len(calls) > 0 {
			t.Errorf("a host alone that is idle takes %v", calls)
		}
	})
}

// TestABadTenant is one that this sqgate cannot keep. It alone stays as it was, and a new
// machine serves all others.
func TestABadTenant(t *testing.T) {
	_, other := neighbours()
	for name, test := range map[string]struct {
		spoil func(*machine)
		also  bool // b is not served by a new machine either
	}{
		"a newer field":        {func(m *machine) { m.putTenant("", "acme", `{"id":"acme","writers":["b"],"new_field":1}`) }, false},
		"another id":           {func(m *machine) { m.putTenant("", "acme", `{"id":"zeta"}`) }, false},
		"no valid tenant":      {func(m *machine) { m.putTenant("", "acme", `{"id":"acme"}`) }, false},
		"a key of another":     {func(m *machine) { m.putTenant("", "acme", strings.ReplaceAll(m.entryInBucket("b"), `"b"`, `"acme"`)) }, true},
		"its key is another's": {func(m *machine) { m.putTenant("", "b", strings.ReplaceAll(m.entryInBucket("acme"), `"acme"`, `"b"`)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMemory()
			m := newMachine(t, b)
			m = started(t, b, m.entry("acme"), m.entry("b"), m.entry(other))
			two := m.another()
			test.spoil(m)
			m.look()
			two.look()
			m.check(m.setQuota(other, 5))
			two.look()
			for _, h := range []*machine{m, two} {
				h.inForce("acme:0", "b:0", other+":5")
				h.check(h.start())
				h.inForce("acme:0", "b:0", other+":5")
				if p := h.registry.Problems(); len(p) != 1 || strings.Count(h.log.String(), "level=ERROR") != 2 {
					t.Errorf("%q\n%s", p, h.log)
				}
			}
			next := m.another()
			if test.also {
				next.inForce(other + ":5")
			} else {
				next.inForce("b:0", other+":5")
			}
			before := m.entryInBucket("acme")
			err := next.Edit(func(d *tenants.Document) error {
				id, key, dir := "acme", "another-key", "/srv/acme"
				return d.Add(tenants.Entry{ID: &id, APIKey: &key, DataDir: &dir})
			})
			if err == nil || apierror.From(err) == nil || apierror.From(err).Kind != apierror.Conflict {
				t.Errorf("the id of a tenant who is not known here is given to another: %v", err)
			}
			next.check(next.setQuota(other, 6))
			if m.entryInBucket("acme") != before {
				t.Errorf("the bucket has %s", m.entryInBucket("acme"))
			}
		})
	}
}

// TestAWriterWhoIsHeld stays a writer in the bucket, whoever changes the tenant.
func TestAWriterWhoIsHeld(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("a"), one.entry("yard"))
	one.check(one.Edit(func(d *tenants.Document) error {
		return d.Change("a", func(e *tenants.Entry) error {
			yard := "yard"
			e.Writers = &[]*string{&yard}
			return nil
		})
	}))
	one.putTenant("", "yard", `{"id":"yard","new_field":1}`)
	two := one.another()
	two.inForce("a:0")
	two.check(two.setQuota("a", 3))
	two.inForce("a:3")
	if now := one.entryInBucket("a"); !strings.Contains(now, `"writers":["yard"]`) || !strings.Contains(now, `"quota_mb":3`) {
		t.Error(now)
	}
	two.look()
	two.inForce("a:3")
	// Nor does somebody else become one by its id.
	one.putTenant("", "yard", `{"id":"yard","writers":["gone"],"new_field":1}`)
	two.look()
	if err := two.add("gone"); err == nil || apierror.From(err) == nil || apierror.From(err).Kind != apierror.Conflict {
		t.Error(err)
	}
	two.check(two.add("other"))
}

func (m *machine) entryInBucket(id string) string {
	ids, _ := raw(m.TB, m.Bucket)
	return string(ids[id])
}

// TestAnObjectThatTheBucketCannotGive is like a damaged one at a start, which does not wait for it
// for long. A new machine waits, and says what for.
func TestAnObjectThatTheBucketCannotGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, other := neighbours()
		key := shardKey(object.TenantShard("acme"))
		b := bucket.NewMemory()
		m := newMachine(t, b)
		m = started(t, b, m.entry("acme"), m.entry(other))
		fault := faulty(b)
		fault(func(op bucket.Op, k string) (f bucket.Fault) {
			if op == bucket.OpGet && k == key {
				f.Refuse = bucket.ErrTemporary
			}
			return f
		})
		begun := time.Now()
		m.check(m.start())
		if took := time.Since(begun); took > agreeWithin+time.Second {
			t.Errorf("it took %v", took)
		}
		m.inForce("acme:0", other+":0")
		m.check(m.setQuota(other, 7))
		if err := m.setQuota("acme", 7); err == nil || !strings.Contains(err.Error(), key) {
			t.Error(err)
		}
		m.inForce("acme:0", other+":7")
		if log := m.log.String(); strings.Count(log, "an object of the bucket cannot be read") != 1 || !strings.Contains(log, key) {
			t.Error(log)
		}
		next := newMachine(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 3*agreeWithin)
		defer cancel()
		if _, err := Open(ctx, next.Config); err == nil || !strings.Contains(err.Error(), key) || strings.Count(next.log.String(), "the bucket does not answer") != 1 {
			t.Errorf("a new machine: %v\n%s", err, next.log)
		}
		fault(nil)
		m.look()
		m.check(m.setQuota("acme", 8))
		m.inForce("acme:8", other+":7")
		if p := m.registry.Problems(); len(p) > 0 {
			t.Errorf("%q", p)
		}
	})
}

// TestAnObjectThatTheBucketGivesNoMore counts as one that cannot be read, after a time in which
// others were given. Those are followed meanwhile.
func TestAnObjectThatTheBucketGivesNoMore(t *testing.T) {
	_, other := neighbours()
	key := shardKey(object.TenantShard("acme"))
	for name, test := range map[string]struct {
		fault bucket.Fault
		all   bool // objects
	}{
		"refused":          {fault: bucket.Fault{Refuse: bucket.ErrTemporary}},
		"forbidden":        {fault: bucket.Fault{Refuse: errBroken}},
		"not answered":     {fault: bucket.Fault{Delay: time.Hour}},
		"the whole bucket": {fault: bucket.Fault{Refuse: bucket.ErrTemporary}, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				one := newMachine(t, b)
				one = started(t, b, one.entry("acme"), one.entry(other))
				two := newMachine(t, b)
				two.Poll = 2 * time.Second
				two.check(two.start())
				fault := faulty(b)
				ctx, stop := inBubble(t)
				var running sync.WaitGroup
				running.Go(func() { two.registry.Run(ctx, two.Follow, nil) })
				defer running.Wait()
				defer stop()
				fault(func(op bucket.Op, k string) (f bucket.Fault) {
					if op == bucket.OpGet && (k == key || test.all) {
						f = test.fault
					}
					return f
				})
				time.Sleep(agreeWithin - time.Second)
				if p := two.registry.Problems(); len(p) > 0 {
					t.Errorf("at once: %q", p)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				p, said := two.registry.Problems(), strings.Count(two.log.String(), "level=ERROR")
				if test.all {
					if len(p) > 0 || said > 0 {
						t.Errorf("%q\n%s", p, two.log)
					}
				} else {
					if len(p) != 1 || !strings.HasPrefix(p[0], key) || said != 1 {
						t.Errorf("%q\n%s", p, two.log)
					}
					err := two.setQuota("acme", 1)
					if told := apierror.From(err); told == nil || told.Kind != apierror.Unavailable || !strings.Contains(told.Message, key) {
						t.Error(err)
					}
					one.check(one.setQuota(other, 5))
					time.Sleep(agreeWithin + 2*lookAgain)
					synctest.Wait()
					two.inForce("acme:0", other+":5")
				}
				fault(nil)
				time.Sleep(agreeWithin + 2*lookAgain)
				synctest.Wait()
				if p := two.registry.Problems(); len(p) > 0 {
					t.Errorf("when it can be read again: %q", p)
				}
				two.check(two.setQuota("acme", 2))
			})
		})
	}
}

// TestALookThatGetsNoAnswer delays no change.
func TestALookThatGetsNoAnswer(t *testing.T) {
	_, other := neighbours()
	b := bucket.NewMemory()
	m := newMachine(t, b)
	m = started(t, b, m.entry("acme"), m.entry(other))
	asked, answer := make(chan struct{}), make(chan struct{})
	fault := faulty(b)
	fault(func(op bucket.Op, key string) bucket.Fault {
		if op == bucket.OpGet && key == shardKey(object.TenantShard("acme")) {
			close(asked)
			<-answer
		}
		return bucket.Fault{}
	})
	var looking sync.WaitGroup
	looking.Go(func() { _, _ = m.registry.look(t.Context()) }) // the next look shows what came of it
	<-asked
	changed := make(chan error)
	go func() { changed <- errors.Join(m.setQuota(other, 5), m.setQuota("acme", 6)) }()
	select {
	case err := <-changed:
		m.check(err)
	case <-time.After(agreeWithin / 2):
		t.Error("a change waits for the answer")
		defer func() { <-changed }()
	}
	fault(nil)
	close(answer)
	looking.Wait()
	m.look()
	m.want("acme:6", other+":5")
}

// TestAnIDThatIsGivenAway makes nobody a writer where an earlier tenant with that id is one,
// whatever the host that adds it has read so far. While it cannot read an object, which may
// name the earlier one, it adds nobody, and does all else.
func TestAnIDThatIsGivenAway(t *testing.T) {
	_, bob := neighbours()
	key := shardKey(object.TenantShard("acme"))
	refused := bucket.Fault{Refuse: bucket.ErrTemporary}
	for name, test := range map[string]struct {
		fault    bucket.Fault // of the object with acme, where the id is given away
		restarts bool         // that host, which then has never read it
	}{
		"the object is read anew":            {},
		"it cannot be read any more":         {fault: refused},
		"it does not come any more":          {fault: bucket.Fault{Delay: time.Hour}},
		"it was never read":                  {fault: refused, restarts: true},
		"it was never read, but can be read": {restarts: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				one := newMachine(t, b)
				one = started(t, b, one.entry("acme"), one.entry(bob), one.entry("c"))
				broken := bucket.NewMemory() // of the other host
				two := one.another()
				two.Config.Bucket = &failing{b, broken}
				fault := faulty(broken)
				fault(func(op bucket.Op, k string) (f bucket.Fault) {
					if op == bucket.OpGet && k == key {
						f = test.fault
					}
					return f
				})
				if test.restarts {
					two.check(two.start())
				} else {
					two.registry.Bucket = two.Config.Bucket
				}
				one.check(one.Edit(func(d *tenants.Document) error {
					return d.Change("acme", func(e *tenants.Entry) error { e.Writers = &[]*string{&bob}; return nil })
				}))
				two.check(two.remove(bob))
				begun := time.Now()
				err := two.add(bob)
				if test.fault != (bucket.Fault{}) {
					if told := apierror.From(err); told == nil || told.Kind != apierror.Unavailable || !strings.Contains(told.Message, key) || !strings.Contains(told.Message, "no tenant can be added") {
						t.Error(err)
					}
					if took := time.Since(begun); took > freshWithin {
						t.Errorf("it took %v", took)
					}
					two.check(two.setQuota("c", 5))
					two.check(two.remove("c"))
					fault(nil)
					two.look()
					err = two.add(bob)
				}
				two.check(err)
				if now := one.entryInBucket("acme"); !strings.Contains(now, `"writers":[]`) {
					t.Errorf("the bucket has %s", now)
				}
				one.look()
				for _, m := range []*machine{one, two} {
					if a, _ := m.Current().ByID("acme"); len(a.Writers()) > 0 {
						t.Errorf("a new tenant may write elsewhere: %v", a.Writers())
					}
				}
			})
		})
	}
}

// failing is a bucket of which another one says what goes wrong.
type failing struct {
	bucket.Bucket
	faults *bucket.Memory
}

func (f *failing) Get(ctx context.Context, key, unlessETag string) (bucket.Object, error) {
	if _, err := f.faults.Get(ctx, key, ""); !errors.Is(err, bucket.ErrNotFound) {
		return bucket.Object{}, err
	}
	return f.Bucket.Get(ctx, key, unlessETag)
}

// TestWhatAnAddCosts is a write, and a look at each object.
func TestWhatAnAddCosts(t *testing.T) {
	b := bucket.NewMemory()
	m := newMachine(t, b)
	m = started(t, b, m.entry("acme"))
	b.Calls()
	m.check(m.add("b"))
	if calls := b.Calls(); len(calls) != 2 || calls[bucket.OpGet] != object.TenantShards || calls[bucket.OpPut] != 1 {
		t.Errorf("it takes %v", calls)
	}
	m.check(m.setQuota("b", 5))
	m.check(m.remove("b"))
	if calls := b.Calls(); len(calls) != 1 || calls[bucket.OpPut] != 2 {
		t.Errorf("other changes take %v", calls)
	}
}

// TestManyLooks asks the bucket for each object once at a time, whatever number of requests want
// to know. One that ends waits no more.
func TestManyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b)
		m = started(t, b, m.entry("acme"))
		fault := faulty(b)
		answer := make(chan struct{})
		fault(func(bucket.Op, string) bucket.Fault {
			<-answer
			return bucket.Fault{}
		})
		b.Calls()
		var waiting sync.WaitGroup
		ctx, end := inBubble(t)
		for range 3 {
			waiting.Go(func() { m.registry.Refresh(context.WithoutCancel(ctx), m.Follow) })
		}
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.registry.Refresh(ctx, m.Follow)
		}()
		end()
		<-ended
		if calls := b.Calls(); calls[bucket.OpGet] != object.TenantShards {
			t.Errorf("%v at once", calls)
		}
		close(answer)
		waiting.Wait()
	})
}
