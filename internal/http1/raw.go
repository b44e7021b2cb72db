package http1

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets here do not block, so that a read or a write is over in the time
// it takes to copy. The runtime need not be told of it: it would look whether
// another thread should go on meanwhile, and where the system lets the receiver
// run first, have one started, which takes a processor from whoever it is that
// was woken.

func rawRead(fd int, b []byte) (int, error) { return raw(unix.SYS_READ, fd, b) }

func rawWrite(fd int, b []byte) (int, error) { return raw(unix.SYS_WRITE, fd, b) }

func raw(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
