package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/s3test"
)

// TestTheBucketCannotBeReached has the bucket fail for longer than the lease lasts: reads
// go on within the lease, nothing is acknowledged that does not get there, and everything
// goes on by itself.
func TestTheBucketCannotBeReached(t *testing.T) { theBucketCannotBeReached(t, true) }

// These are no subtests, which would begin when all other tests have begun: most of their time is a lease's.
func TestTheBucketCannotBeReachedByWhoDoesNotWait(t *testing.T) { theBucketCannotBeReached(t, false) }

func theBucketCannotBeReached(t *testing.T, sync bool) {
	t.Parallel()
	dir := t.TempDir()
	rename := func(from, to string) func() {
		return func() {
			if err := os.Rename(dir+"/v1/"+from, dir+"/v1/"+to); err != nil {
				t.Error(err)
			}
		}
	}
	// An object is written to a file there first.
	testTheBucketCannotBeReached(t, builtin, "file://"+dir, sync, rename(".temp", ".aside"), rename(".aside", ".temp"))
}

func TestS3CannotBeReached(t *testing.T) { s3CannotBeReached(t, true) }

func TestS3CannotBeReachedByWhoDoesNotWait(t *testing.T) { s3CannotBeReached(t, false) }

func s3CannotBeReached(t *testing.T, sync bool) {
	t.Parallel()
	server := s3test.Start(t)
	testTheBucketCannotBeReached(t, cmp.Or(realSQ(), builtin), server.URL, sync, server.Kill, server.Restart)
}

// TestACleanStopWaitsForTheBucket although the writes were acknowledged before they are
// there. So the disk is not needed any more.
func TestACleanStopWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := newGate(t, builtin, "will")
	g.args = []string{"--bucket", "file://" + dir, "--bucket-sync=false", "--bucket-lag=5s"}
	g.start()
	g.must("will", "POST", at("update", "n", origin), "before", 200)
	eventually(t, "the bucket has it", func() bool { return g.bucketStatus().Behind == 0 })
	if err := os.Rename(dir+"/v1/.temp", dir+"/v1/.aside"); err != nil {
		t.Fatal(err)
	}
	g.must("will", "POST", at("update", "n", origin), "after", 200)
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it runs
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	if _, err := g.log.await(ctx, regexp.MustCompile("msg=stopped")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/v1/.aside", dir+"/v1/.temp"); err != nil {
		t.Fatal(err)
	}
	g.wait()
	mark, err := os.ReadFile(filepath.Join(g.dir, "state", "bucket", "will"))
	if err != nil || !strings.Contains(string(mark), `"ahead":false`) {
		t.Errorf("the next start would look for what is not in the bucket: %q %v", mark, err)
	}
	g.wipe()
	g.start()
	if got := g.get("will", at("select", "n", origin)); got != "after" {
		t.Errorf("a new disk has %q", got)
	}
}

func testTheBucketCannotBeReached(t *testing.T, sq, bucket string, sync bool, fail, mend func()) {
	g := newGate(t, sq, "will", "emi")
	g.args = []string{"--bucket", bucket, fmt.Sprint("--bucket-sync=", sync), "--bucket-lag=3s", "--host-name=of-this", "--private-network=false"}
	g.start()
	write := func(id, text string) reply {
		r, err := g.do(id, "POST", at("update", "n", origin), text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, id := range []string{"will", "emi"} {
		if r := write(id, "before"); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if !sync {
		eventually(t, "the bucket has it", func() bool { return g.bucketStatus().Behind == 0 })
	}
	fail()
	want := map[string]string{"will": "before", "emi": "before"}
	if got := g.get("will", at("select", "n", origin)); got != want["will"] {
		t.Errorf("within the lease: %q", got)
	}
	acknowledged, unknown := 0, "none"
	for acknowledged < 1_000_000 {
		text := fmt.Sprint("during ", acknowledged)
		r := write("will", text)
		if r.status != 200 {
			switch r.status {
			case 500: // it may stand
				unknown = text
			case 503:
			default:
				t.Errorf("%d %s", r.status, r.body)
			}
			break
		}
		want["will"] = text
		acknowledged++
	}
	if (acknowledged > 0) == sync || acknowledged == 1_000_000 {
		t.Errorf("--bucket-sync=%v: %d writes were acknowledged that the bucket does not have", sync, acknowledged)
	}
	eventually(t, "nothing is served without a lease", func() bool {
		r, err := g.do("emi", "GET", at("select", "n", origin), "")
		return err == nil && r.status == 503 && r.header.Get("Retry-After") != "" && strings.Contains(r.body, "cannot reach its bucket")
	})
	if g.bucketStatus().Lease {
		t.Error("the status says that there is a lease")
	}
	g.must("", "GET", "/health", "", 503) // so a load balancer looks elsewhere
	mend()
	// Nobody asks for it: what was acknowledged gets there by itself.
	if !sync {
		eventually(t, "it is in the bucket", func() bool {
			s := g.bucketStatus()
			return len(s.Directories) > 0 && s.Directories[0].Name == "will" && s.Behind == 0
		})
	}
	began := time.Now()
	eventually(t, "it is served again", func() bool {
		r, err := g.do("emi", "GET", at("select", "n", origin), "")
		return err == nil && r.status == 200
	})
	t.Logf("--bucket-sync=%v: served %v after the bucket", sync, time.Since(began))
	g.kill()
	g.wipe()
	g.start()
	for id, text := range want {
		eventually(t, "the directory is taken over", func() bool {
			r, err := g.do(id, "GET", at("select", "n", origin), "")
			return err == nil && r.status == 200 && (r.body == text || r.body == unknown)
		})
	}
}

// TestS3IsBusyAtTheStart has a server that answers SlowDown, fails and hangs up, once each,
// when sqgate looks whether it can be used, and when it takes its lease.
func TestS3IsBusyAtTheStart(t *testing.T) {
	t.Parallel()
	proxy := s3test.NewProxy(s3test.Start(t))
	g := newGate(t, cmp.Or(realSQ(), builtin), "will")
	g.args = []string{"--bucket", proxy.URL, "--private-network=false"}
	g.fillBucket()
	var n atomic.Int64
	proxy.SetFault(func(r *http.Request) s3test.Fault {
		if r.Method != http.MethodPut {
			return s3test.Fault{}
		}
		faults := []s3test.Fault{{Refuse: 503}, {}, {Refuse: 500}, {Refuse: s3test.Cut}, {Lose: 503}, {}, {}, {}, {}, {Refuse: 503}}
		return append(faults, make([]s3test.Fault, 1000)...)[n.Add(1)-1]
	})
	g.start()
	eventually(t, "it serves", func() bool {
		r, err := g.do("will", "POST", at("update", "n", origin), "text")
		return err == nil && r.status == 200
	})
}
