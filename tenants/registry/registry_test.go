package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/tenants"
)

const pathKey = "abcdefghijklmnopqrstu_"

// TestTheMachineIsGone has a new machine make its tenants file from the bucket: all is as
// before, and keys that were in clear are good by their hash. The old machine keeps its
// keys in clear. The bucket has none.
func TestTheMachineIsGone(t *testing.T) {
	b := bucket.NewMemory()
	m := newMachine(t, b)
	entries := []string{
		m.entry("plain", `"path_key": "`+pathKey+`"`, `"quota_mb": 7`, `"reads_per_minute": 60`, `"calls_per_day": 1000`, `"max_phexts": 5`,
			`"public": {"phexts": ["site", "log-*"], "access": "read"}`, `"writers": ["gone", "team-a"]`,
			`"keys": [{"id": "guest", "sha256": "`+strings.Repeat("0A", 32)+`", "access": "append", "phexts": ["log-*"], "prefix": "2.3.5", "expires": "2030-01-31T12:00:00Z", "note": "a<b>"}]`, `"admin_email": "a<b>@c"`, `"created_at": "2026-01-31T12:00:00Z"`),
		m.entry("gone", `"archived": true`, `"enabled": false`, `"incarnation": "20260131T150405.000000000Z"`),
		`{"id": "hashed", "api_key_sha256": "` + strings.Repeat("AB", 32) + `", "data_dir": "/srv/hashed", "allow_delimiters": true,
			"previous_key_sha256": "` + strings.Repeat("cd", 32) + `", "previous_key_expires": "2026-01-31T12:00:00Z"}`,
		`{"id": "team-a", "api_key": "key-of-team-a", "data_dir": "/srv/team", "shared_data_dir": true, "follow_links": true}`,
		`{"id": "team-b", "api_key": "key-of-team-b", "data_dir": "/srv/team", "shared_data_dir": true, "follow_links": true}`,
	}
	m.byHand(entries...)
	before := m.text()
	n, err := PutAll(t.Context(), m.Config)
	if n != 5 || err != nil {
		t.Fatal(n, err)
	}
	m.check(m.start())
	if m.text() != before {
		t.Errorf("the tenants file of the host that had them was changed:\n%s", m.text())
	}
	ids, objects := raw(t, b)
	if len(ids) != 5 || strings.Contains(objects, "key-of-") || strings.Contains(objects, pathKey) || strings.Contains(objects, "/srv") {
		t.Errorf("the bucket has %s", objects)
	}
	next := m.another()
	if info, err := os.Stat(next.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	now := next.Current()
	for _, id := range []string{"plain", "team-a", "team-b"} {
		if who, ok := now.ByKey("key-of-"+id, time.Now()); !ok || who.ID != id {
			t.Errorf("the key of %s is not good", id)
		}
	}
	if who, ok := now.ByPathKey(pathKey); !ok || who.ID != "plain" {
		t.Error("the path key is not good")
	}
	dirs := map[string]string{}
	for _, was := range m.Current().All() {
		is, ok := now.ByID(was.ID)
		if !ok {
			t.Fatalf("%s is not there", was.ID)
		}
		dirs[was.ID] = strings.TrimPrefix(is.DataDir, next.DataRoot)
		same := *is
		same.DataDir, same.Configured = was.DataDir, was.Configured
		if !reflect.DeepEqual(&same, was) {
			t.Errorf("%s was\n%+v and is\n%+v", was.ID, *was, same)
		}
	}
	if want := "map[gone:/gone hashed:/hashed plain:/plain team-a:/shared.d/team team-b:/shared.d/team]"; fmt.Sprint(dirs) != want {
		t.Errorf("%v, want %s", dirs, want)
	}
	b.Calls()
	m.check(m.start())
	m.check(next.start())
	if calls := b.Calls(); calls[bucket.OpPut] > 0 {
		t.Errorf("a start without a change takes %v", calls)
	}
}

// TestTwoHosts change tenants, by calls and by hand.
func TestTwoHosts(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("a"), one.entry("b"))
	two := one.another()
	one.check(one.add("c"))
	one.check(one.setQuota("a", 5))
	two.look()
	two.want("a:5", "b:0", "c:0")
	two.check(two.setQuota("a", 6)) // one does not know that yet
	one.check(one.setQuota("c", 1)) // another one
	one.check(one.remove("b"))
	two.look()
	one.look()
	one.want("a:6", "c:1")
	two.want("a:6", "c:1")
	if !strings.Contains(one.text(), `"key-of-a"`) || strings.Contains(two.text(), `key-of-`) {
		t.Errorf("keys are not as they were:\n%s\n%s", one.text(), two.text())
	}
	// By hand, while the other changes another tenant, or the same one in the same way.
	two.check(two.setQuota("c", 2))
	one.byHand(one.entry("a", `"quota_mb": 9`), one.entry("c", `"quota_mb": 2`), one.entry("d"))
	one.check(one.Reload())
	two.look()
	one.look()
	one.want("a:9", "c:2", "d:0")
	two.want("a:9", "c:2", "d:0")
	if strings.Contains(one.log.String(), "refused") {
		t.Error(one.log)
	}
	// Taken out by hand.
	one.byHand(one.entry("a", `"quota_mb": 9`), one.entry("c", `"quota_mb": 2`))
	one.check(one.Reload())
	two.look()
	two.want("a:9", "c:2")
}

