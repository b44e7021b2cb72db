package supervisor

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel's sock_diag(7) picks the sockets itself: of all that are in a
// state, those with a port. golang.org/x/sys has no types for it.
const (
	stateListen = 10 // TCP_LISTEN

	diagRequestSize = 56 // struct inet_diag_req_v2
	diagStates      = 4  // offsets in it
	diagSourcePort  = 8

	diagAnswerSize = 72 // struct inet_diag_msg
	diagAnswerPort = 4  // offsets in it
	diagInode      = 68

	diagBuffer  = 32 << 10 // the kernel's own limit for one datagram of a dump
	diagTimeout = 1        // seconds; the kernel answers within the system call
)

var errDiag = errors.New("sock_diag: unexpected answer")

// diagnosis is what sock_diag has answered.
type diagnosis struct {
	sockets []string
	bytes   int // read for it
}

// askListeners returns the sockets that listen on a port. Errors that mean
// that it cannot be asked here: ENOENT, EPERM, EPROTONOSUPPORT, EAFNOSUPPORT.
func askListeners(port int) (diagnosis, error) {
	var found diagnosis
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return found, os.NewSyscallError("socket", err)
	}
	// Nothing is written through it that could be lost.
	defer func() { _ = unix.Close(fd) }()
	patience := unix.Timeval{Sec: diagTimeout}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return found, os.NewSyscallError("setsockopt", err)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		if err := unix.Sendto(fd, diagRequest(family, port), 0, kernel); err != nil {
			return found, os.NewSyscallError("sendto", err)
		}
		if err := found.receive(fd, port); err != nil {
			return found, err
		}
	}
	return found, nil
}

// diagRequest asks for a dump. Addresses and interface, which stay zero, are
// not looked at in one.
func diagRequest(family byte, port int) []byte {
	native := binary.NativeEndian
	r := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	native.PutUint32(r, uint32(len(r)))
	native.PutUint16(r[4:], unix.SOCK_DIAG_BY_FAMILY)
	native.PutUint16(r[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := r[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	native.PutUint32(body[diagStates:], 1<<stateListen)
	binary.BigEndian.PutUint16(body[diagSourcePort:], uint16(port))
	return r
}

// receive reads to the end of one dump.
func (d *diagnosis) receive(fd, port int) error {
	buffer := make([]byte, diagBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		d.bytes += n
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return os.NewSyscallError("sock_diag", err)
		}
		for _, m := range messages {
			if done, err := d.take(m, port); done || err != nil {
				return err
			}
		}
	}
}

func (d *diagnosis) take(m syscall.NetlinkMessage, port int) (done bool, err error) {
	switch m.Header.Type {
	case unix.NLMSG_DONE:
		return true, nil
	case unix.NLMSG_ERROR:
		return true, diagError(m.Data)
	case unix.SOCK_DIAG_BY_FAMILY:
		return false, d.add(m.Data, port)
	}
	return true, errDiag
}

// add takes a socket. The port is looked at again: without it, a kernel that
// did not know the filter would have us take a stranger's for the child's.
func (d *diagnosis) add(body []byte, port int) error {
	if len(body) < diagAnswerSize {
		return errDiag
	}
	inode := binary.NativeEndian.Uint32(body[diagInode:])
	if body[1] == stateListen && int(binary.BigEndian.Uint16(body[diagAnswerPort:])) == port {
		d.sockets = append(d.sockets, socketName(strconv.FormatUint(uint64(inode), 10)))
	}
	return nil
}

// diagError reads the negative errno that a refusal begins with.
func diagError(body []byte) error {
	if len(body) < 4 {
		return errDiag
	}
	number := -int32(binary.NativeEndian.Uint32(body))
	return os.NewSyscallError("sock_diag", syscall.Errno(number))
}
