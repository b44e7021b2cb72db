package host

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
)

// logOf are the objects of the log of will's directory.
func logOf(t *testing.T, b bucket.Bucket) (keys []string) {
	t.Helper()
	for e, err := range bucket.All(t.Context(), b, "dirs/will/log/", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, e.Key)
	}
	return keys
}

// TestATakeOverThatFails again and again opens one epoch, asks the bucket now and then, and says
// so as often. As soon as it can be, the directory is taken over, also if another host has had
// it meanwhile.
func TestATakeOverThatFails(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		t.Run(fmt.Sprintf("another host meanwhile %v", meanwhile), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				var requests atomic.Int64
				b.Fault = func(_ bucket.Op, key string) bucket.Fault {
					if strings.HasPrefix(key, "dirs/") {
						requests.Add(1)
					}
					return bucket.Fault{}
				}
				m := newMachine(t, b, "a")
				defer func() { m.end() }()
				synctest.Wait()
				for i := range 3 {
					m.write("n.phext", fmt.Sprint("text ", i), "", true)
				}
				m.end()
				m.start()
				synctest.Wait()
				key := logOf(t, b)[2]
				whole, err := b.Get(t.Context(), key, "")
				m.check(err)
				put := func(body []byte) {
					_, err := b.Put(t.Context(), key, body, bucket.Condition{})
					m.check(err)
				}
				damaged := bytes.Clone(whole.Body)
				damaged[len(damaged)-1] ^= 1
				put(damaged)
				before := len(logOf(t, b))
				requests.Store(0)
				for range 100 {
					for range 10 {
						if err := m.serve(); err == nil || errors.Is(err, datadir.ErrMoved) {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Second)
				}
				asked := requests.Load()
				if n := len(logOf(t, b)) - before; n != 1 {
					t.Errorf("there are %d more objects in the log", n)
				}
				if told := strings.Count(m.log.String(), "level=ERROR"); asked > 150 || told > 15 || told < 5 {
					t.Errorf("%d requests, and told %d times", asked, told)
				}
				put(whole.Body)
				want := "text 2"
				if meanwhile {
					other := newMachine(t, b, "b")
					time.Sleep(2 * stillFor)
					m.cut.Store(true)
					time.Sleep(2 * stillFor)
					other.check(other.serve())
					want = "of another"
					other.write("n.phext", want, "", true)
					other.end()
					m.cut.Store(false)
				}
				time.Sleep(pauseAtMost)
				m.check(m.serve())
				m.want("n.phext", want)
				if n := len(logOf(t, b)) - before; !meanwhile && n != 1 {
					t.Errorf("there are %d more objects in the log", n)
				}
				m.write("n.phext", "goes on", "", true)
				m.end()
				next := newMachine(t, b, "c")
				synctest.Wait()
				next.check(next.serve())
				next.want("n.phext", "goes on")
				next.end()
				m.start()
			})
		})
	}
}
