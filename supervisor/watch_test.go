package supervisor

import (
	"sync"
	"testing"
	"time"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// eventually polls for what sends no event, such as the end of a process.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// servers returns the live processes that serve dir.
func servers(dir string) []int {
	pids, _ := procfs.PIDs()
	var found []int
	for _, pid := range pids {
		if procfs.Environ(pid, envDataDir) == dir && alive(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// alive is false for a process that cannot run another instruction: it has been
// killed and not yet waited for, or the kernel is taking it down.
func alive(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && !s.Dead() && procfs.Environ(pid, envDataDir) != ""
}

// watch samples /proc until the test ends and fails it if two processes serve dir.
func watch(t *testing.T, dir string) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			if pids := servers(dir); len(pids) > 1 {
				t.Errorf("%d processes serve %s: %v", len(pids), dir, pids)
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
}

func childOf(s *Supervisor, dir string) ChildStatus {
	for _, c := range s.Children() {
		if c.Dir == dir {
			return c
		}
	}
	return ChildStatus{}
}
