package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/bucket"
)

// comeBack has a machine crash and start again, before the others take its directories over.
func (c *cluster) comeBack(m *machine, meanwhile func()) {
	m.crash()
	meanwhile()
	m.start()
	synctest.Wait()
	time.Sleep(2 * renewEvery)
}

// giveTo hands the directory of a over to a host, or to any by a drain, or by nothing but a
// request at the other one.
func (c *cluster) giveTo(by string) error {
	a := c.hosts["a"]
	switch by {
	case "a move":
		return a.ds.HandOver(c.Context(), a.tenant.DataDir, "b")
	case "a drain":
		return a.ds.Drain(c.Context())
	}
	return nil
}

// TestAMarkThatCannotBeWritten keeps no directory from being handed over: the bucket has
// everything.
func TestAMarkThatCannotBeWritten(t *testing.T) {
	for _, by := range []string{"a move", "a drain"} {
		t.Run(by, func(t *testing.T) {
			inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
				a := c.hosts["a"]
				a.write("n.phext", "one", "", true)
				mark := filepath.Join(a.ds.MarkDir, "will")
				a.check(os.Remove(mark))
				a.check(os.Mkdir(mark, 0o700))
				a.check(c.giveTo(by))
				a.check(os.Remove(mark))
				c.want("a", "n.phext", "one")
				if c.owner() != "b" {
					t.Errorf("%q has it", c.owner())
				}
			})
		})
	}
}

// TestAVolumeThatIsMissing does not keep others from what the bucket has whole. What only this
// host may have is kept for it.
func TestAVolumeThatIsMissing(t *testing.T) {
	for _, by := range []string{"a request", "a move", "a drain"} {
		for _, ahead := range []bool{false, true} {
			t.Run(by+map[bool]string{true: ", ahead"}[ahead], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := &cluster{TB: t, bucket: bucket.NewMemory(), hosts: map[string]*machine{}}
					defer c.end()
					a := c.addWithPresence("a")
					c.add("b")
					a.write("n.phext", "one", "", true)
					a.dirs.Of(a.tenant.DataDir).MarkWritten(a.path(""))
					away := filepath.Join(a.root, "away")
					c.comeBack(a, func() {
						if ahead {
							a.serveWithout()
						}
						a.check(os.Rename(a.path(""), away))
					})
					err := c.giveTo(by)
					if ahead && by == "a move" == (err == nil) || !ahead && err != nil {
						t.Errorf("%v", err)
					}
					if !ahead {
						for range 2 { // it stays there
							c.want("a", "n.phext", "one")
							c.want("b", "n.phext", "one")
							a.ds.Forget(a.tenant.DataDir)
						}
						if c.owner() != "b" {
							t.Errorf("%q has it", c.owner())
						}
						return
					}
					if _, err := c.read("b", "n.phext"); err == nil {
						t.Error("it is served, although a may have more")
					}
					a.check(os.MkdirAll(filepath.Dir(a.path("")), 0o700))
					a.check(os.Rename(away, a.path("")))
					a.check(os.WriteFile(a.path("n.phext"), []byte("without the bucket"), 0o600))
					time.Sleep(pauseAtMost)
					c.want("b", "n.phext", "without the bucket")
				})
			})
		}
	}
}