// TestTheSameTenantOnTwoHosts is changed by a call, which is made in what the other one
// left, and by hand, which is refused.
func TestTheSameTenantOnTwoHosts(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("a"), one.entry("b"))
	two := one.another()
	one.check(one.setQuota("a", 1))
	two.check(two.Edit(func(d *tenants.Document) error {
		return d.Change("a", func(e *tenants.Entry) error { *ptr(&e.MaxPhexts) = 3; return nil })
	}))
	two.want("a:1", "b:0")
	if a, _ := two.Current().ByID("a"); a.MaxPhexts != 3 {
		t.Error("the change was not made in what the other one left")
	}
	one.check(one.add("c"))
	one.check(one.setQuota("c", 0))
	if err := two.add("c"); !errors.Is(err, tenants.ErrExists) {
		t.Error(err)
	}
	one.look()
	two.check(two.setQuota("a", 2))
	one.byHand(one.entry("a", `"quota_mb": 8`), one.entry("b", `"quota_mb": 4`), one.entry("c"))
	one.check(one.Reload())
	one.want("a:2", "b:4", "c:0")
	if !strings.Contains(one.log.String(), "was refused") || !strings.Contains(one.log.String(), "tenants=a") {
		t.Errorf("nobody was told: %s", one.log)
	}
	// The same while it did not run.
	two.look()
	two.check(two.setQuota("a", 3))
	one.byHand(one.entry("a", `"quota_mb": 9`), one.entry("b", `"quota_mb": 5`), one.entry("c"))
	one.check(one.start())
	one.want("a:3", "b:5", "c:0")
}

func ptr[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// TestLostAnswers has each write of each kind of change fail in each way. The change is
// made exactly once, or not at all, and what the caller is told is true.
func TestLostAnswers(t *testing.T) {
	faults := map[string]bucket.Fault{
		"lost":        {Lose: bucket.ErrUnknownOutcome},
		"not written": {Refuse: bucket.ErrTemporary},
		"not known":   {Refuse: bucket.ErrUnknownOutcome},
		"twice":       {Twice: true},
		"twice, lost": {Twice: true, Lose: bucket.ErrUnknownOutcome},
	}
	changes := map[string]struct {
		make func(*machine) error
		want []string // with writers
	}{
		"add":    {func(m *machine) error { return m.add("c") }, []string{"a:0[b]", "b:0", "c:0"}},
		"change": {func(m *machine) error { return m.setQuota("a", 5) }, []string{"a:5[b]", "b:0"}},
		"remove": {func(m *machine) error { return m.remove("b") }, []string{"a:0"}},
		"by hand": {func(m *machine) error {
			m.byHand(m.entry("a", `"writers": ["c"]`, `"quota_mb": 1`), m.entry("c", `"writers": ["a", "d"]`), m.entry("d", `"writers": ["c"]`))
			return m.Reload()
		}, []string{"a:1[c]", "c:0[a d]", "d:0[c]"}},
	}
	for fault, f := range faults {
		for change, c := range changes {
			for number := range int64(4) {
				t.Run(fmt.Sprint(fault, ", ", change, " ", number), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := bucket.NewMemory()
						m := newMachine(t, b)
						m = started(t, b, m.entry("a", `"writers": ["b"]`), m.entry("b"))
						failPut(b, number+1, f)
						m.check(c.make(m))
						b.Fault = nil
						m.want(c.want...)
					})
				})
			}
		}
	}
}

