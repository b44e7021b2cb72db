package host

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/storage/bucket"
)

// TestAGigabyte brings a directory of 2,000 phexts and 1 GB back on an empty machine, and
// says how long that takes: the first read, and all of it.
func TestAGigabyte(t *testing.T) {
	if os.Getenv("SQTEST_LARGE") == "" {
		t.Skip("SQTEST_LARGE is not set")
	}
	open := func(t *testing.T, url string) bucket.Bucket {
		b, err := bucket.Open(url, bucket.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Run("file", func(t *testing.T) { testAGigabyte(t, open(t, "file://"+t.TempDir())) })
	t.Run("S3", func(t *testing.T) { testAGigabyte(t, open(t, s3test.Start(t).URL)) })
}

func testAGigabyte(t *testing.T, b bucket.Bucket) {
	const phexts, each = 2000, 1 << 19
	leased := func(m *machine) {
		for !m.Holds() {
			time.Sleep(10 * time.Millisecond) // of a server: there is no event
		}
	}
	a := &machine{TB: t, root: t.TempDir(), bucket: b, name: "a", without: true}
	a.start()
	a.check(os.MkdirAll(a.path(""), 0o700))
	random := rand.NewChaCha8([32]byte{})
	name := func(i int) string { return fmt.Sprintf("f%04d.phext", i) }
	for i := range phexts {
		var text strings.Builder
		for text.Len() < each {
			fmt.Fprintf(&text, "%x and more of that ", random.Uint64())
		}
		a.check(os.WriteFile(a.path(name(i)), []byte(text.String()[:each]), 0o600))
	}
	begun := time.Now()
	_, err := a.put(b)
	a.check(err)
	t.Logf("put into the bucket in %v", time.Since(begun).Round(time.Millisecond))
	a.end()
	a.check(os.RemoveAll(a.root))

	next := newMachine(t, b, "b")
	defer next.end()
	leased(next)
	var peak uint64
	watching, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			select {
			case <-watching:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	used := cpu(t)
	begun = time.Now()
	if got := next.read(name(phexts - 1)); len(got) != each {
		t.Errorf("the first one has %d bytes", len(got))
	}
	first := time.Since(begun)
	next.check(next.serve())
	all := time.Since(begun)
	close(watching)
	<-watched
	t.Logf("the first read took %v, and all of it %v, %v of a processor, and %d MB of memory", first.Round(time.Millisecond), all.Round(time.Millisecond), cpu(t)-used, peak>>20)
	if first > 2*time.Second {
		t.Error("the first read took too long")
	}
	p, _ := next.dirs.Of(next.tenant.DataDir).Fetching()
	entries, err := os.ReadDir(next.path(""))
	if err != nil || len(entries) != phexts {
		t.Errorf("%d files, %v, %+v", len(entries), err, p)
	}
	next.end()
	next.start()
	leased(next)
	begun = time.Now()
	if got := next.read(name(0)); len(got) != each {
		t.Errorf("after a start, the first one has %d bytes", len(got))
	}
	first = time.Since(begun)
	next.check(next.serve())
	t.Logf("after a start with all of it, the first read took %v, and a look at all %v", first.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
}

func cpu(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
