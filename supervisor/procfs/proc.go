// Package procfs says what /proc knows of a process: its state, its threads,
// its arguments, the files it has open and the locks it holds. A Process holds
// one by a pidfd, so that a signal cannot reach another one.
//
// It only looks and signals: it starts no process, and decides nothing from
// what it sees. It knows nothing of sockets. Which process listens on a port is
// known without it (supervisor/readiness.go says how), and the kernel can take
// seconds to list the sockets of a host where each request to SQ leaves one in
// TIME_WAIT for a minute.
//
// It needs Linux 5.3 (pidfd). Of another user's process it sees nothing, and
// where a process ends during a look, the functions say so each in their own way.
package procfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var errStat = errors.New("/proc/PID/stat has an unexpected form")

// Path is the path of a file in /proc/PID.
func Path(pid int, rest string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), rest)
}

// PIDs lists all processes that can be seen from here.
func PIDs() ([]int, error) { return numbers("/proc") }

// Threads lists the thread ids of a process.
func Threads(pid int) ([]int, error) { return numbers(Path(pid, "task")) }

// numbers lists the entries of a directory that are numbers.
func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	var list []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			list = append(list, n)
		}
	}
	return list, err
}

// Stat is a part of /proc/PID/stat.
type Stat struct {
	State     string // one letter; T is stopped
	Parent    int
	StartTime string // clock ticks since boot; with the pid it names a process for good
}

// ReadStat returns the state of a process.
func ReadStat(pid int) (Stat, error) { return readStat(Path(pid, "stat")) }

// Self is the state of this process, also where /proc counts pids in another
// namespace.
func Self() (Stat, error) { return readStat("/proc/self/stat") }

func readStat(path string) (Stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Stat{}, err
	}
	// The name before the last ')' may contain anything, spaces included.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return Stat{}, errStat
	}
	parent, err := strconv.Atoi(fields[1])
	return Stat{State: fields[0], Parent: parent, StartTime: fields[19]}, err
}

// Dead reports whether the process has ended; nobody may have waited for it yet.
func (s Stat) Dead() bool { return s.State == "Z" || s.State == "X" }

// Stopped reports whether no thread of the process can run: each is stopped
// or dead. It is false if that cannot be seen.
func Stopped(pid int) bool {
	threads, err := Threads(pid)
	if err != nil {
		return false
	}
	for _, tid := range threads {
		s, err := readStat(Path(pid, "task/"+strconv.Itoa(tid)+"/stat"))
		if err != nil || (s.State != "T" && !s.Dead()) {
			return false
		}
	}
	return true
}

// IsOwn reports whether a process is this user's.
func IsOwn(pid int) bool {
	var st unix.Stat_t
	return unix.Stat(Path(pid, ""), &st) == nil && int(st.Uid) == os.Geteuid()
}

// Environ returns a variable of the environment with which a process was
// started, "" if it has none or cannot be read.
func Environ(pid int, name string) string {
	text, err := os.ReadFile(Path(pid, "environ"))
	if err != nil {
		return ""
	}
	for entry := range strings.SplitSeq(string(text), "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// Args returns the arguments of a process, its name first; nil if they cannot
// be read.
func Args(pid int) []string {
	line, err := os.ReadFile(Path(pid, "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// WritesTo reports whether a process has a file open for writing whose path is
// wanted. In doubt it is true; it is false for a process that has ended.
func WritesTo(pid int, wanted func(path string) bool) bool {
	fds, err := numbers(Path(pid, "fd"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return slices.ContainsFunc(fds, func(fd int) bool { return writesTo(pid, fd, wanted) })
}

func writesTo(pid, fd int, wanted func(path string) bool) bool {
	target, err := os.Readlink(fdPath(pid, fd))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return wanted(strings.TrimSuffix(target, " (deleted)")) && openForWriting(readFDInfo(pid, fd))
}

func fdPath(pid, fd int) string { return Path(pid, "fd/"+strconv.Itoa(fd)) }

func readFDInfo(pid, fd int) string {
	info, err := os.ReadFile(Path(pid, "fdinfo/"+strconv.Itoa(fd)))
	if err != nil {
		return ""
	}
	return string(info)
}

// openForWriting reads the line "flags:" (octal) of an fdinfo. In doubt it is true.
func openForWriting(info string) bool {
	for line := range strings.Lines(info) {
		digits, ok := strings.CutPrefix(line, "flags:")
		if !ok {
			continue
		}
		flags, err := strconv.ParseUint(strings.TrimSpace(digits), 8, 64)
		return err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY
	}
	return true
}

// Flock returns a test for whether a process has a descriptor with the flock
// on the file that f has open.
func Flock(f *os.File) (heldBy func(pid int) bool, err error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &want); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	inode := ":" + strconv.FormatUint(want.Ino, 10) + " "
	same := func(pid, fd int) bool {
		// The inode in fdinfo first: to read it touches no other file system.
		if !hasFlock(readFDInfo(pid, fd), inode) {
			return false
		}
		var got unix.Stat_t
		err := unix.Stat(fdPath(pid, fd), &got)
		return err == nil && got.Dev == want.Dev && got.Ino == want.Ino
	}
	return func(pid int) bool {
		fds, err := numbers(Path(pid, "fd"))
		if err != nil {
			return false // it has ended, or is another user's
		}
		return slices.ContainsFunc(fds, func(fd int) bool { return same(pid, fd) })
	}, nil
}

// hasFlock reports whether an fdinfo has a line such as
// "lock:	1: FLOCK  ADVISORY  WRITE 7314 fe:00:1311 0 EOF".
func hasFlock(info, inode string) bool {
	for line := range strings.Lines(info) {
		if strings.HasPrefix(line, "lock:") && strings.Contains(line, "FLOCK") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}
