package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// Variables in the environment of every child, for whoever finds it when its
// supervisor is gone.
const (
	envDataDir = "SQGATE_DATA_DIR"
	envParent  = "SQGATE_PARENT" // the marker of its supervisor, PID:STARTTIME
)

// ownMarker identifies this process. The start time keeps a later process with
// the same pid from being taken for it.
func ownMarker() (string, error) {
	self, err := procfs.Self()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%s", os.Getpid(), self.StartTime), nil
}

// supervisorOf returns the pid of the process that started a child, if it still
// lives, or 0 if the child is an orphan. It also looks at the child's present
// parent: seen from another pid namespace, the supervisor has another pid, but
// the same start time.
func supervisorOf(child int, marker string) int {
	number, startTime, _ := strings.Cut(marker, ":")
	candidates := []int{}
	if pid, err := strconv.Atoi(number); err == nil {
		candidates = append(candidates, pid)
	}
	if s, err := procfs.ReadStat(child); err == nil {
		candidates = append(candidates, s.Parent)
	}
	for _, pid := range candidates {
		s, err := procfs.ReadStat(pid)
		if err == nil && !s.Dead() && s.StartTime == startTime {
			return pid
		}
	}
	return 0
}

// errUnknownHolder: no process that holds the lock is the child of an sqgate.
var errUnknownHolder = errors.New("holder of the lock is not known")

// heldError says who serves a directory. It is ErrHeld.
type heldError struct {
	holder     int // pid, 0 if none was found
	supervisor int // pid of the live sqgate that the holder belongs to, 0 if unknown
	text       string
	unknown    bool // it is errUnknownHolder too
}

func (e *heldError) Error() string { return e.text }

func (e *heldError) Is(target error) bool {
	return target == ErrHeld || (e.unknown && target == errUnknownHolder)
}

// holder is a process that has the lock of a directory.
type holder struct {
	pid    int    // 0 if none was found
	marker string // of its supervisor, "" if it is the child of none
}

// findHolder looks through all processes, for a child first: for a moment, an
// sqgate holds the lock together with the child that it has just spawned.
func findHolder(f *os.File) (holder, error) {
	holds, err := procfs.Flock(f)
	if err != nil {
		return holder{}, err
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return holder{}, err
	}
	var found holder
	for _, pid := range pids {
		if !holds(pid) {
			continue
		}
		found = holder{pid: pid, marker: procfs.Environ(pid, envParent)}
		if found.marker != "" {
			return found, nil
		}
	}
	return found, nil
}

func (h holder) stillHolds(f *os.File) bool {
	holds, err := procfs.Flock(f)
	return err == nil && h.marker == procfs.Environ(h.pid, envParent) && holds(h.pid)
}

// unknown is the error for a holder that is not the child of an sqgate.
func (h holder) unknown() error {
	if h.pid == 0 {
		return &heldError{unknown: true, text: "directory is locked by a process that cannot be seen from here"}
	}
	name := "?"
	if exe, err := os.Readlink(procfs.Path(h.pid, "exe")); err == nil {
		name = filepath.Base(exe)
	}
	return &heldError{holder: h.pid, unknown: true,
		text: fmt.Sprintf("directory is locked by %s (pid %d), which is no child of sqgate", name, h.pid)}
}

// refuseForeignProcess fails if an SQ that no sqgate started serves the
// directory, as on a host that ran SQ before and still does. Such a process
// holds no lock, and it is not ours to stop.
func refuseForeignProcess(f *os.File) error {
	want, err := f.Stat()
	if err != nil {
		return err
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if procfs.Environ(pid, envParent) != "" {
			continue
		}
		if got, err := servedBy(pid); err == nil && os.SameFile(got, want) {
			return &heldError{holder: pid, text: fmt.Sprintf(
				"directory is served by an SQ that sqgate did not start (pid %d): stop it first", pid)}
		}
	}
	return nil
}

// errServesNothing: a process is not `... host PORT ... --data-dir DIR`.
var errServesNothing = errors.New("no SQ")

// servedBy looks at the data directory of a process that is `... host PORT ...
// --data-dir DIR`, through the process's own root or working directory. If this
// process is in a user namespace, it may not look through those of a process of
// its user outside. Then it takes an absolute path for one of its own.
func servedBy(pid int) (fs.FileInfo, error) {
	args := procfs.Args(pid)
	option := slices.Index(args, "--data-dir")
	if !slices.Contains(args, "host") || option < 0 || option+1 == len(args) {
		return nil, errServesNothing
	}
	dir := args[option+1]
	if own, ok := strings.CutPrefix(dir, "/proc/self/"); ok { // as in inheritedDir
		return os.Stat(procfs.Path(pid, own))
	}
	if !filepath.IsAbs(dir) {
		return os.Stat(procfs.Path(pid, "cwd/"+dir))
	}
	info, err := os.Stat(procfs.Path(pid, "root"+dir))
	if errors.Is(err, fs.ErrPermission) && procfs.IsOwn(pid) {
		return os.Stat(dir)
	}
	return info, err
}
