package supervisor

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOwnThread calls f on a thread of the operating system that ends with it,
// so that what f does to its thread for good reaches what f starts, and nobody
// else: the Go runtime never makes a thread from one that is locked.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f() // and the goroutine ends without unlocking, which ends the thread
			return
		}
		// The first thread never ends. While this goroutine holds it, another
		// one gets another thread.
		defer runtime.UnlockOSThread()
		done <- onOwnThread(f)
	}()
	return <-done
}
