package sandbox

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOwnThread calls f on a thread of the operating system that ends when f
// returns. What f does to its thread for good is inherited by what f starts and
// by nothing else: the Go runtime never makes a thread from a locked one.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f() // the goroutine ends without unlocking, which ends the thread
			return
		}
		// The first thread of a process never ends. While this goroutine
		// holds it, another goroutine gets another thread.
		defer runtime.UnlockOSThread()
		done <- onOwnThread(f)
	}()
	return <-done
}