// TestAVolumeThatGoesMissing while its directory is served goes to another host when somebody has
// noticed. If that one lacks it too, it does not go round and round.
func TestAVolumeThatGoesMissing(t *testing.T) {
	for _, everywhere := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{TB: t, bucket: bucket.NewMemory(), hosts: map[string]*machine{}}
			defer c.end()
			a := c.addWithPresence("a")
			b := c.addWithPresence("b")
			a.write("n.phext", "one", "", true)
			a.dirs.Of(a.tenant.DataDir).MarkWritten(a.path(""))
			if everywhere {
				a.check(a.ds.HandOver(t.Context(), a.tenant.DataDir, "b"))
				b.check(b.serve())
				b.dirs.Of(b.tenant.DataDir).MarkWritten(b.path(""))
				b.check(b.ds.HandOver(t.Context(), b.tenant.DataDir, "a"))
				a.check(a.serve())
				b.check(os.RemoveAll(b.path("")))
			}
			a.check(os.RemoveAll(a.path("")))
			time.Sleep(2 * lookAtLogs)
			if c.owner() != "a" {
				t.Errorf("nobody has noticed, and %q has it", c.owner())
			}
			if a.dirs.Of(a.tenant.DataDir).CheckPresent() == nil {
				t.Error("it is there")
			}
			time.Sleep(2 * lookAtLogs)
			if !everywhere {
				c.want("a", "n.phext", "one")
				if c.owner() != "b" {
					t.Errorf("%q has it", c.owner())
				}
				return
			}
			c.bucket.Calls()
			for range 100 {
				if _, err := c.read("a", "n.phext"); err == nil {
					t.Error("it is served")
				}
			}
			if puts := c.bucket.Calls()["put"]; puts > 4 {
				t.Errorf("%d changes", puts)
			}
		})
	}
}

// TestAnObjectThatIsNotGiven to the host that takes its directory over is logged, keeps nobody
// waiting for long, and no other host from the directory.
func TestAnObjectThatIsNotGiven(t *testing.T) {
	for _, by := range []string{"a request", "a move", "a drain"} {
		for _, underWay := range []bool{false, true} {
			t.Run(by+map[bool]string{true: ", under way"}[underWay], func(t *testing.T) {
				inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
					a := c.hosts["a"]
					for range 3 {
						a.write("n.phext", "one", "", true)
					}
					key := logOf(t, c.bucket)[2]
					c.comeBack(a, func() { a.lacking.Store(&key) })
					defer a.lacking.Store(nil)
					served := make(chan error, 1)
					begun := time.Now()
					go func() { served <- a.serve() }()
					if synctest.Wait(); !underWay || by == "a request" {
						if err := <-served; apierror.From(err).Kind != apierror.Unavailable || time.Since(begun) > 10*time.Second {
							t.Errorf("%v after %v", err, time.Since(begun))
						}
						if log := a.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "number 3 of the log") {
							t.Error(log)
						}
						served <- errors.New("")
					}
					if by == "a request" {
						a.lacking.Store(nil)
						time.Sleep(pauseAtMost)
						c.want("b", "n.phext", "one")
						return
					}
					begun = time.Now()
					a.check(c.giveTo(by))
					if took := time.Since(begun); took > 10*time.Second || by == "a drain" && took > time.Second {
						t.Errorf("it took %v", took)
					}
					if <-served == nil {
						t.Error("it was served")
					}
					time.Sleep(2 * renewEvery)
					c.want("a", "n.phext", "one")
					if c.owner() != "b" {
						t.Errorf("%q has it", c.owner())
					}
				})
			})
		}
	}
}

// TestADrainedHostThatHasCrashed gives away what it had before, when somebody asks for it.
func TestADrainedHostThatHasCrashed(t *testing.T) {
	inCluster(t, []string{"a", "b"}, func(t *testing.T, c *cluster) {
		a := c.hosts["a"]
		a.write("n.phext", "one", "", true)
		c.comeBack(a, func() {})
		a.check(a.ds.Drain(t.Context()))
		time.Sleep(2 * renewEvery)
		c.want("a", "n.phext", "one")
		if c.owner() != "b" {
			t.Errorf("%q has it", c.owner())
		}
	})
}

// TestWhatNobodyCanServeComesToEach has each host pass a directory on: none is left out.
func TestWhatNobodyCanServeComesToEach(t *testing.T) {
	inCluster(t, []string{"a", "b", "c", "d"}, func(t *testing.T, c *cluster) {
		for n := range 20 {
			name, at, asked := fmt.Sprint("tenant", n), "a", map[string]bool{}
			for range c.hosts {
				at = c.hosts[at].ds.after(name).host
				asked[at] = true
			}
			if len(asked) != len(c.hosts) {
				t.Errorf("%s comes only to %v", name, asked)
			}
		}
	})
}