// late is a bucket whose first write of a tenant x gets no answer, and arrives late.
type late struct {
	bucket.Bucket
	arrive func() error
}

func (l *late) Put(ctx context.Context, key string, body []byte, c bucket.Condition) (string, error) {
	if l.arrive == nil && key == shardKey(object.TenantShard("x")) {
		l.arrive = func() error {
			_, err := l.Bucket.Put(context.WithoutCancel(ctx), key, body, c)
			return err
		}
		return "", bucket.ErrUnknownOutcome
	}
	return l.Bucket.Put(ctx, key, body, c)
}

// TestALateWrite arrives when the tenant that it adds was removed again. It does not come
// back, although all else is as it was before.
func TestALateWrite(t *testing.T) {
	b := bucket.NewMemory()
	m := newMachine(t, b)
	m = started(t, b, m.entry("a"))
	l := &late{Bucket: b}
	m.registry.Bucket = l
	m.check(m.add("x"))
	m.check(m.remove("x"))
	if err := l.arrive(); !errors.Is(err, bucket.ErrPreconditionFailed) {
		t.Error(err)
	}
	m.look()
	m.want("a:0")
}

// TestABucketThatIsBusy refuses every second call, sooner than it answers another: a host
// starts all the same.
func TestABucketThatIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b)
		m = started(t, b, m.entry("a"))
		var calls atomic.Int64
		faulty(b)(func(bucket.Op, string) bucket.Fault {
			if calls.Add(1)%2 == 0 {
				return bucket.Fault{Refuse: bucket.ErrTemporary}
			}
			return bucket.Fault{Delay: 10 * time.Millisecond}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := Open(ctx, m.Config); err != nil {
			t.Error(err)
		}
	})
}

// TestABucketThatCannotBeReached makes no change, and says so. A change by hand is taken
// up when it can be reached again.
func TestABucketThatCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b)
		m = started(t, b, m.entry("a"))
		fault := faulty(b)
		m.Config.Poll = 0
		ctx, stop := inBubble(t)
		var running sync.WaitGroup
		running.Go(func() { m.registry.Run(ctx, m.Follow, nil) })
		defer running.Wait()
		defer stop()
		for _, test := range []struct {
			fault bucket.Fault
			kind  apierror.Kind
		}{
			{bucket.Fault{Refuse: bucket.ErrTemporary}, apierror.Unavailable},
			{bucket.Fault{Refuse: bucket.ErrUnknownOutcome}, apierror.NotKnown},
			{bucket.Fault{Delay: time.Hour}, apierror.NotKnown},
		} {
			fault(func(bucket.Op, string) bucket.Fault { return test.fault })
			begun := time.Now()
			err := m.setQuota("a", 5)
			if told := apierror.From(err); told == nil || told.Kind != test.kind {
				t.Errorf("%+v: %v", test.fault, err)
			}
			if took := time.Since(begun); took > agreeWithin+time.Second {
				t.Errorf("it took %v", took)
			}
			fault(nil)
			time.Sleep(2*agreeWithin + 2*lookAgain)
			synctest.Wait()
			m.want("a:0")
		}
		// The change was made, and no answer came.
		fault(func(op bucket.Op, _ string) bucket.Fault {
			if op == bucket.OpPut {
				return bucket.Fault{Lose: bucket.ErrUnknownOutcome}
			}
			return bucket.Fault{Refuse: bucket.ErrTemporary}
		})
		if err := m.setQuota("a", 6); err == nil || apierror.From(err).Kind != apierror.NotKnown {
			t.Error(err)
		}
		fault(nil)
		time.Sleep(2 * lookAgain)
		synctest.Wait()
		m.want("a:6")
		fault(func(bucket.Op, string) bucket.Fault { return bucket.Fault{Refuse: bucket.ErrTemporary} })
		m.byHand(m.entry("a", `"quota_mb": 7`))
		if err := m.Reload(); err == nil || m.Status().Successful() {
			t.Error("a change is in force that the bucket does not have")
		}
		if a, _ := m.Current().ByID("a"); a.QuotaBytes != 6<<20 {
			t.Error(a.QuotaBytes)
		}
		fault(nil)
		time.Sleep(2 * lookAgain)
		synctest.Wait()
		m.want("a:7")
		b.Calls()
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls := b.Calls(); len(calls) > 0 {
			t.Errorf("a host alone that is idle takes %v", calls)
		}
	})
}

