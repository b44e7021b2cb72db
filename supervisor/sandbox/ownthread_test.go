package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The restrictions of children must not spread to the process that starts
// them: none of its threads is ever made from a restricted one.
func TestTheParentIsNotConfined(t *testing.T) {
	needLandlock(t)
	if restricted("self") {
		t.Skip("this process was restricted from the start")
	}
	s, dir := New(slog.New(slog.DiscardHandler)), t.TempDir()
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for range 3 {
				cmd := command(t, "attempt")
				if err := start(s, cmd, dir, 1); err != nil {
					t.Error(err)
					return
				}
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
				runtime.GC() // makes threads, and signals all
			}
		})
	}
	all.Wait()
	eventually(t, "the restricted threads end", func() bool { return restrictedThreads(t) == 0 })
	writeOnManyThreads(t)
}

// eventually polls for the end of threads, which sends no event.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// threads lists the thread ids of this process.
func threads(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

func restrictedThreads(t *testing.T) int {
	t.Helper()
	count := 0
	for _, tid := range threads(t) {
		if restricted("self/task/" + tid) {
			count++
		}
	}
	return count
}

func restricted(thread string) bool {
	status, err := os.ReadFile("/proc/" + thread + "/status")
	return err == nil && strings.Contains(string(status), "NoNewPrivs:\t1")
}

// writeOnManyThreads makes the runtime use more threads than it has.
func writeOnManyThreads(t *testing.T) {
	t.Helper()
	dir, holding := t.TempDir(), make(chan struct{})
	var ready, all sync.WaitGroup
	for i := range len(threads(t)) + 10 {
		ready.Add(1)
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
				t.Error(err)
			}
			ready.Done()
			<-holding // so that no other goroutine gets this thread
		})
	}
	ready.Wait()
	close(holding)
	all.Wait()
}

// Enough calls at once to use every idle thread of the process, the first one
// included if it were not avoided. That one could not end.
func TestOnOwnThread(t *testing.T) {
	var arrived, all sync.WaitGroup
	var own sync.Map
	count, failure := len(threads(t))+10, errors.New("failure")
	arrived.Add(count)
	for range count {
		all.Go(func() {
			if err := onOwnThread(func() error {
				own.Store(unix.Gettid(), true)
				arrived.Done()
				arrived.Wait()
				return failure
			}); err != failure {
				t.Error(err)
			}
		})
	}
	all.Wait()
	own.Range(func(tid, _ any) bool {
		if tid == os.Getpid() {
			t.Error("the first thread was used")
			return false
		}
		eventually(t, "the thread ends", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			return errors.Is(err, os.ErrNotExist)
		})
		return true
	})
}
