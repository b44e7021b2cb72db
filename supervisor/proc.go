package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var errStat = errors.New("unexpected form of stat")

func procPath(pid int, rest string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), rest)
}

// numbers lists the entries of a directory of /proc that are numbers.
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

func threadsOf(pid int) ([]int, error) { return numbers(procPath(pid, "task")) }

// stat is what this package needs of /proc/PID/stat.
type stat struct {
	state     string
	parent    int
	startedAt string // clock ticks since boot; with the pid it names a process for good
}

func readStat(path string) (stat, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	// The command before the last ')' may hold anything, spaces included.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, errStat
	}
	parent, err := strconv.Atoi(fields[1])
	return stat{state: fields[0], parent: parent, startedAt: fields[19]}, err
}

func (s stat) dead() bool { return s.state == "Z" || s.state == "X" }

// allStopped reports whether no thread can run: stopped, or dead already.
func allStopped(pid int) bool {
	threads, err := threadsOf(pid)
	if err != nil {
		return false
	}
	for _, tid := range threads {
		s, err := readStat(procPath(pid, fmt.Sprintf("task/%d/stat", tid)))
		if err != nil || (s.state != "T" && !s.dead()) {
			return false
		}
	}
	return true
}

// writing reports whether a phext, or the export beside it, is open for
// writing. When in doubt it is.
func writing(pid int) bool {
	fds, err := numbers(procPath(pid, "fd"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	return slices.ContainsFunc(fds, func(fd int) bool { return writesPhext(pid, fd) })
}

func writesPhext(pid, fd int) bool {
	target, err := os.Readlink(procPath(pid, fmt.Sprintf("fd/%d", fd)))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	target = strings.TrimSuffix(target, " (deleted)")
	if !strings.HasSuffix(target, ".phext") && !strings.HasSuffix(target, ".phext.json") {
		return false
	}
	return openForWriting(readFDInfo(pid, fd))
}

func readFDInfo(pid, fd int) string {
	info, err := os.ReadFile(procPath(pid, fmt.Sprintf("fdinfo/%d", fd)))
	if err != nil {
		return ""
	}
	return string(info)
}

// openForWriting reads the line `flags:` (octal) of an fdinfo.
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

// environ returns a variable of a process's first environment, "" if absent
// or not ours to read.
func environ(pid int, name string) string {
	text, err := os.ReadFile(procPath(pid, "environ"))
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