// TestPolling has a host follow what another one does, and look after a gap of its lease
// if it does not poll.
func TestPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		one := newMachine(t, b)
		one = started(t, b, one.entry("a"))
		fault := faulty(b)
		polls, alone := newMachine(t, b), newMachine(t, b)
		polls.Config.Poll = 2 * time.Second
		polls.check(polls.start())
		alone.check(alone.start())
		ctx, stop := inBubble(t)
		var running sync.WaitGroup
		gained := make(chan struct{}, 1)
		running.Go(func() { polls.registry.Run(ctx, polls.Follow, nil) })
		running.Go(func() { alone.registry.Run(ctx, alone.Follow, gained) })
		defer running.Wait()
		defer stop()
		one.check(one.add("b"))
		time.Sleep(polls.Poll + time.Second)
		synctest.Wait()
		polls.want("a:0", "b:0")
		if alone.Current().Len() != 1 {
			t.Error("a host alone has asked")
		}
		gained <- struct{}{}
		synctest.Wait()
		alone.want("a:0", "b:0")
		b.Calls()
		time.Sleep(time.Minute)
		if calls := b.Calls(); fmt.Sprint(calls) != "map[get:480]" {
			t.Errorf("a minute of polls takes %v", calls)
		}
		// An error is logged once, and the tenants stay.
		fault(func(bucket.Op, string) bucket.Fault { return bucket.Fault{Refuse: bucket.ErrTemporary} })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(polls.log.String(), "could not be asked"); n != 1 || polls.Current().Len() != 2 {
			t.Errorf("logged %d times", n)
		}
		fault(nil)
		one.check(one.add("c"))
		time.Sleep(polls.Poll + time.Second)
		synctest.Wait()
		polls.want("a:0", "b:0", "c:0")
	})
}

// TestWhatStopsAHost goes through buckets that are not this host's. Its tenants file stays.
func TestWhatStopsAHost(t *testing.T) {
	full := bucket.NewMemory()
	m := newMachine(t, full)
	m = started(t, full, m.entry("a", `"quota_mb": 5`), m.entry("b"))
	other := bucket.NewMemory()
	started(t, other, m.entry("a", `"quota_mb": 5`), m.entry("b"))
	unfinished := bucket.NewMemory()
	failPut(unfinished, 9, bucket.Fault{Refuse: errBroken})
	first := newMachine(t, unfinished)
	first.byHand(m.entry("x"))
	if _, err := PutAll(t.Context(), first.Config); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		b       bucket.Bucket
		entries []string // of the host; nil = no file
		agreed  bool     // it was in the bucket full before
		want    error
	}{
		{"empty", bucket.NewMemory(), []string{m.entry("a")}, false, ErrEmpty},
		{"empty, and no file", bucket.NewMemory(), nil, false, ErrEmpty},
		{"emptied", bucket.NewMemory(), []string{m.entry("a")}, true, ErrEmpty},
		{"unfinished", unfinished, []string{m.entry("a")}, false, ErrUnfinished},
		{"unfinished, and no file", unfinished, nil, false, ErrUnfinished},
		{"another service's", other, []string{m.entry("a", `"quota_mb": 5`), m.entry("b")}, true, ErrOther},
		{"a tenant more", full, []string{m.entry("a", `"quota_mb": 5`), m.entry("c")}, false, ErrUnknown},
		{"another tenant of the same id", full, []string{m.entry("a")}, false, ErrUnknown},
		{"no file", full, nil, false, nil},
		{"no tenant", full, []string{}, false, nil},
		{"the same", full, []string{m.entry("a", `"quota_mb": 5`)}, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newMachine(t, test.b)
			if test.entries != nil {
				h.byHand(test.entries...)
			}
			if test.agreed {
				text, err := os.ReadFile(m.State)
				h.check(err)
				h.check(os.WriteFile(h.State, text, 0o600))
			}
			before, missing := os.ReadFile(h.File)
			err := h.start()
			if !errors.Is(err, test.want) {
				t.Fatal(err)
			}
			if err == nil {
				h.want("a:5", "b:0")
				return
			}
			after, err := os.ReadFile(h.File)
			if string(after) != string(before) || errors.Is(err, fs.ErrNotExist) != errors.Is(missing, fs.ErrNotExist) {
				t.Errorf("the tenants file was changed: %s", after)
			}
		})
	}
}

