package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"mirrorborn.us/sqgate/storage/bucket"
)

// put calls Init as a process without a bucket does.
func (m *machine) put(b bucket.Bucket) (Progress, error) {
	host := newHost(b, m.name)
	host.Logger = m.Host.Logger
	ds := &Directories{Host: host, Tenants: m.ds.Tenants, Journal: m.journal, MarkDir: m.ds.MarkDir}
	var last Progress
	err := ds.Init(context.Background(), m.dirs, func(p Progress) { last = p })
	return last, err
}

// serveWithout has a process without a bucket begin and end.
func (m *machine) serveWithout() {
	m.Helper()
	m.without = true
	m.start()
	m.end()
	m.without = false
}

// edit changes a file by hand.
func (m *machine) edit(file, text string) {
	m.Helper()
	m.check(os.MkdirAll(m.path(""), 0o700))
	m.check(os.WriteFile(m.path(file), []byte(text), 0o600))
}

// TestInit puts the phexts of a host into a bucket that does not have them, while it
// serves without one. It can be interrupted anywhere and repeated, and what is written
// meanwhile and afterwards is in the bucket after the start with it. Another's phexts stay
// what they are.
func TestInit(t *testing.T) {
	interrupted := 0
	for fail := range 20 {
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			var calls atomic.Int64
			broken := errors.New("interrupted")
			m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", without: true}
			m.start()
			for file, text := range map[string]string{"a.phext": "one", "b.phext": "two", "c.phext": "three", "d.phext": "four"} {
				m.edit(file, text)
			}
			b.Fault = func(op bucket.Op, key string) bucket.Fault {
				if strings.HasPrefix(key, "dirs/") && calls.Add(1) == int64(fail) {
					return bucket.Fault{Refuse: broken}
				}
				return bucket.Fault{}
			}
			_, err := m.put(b)
			calls.Store(1000) // the rest is to succeed
			m.edit("a.phext", "changed")
			if err != nil {
				interrupted++
				if !errors.Is(err, broken) {
					t.Error(err)
				}
				_, err = m.put(b)
				m.check(err)
			}
			b.Calls()
			_, err = m.put(b) // it is there
			m.check(err)
			if n := b.Calls()[bucket.OpPut]; n > 0 {
				t.Errorf("a repetition writes %d objects", n)
			}
			m.edit("b.phext", "changed too")
			m.edit("e.phext", "new")
			m.check(os.Remove(m.path("d.phext")))
			m.end()

			m.without = false
			m.start()
			synctest.Wait()
			m.check(m.ds.CheckKnown(t.Context(), m.dirs))
			m.ds.CatchUp(t.Context(), m.dirs) // nobody asks for it
			m.end()
			next := newMachine(t, b, "b")
			defer next.end()
			synctest.Wait()
			next.check(next.serve())
			for file, text := range map[string]string{"a.phext": "changed", "b.phext": "changed too", "c.phext": "three", "d.phext": "", "e.phext": "new"} {
				next.want(file, text)
			}
		})
	}
	if interrupted < 8 {
		t.Errorf("it was interrupted %d times", interrupted)
	}
}

// TestTheBucketHasOthersPhexts under the name of a directory that is to be put there.
func TestTheBucketHasOthersPhexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		other := newMachine(t, b, "a")
		synctest.Wait()
		other.write("n.phext", "other", "", true)
		other.end()
		m := &machine{TB: t, root: t.TempDir(), bucket: b, name: "b", without: true}
		m.start()
		defer m.end()
		m.edit("n.phext", "mine")
		if _, err := m.put(b); !errors.Is(err, ErrNotInBucket) {
			t.Error(err)
		}
		m.want("n.phext", "mine")
	})
}

// TestCheckKnown refuses a host with phexts that the bucket does not know, or that are in
// another one.
func TestCheckKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		m := newMachine(t, b, "a")
		synctest.Wait()
		known := func() error { return m.ds.CheckKnown(t.Context(), m.dirs) }
		m.check(known()) // there are none
		m.write("n.phext", "one", "", true)
		m.check(known())
		m.end()
		m.bucket = bucket.NewMemory()
		m.start()
		synctest.Wait()
		if err := known(); !errors.Is(err, ErrNotInBucket) {
			t.Errorf("an empty bucket: %v", err)
		}
		m.end()
		m.bucket = b
		m.check(os.RemoveAll(m.ds.MarkDir))
		m.start()
		defer m.end()
		synctest.Wait()
		m.check(known()) // only the state was lost
		m.edit("n.phext", "two")
		if err := known(); !errors.Is(err, ErrNotInBucket) {
			t.Errorf("phexts that the bucket does not know: %v", err)
		}
	})
}
