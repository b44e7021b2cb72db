package main

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"mirrorborn.us/sqgate/internal/s3test"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/tenants/registry"
)

// wipe removes everything that a machine loses with its disk.
func (g *gate) wipe() {
	for _, dir := range []string{"data", "state", "archive", filepath.Base(g.configPath())} {
		if err := os.RemoveAll(filepath.Join(g.dir, dir)); err != nil {
			g.t.Fatal(err)
		}
	}
}

// fillBucket puts the tenants into the gate's bucket before it is first used, if there is
// to be one.
func (g *gate) fillBucket() {
	g.t.Helper()
	i := slices.Index(g.args, "--bucket")
	if i < 0 || g.bucketFilled {
		return
	}
	g.bucketFilled = true
	s := &service{o: &options{config: g.configPath(), stateDir: filepath.Join(g.dir, "state"), dataRoot: filepath.Join(g.dir, "data")}, log: slog.New(slog.DiscardHandler)}
	b, err := bucket.Open(g.args[i+1], bucket.Options{Dial: g.on.dialer()})
	if err == nil {
		err = os.MkdirAll(s.markDir(), 0o700)
	}
	if err == nil {
		_, err = registry.PutAll(g.t.Context(), s.registryConfig(b))
	}
	if err != nil {
		g.t.Fatal(err)
	}
	g.give(filepath.Join(g.dir, "state"))
	g.give(s.markDir())
	g.give(filepath.Join(s.markDir(), ".tenants"))
}

// TestTheMachineIsGone kills sqgate while writers write, and removes its disk. On a new
// one everything acknowledged is there, and nothing that was refused.
func TestTheMachineIsGone(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) { testTheMachineIsGone(t, sq, "file://"+t.TempDir()) })
}

// TestTheMachineIsGoneAndS3IsNot has the same with a real S3 server.
func TestTheMachineIsGoneAndS3IsNot(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	testTheMachineIsGone(t, cmp.Or(realSQ(), builtin), server.URL)
}

func testTheMachineIsGone(t *testing.T, sq, url string, args ...string) {
	g := newGate(t, sq, "will", "emi")
	g.args = append([]string{"--bucket", url}, args...)
	g.start()
	slots := []*slot{
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.1", updates),
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.2", inserts),
		newSlot("will", "n&c=1.1.1/1.1.1/1.900.3", updatesAndDeletes()),
		newSlot("will", "n&c=a.name", updatesAndDeletes()),
		newSlot("will", "another&c=1.1.1/1.1.1/1.1.1", inserts),
		newSlot("emi", "n&c=1.1.1/1.1.1/1.1.1", updates),
	}
	for round := range rounds(2, 6) {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for i, s := range slots {
			writers.Go(func() { s.write(g, stop, round, i) })
		}
		// Until each has written something in this round.
		eventually(t, "the writers write", func() bool {
			for i, s := range slots {
				r, err := g.do(s.tenant, "GET", "/api/v2/select?p="+s.target, "")
				if err != nil || r.status != 200 || i != 2 && i != 3 && r.body == "" {
					return i == 3 && r.status == 404
				}
			}
			return true
		})
		g.kill()
		close(stop)
		writers.Wait()
		if round%2 == 0 {
			g.wipe()
		}
		g.start()
		for i, s := range slots {
			eventually(t, "the directory is taken over", func() bool {
				r, err := g.do(s.tenant, "GET", "/api/v2/select?p="+s.target, "")
				return err == nil && r.status != 503
			})
			if problem := s.check(g); problem != "" {
				t.Fatalf("round %d, writer %d: %s", round, i, problem)
			}
		}
	}
}