// TestPutAll can be interrupted anywhere and repeated. It never puts tenants beside those
// of another service.
func TestPutAll(t *testing.T) {
	for _, f := range []bucket.Fault{{Refuse: errBroken}, {Lose: errBroken}, {Lose: bucket.ErrUnknownOutcome}} {
		for _, number := range []int64{0, 1, 2, 9, 16} {
			b := bucket.NewMemory()
			m := newMachine(t, b)
			m.byHand(m.entry("a"), m.entry("b"), m.entry("c"))
			failPut(b, number, f)
			n, err := PutAll(t.Context(), m.Config)
			if err != nil && !errors.Is(err, errBroken) || err == nil && (n != 3 || number > 0 && f.Lose != bucket.ErrUnknownOutcome) {
				t.Fatal(number, n, err)
			}
			if stranger := newMachine(t, b); number > 1 {
				stranger.byHand(m.entry("a"), m.entry("x"))
				if _, err := PutAll(t.Context(), stranger.Config); !errors.Is(err, ErrOther) && !errors.Is(err, ErrUnknown) {
					t.Errorf("write %d: tenants of two services are put together: %v", number, err)
				}
			}
			m.byHand(m.entry("a", `"quota_mb": 1`), m.entry("b"), m.entry("d")) // it takes its time until it is repeated
			if err != nil {
				_, err = PutAll(t.Context(), m.Config)
				m.check(err)
			}
			m.check(m.start())
			m.want("a:1", "b:0", "d:0")
			b.Calls()
			_, err = PutAll(t.Context(), m.Config)
			m.check(err)
			if calls := b.Calls(); calls[bucket.OpPut] > 0 {
				t.Errorf("what is there is written again: %v", calls)
			}
		}
	}
}

// TestTwoDirectoriesOfOneName are not put into a bucket, where they would be one.
func TestTwoDirectoriesOfOneName(t *testing.T) {
	b := bucket.NewMemory()
	m := newMachine(t, b)
	m.byHand(`{"id": "a", "api_key": "key-of-a", "data_dir": "/x/team", "shared_data_dir": true, "follow_links": true}`,
		`{"id": "b", "api_key": "key-of-b", "data_dir": "/y/team", "shared_data_dir": true}`)
	if _, err := PutAll(t.Context(), m.Config); !errors.Is(err, tenants.ErrInvalid) {
		t.Error(err)
	}
}

// TestAWriterWhoIsGone has one host name a writer while another removes that tenant. Each
// host goes on, and whoever gets the id later is no writer.
func TestAWriterWhoIsGone(t *testing.T) {
	b := bucket.NewMemory()
	one := newMachine(t, b)
	one = started(t, b, one.entry("a"), one.entry("b"), one.entry("c"))
	two := one.another()
	one.check(one.remove("b"))
	two.check(two.Edit(func(d *tenants.Document) error {
		return d.Change("a", func(e *tenants.Entry) error {
			b := "b"
			e.Writers = &[]*string{&b}
			return nil
		})
	}))
	if ids, _ := raw(t, b); !strings.Contains(string(ids["a"]), `"writers":["b"]`) {
		t.Fatalf("this test shows nothing: %s", ids["a"])
	}
	one.look()
	two.look()
	one.want("a:0", "c:0")
	two.want("a:0", "c:0")
	one.check(one.add("b"))
	two.look()
	for _, m := range []*machine{one, two, one.another()} {
		m.want("a:0", "b:0", "c:0")
		if a, _ := m.Current().ByID("a"); len(a.Writers()) > 0 {
			t.Errorf("a new tenant may write elsewhere: %v", a.Writers())
		}
	}
}
