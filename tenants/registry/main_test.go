package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/testtmp"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/tenants"
)

func TestMain(m *testing.M) {
	testtmp.InMemory()
	// The compressor has channels, which must not belong to the first test that uses it.
	b, err := object.Encode(&object.Owner{})
	if err == nil {
		_, err = object.Decode[object.Owner](b)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// machine is a disk, and the sqgate that runs on it.
type machine struct {
	testing.TB
	dir string
	Config
	*tenants.Store
	registry *Registry
	log      *strings.Builder
}

func newMachine(t testing.TB, b bucket.Bucket) *machine {
	m := &machine{TB: t, dir: t.TempDir(), log: &strings.Builder{}}
	m.Config = Config{Bucket: b, File: filepath.Join(m.dir, "etc", "tenants.json"), State: filepath.Join(m.dir, "state"),
		DataRoot: filepath.Join(m.dir, "data"), Logger: slog.New(slog.NewTextHandler(m.log, nil))}
	return m
}

// start opens the registry and the store, as sqgate does at its start.
func (m *machine) start() error {
	r, err := Open(m.Context(), m.Config)
	if err != nil {
		return err
	}
	s, err := tenants.Open(tenants.Options{Path: m.File, Logger: m.Logger, Agree: r.Agree})
	if err == nil {
		m.registry, m.Store = r, s
	}
	return err
}

// started is a machine with these tenants, which are in the bucket.
func started(t testing.TB, b bucket.Bucket, entries ...string) *machine {
	t.Helper()
	m := newMachine(t, b)
	m.byHand(entries...)
	_, err := PutAll(t.Context(), m.Config)
	m.check(err)
	m.check(m.start())
	return m
}

// another is a second machine with the same bucket.
func (m *machine) another() *machine {
	m.Helper()
	other := newMachine(m.TB, m.Bucket)
	m.check(other.start())
	return other
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%v\n%s", err, m.log)
	}
}

// entry is a tenant of the file; more are further fields.
func (m *machine) entry(id string, more ...string) string {
	fields := append([]string{fmt.Sprintf(`"id": %q`, id), fmt.Sprintf(`"api_key": "key-of-%s"`, id), fmt.Sprintf(`"data_dir": "/srv/%s"`, id)}, more...)
	return "{" + strings.Join(fields, ", ") + "}"
}

// byHand writes the tenants file as an operator does.
func (m *machine) byHand(entries ...string) {
	m.Helper()
	m.check(os.MkdirAll(filepath.Dir(m.File), 0o755))
	aside := m.File + "~"
	m.check(os.WriteFile(aside, []byte(`{"tenants": [`+strings.Join(entries, ", ")+`]}`), 0o600))
	m.check(os.Rename(aside, m.File))
}

func (m *machine) text() string {
	m.Helper()
	text, err := os.ReadFile(m.File)
	m.check(err)
	return string(text)
}

// look has a machine look at the bucket once, as it does now and then.
func (m *machine) look() {
	m.Helper()
	changed, err := m.registry.look(m.Context())
	m.check(err)
	if changed {
		m.check(m.Follow())
	}
}

func (m *machine) add(id string) error {
	key, dir := "key-of-"+id, filepath.Join(m.DataRoot, id)
	return m.Edit(func(d *tenants.Document) error {
		return d.Add(tenants.Entry{ID: &id, APIKey: &key, DataDir: &dir})
	})
}

func (m *machine) setQuota(id string, mb int64) error {
	return m.Edit(func(d *tenants.Document) error {
		return d.Change(id, func(e *tenants.Entry) error { e.QuotaMB = &mb; return nil })
	})
}

func (m *machine) remove(id string) error {
	return m.Edit(func(d *tenants.Document) error {
		return d.Remove(id, func(*tenants.Entry) error { return nil })
	})
}

// want sees that the tenants in force, those in the file and those in the bucket are
// these, each as ID:QUOTA[WRITERS], and that their keys are good.
func (m *machine) want(tenantsWanted ...string) {
	m.Helper()
	in := map[string]*tenants.Snapshot{"in force": m.Current()}
	var err error
	in["in the file"], err = tenants.Load(m.File)
	m.check(err)
	next := newMachine(m.TB, m.Bucket)
	m.check(next.start())
	in["in the bucket"] = next.Current()
	for where, s := range in {
		m.has(where, s, tenantsWanted...)
	}
	state, err := readState(m.State)
	m.check(err)
	if len(state.Tenants) != len(tenantsWanted) {
		m.Errorf("agreed on %d tenants", len(state.Tenants))
	}
}

func (m *machine) has(where string, s *tenants.Snapshot, tenantsWanted ...string) {
	m.Helper()
	got := map[string]bool{}
	for _, t := range s.All() {
		got[strings.TrimSuffix(fmt.Sprintf("%s:%d%v", t.ID, t.QuotaBytes>>20, t.Writers()), "[]")] = true
		if who, ok := s.ByKey("key-of-"+t.ID, time.Now()); !ok || who != t {
			m.Errorf("%s: the key of %s is not good", where, t.ID)
		}
	}
	for _, w := range tenantsWanted {
		if !got[w] {
			m.Errorf("%s: no %s", where, w)
		}
		delete(got, w)
	}
	if len(got) > 0 {
		m.Errorf("%s: also %v", where, got)
	}
}

// raw is the tenants as they stand in the bucket.
func raw(t testing.TB, b bucket.Bucket) (ids map[string]json.RawMessage, objects string) {
	t.Helper()
	ids = map[string]json.RawMessage{}
	for e, err := range bucket.All(t.Context(), b, "tenants/", "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.Get(t.Context(), e.Key, "")
		if err != nil {
			t.Fatal(err)
		}
		shard, err := object.Decode[object.Tenants](o.Body)
		if err != nil {
			t.Fatal(err)
		}
		for id, entry := range shard.ByID {
			if ids[id] != nil {
				t.Errorf("%s is there twice", id)
			}
			ids[id] = entry
			objects += string(entry)
		}
	}
	return ids, objects
}

var errBroken = errors.New("interrupted")

// failPut has one write of tenants fail, counted from 1.
func failPut(b *bucket.Memory, number int64, f bucket.Fault) *atomic.Int64 {
	var puts atomic.Int64
	b.Fault = func(op bucket.Op, key string) bucket.Fault {
		if op == bucket.OpPut && strings.HasPrefix(key, "tenants/") && puts.Add(1) == number {
			return f
		}
		return bucket.Fault{}
	}
	return &puts
}

// faulty lets a test change what goes wrong while others use the bucket.
func faulty(b *bucket.Memory) (set func(func(bucket.Op, string) bucket.Fault)) {
	var fault atomic.Pointer[func(bucket.Op, string) bucket.Fault]
	b.Fault = func(op bucket.Op, key string) bucket.Fault {
		if f := fault.Load(); f != nil && *f != nil {
			return (*f)(op, key)
		}
		return bucket.Fault{}
	}
	return func(f func(bucket.Op, string) bucket.Fault) { fault.Store(&f) }
}

// inBubble is for tests of time.
func inBubble(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}

func (m *machine) put(n int, body []byte) {
	m.Helper()
	_, err := m.Bucket.Put(m.Context(), shardKey(n), body, bucket.Condition{})
	m.check(err)
}

// putTenant writes a tenant as another host would; service "" = the same.
func (m *machine) putTenant(service, id, entry string) {
	m.Helper()
	n := object.TenantShard(id)
	s := m.registry.shards[n].Tenants
	s.Revision++
	if service != "" {
		s.Service = service
	}
	s.ByID = maps.Clone(s.ByID)
	s.ByID[id] = json.RawMessage(entry)
	body, err := object.Encode(&s)
	m.check(err)
	m.put(n, body)
}
