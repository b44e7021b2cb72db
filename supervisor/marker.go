package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Variables in the environment of every child, for whoever finds it when its
// supervisor is gone.
const (
	envDataDir = "SQGATE_DATA_DIR"
	envParent  = "SQGATE_PARENT" // PID:STARTTIME of the supervising process
)

// ownMarker names this process so that no later one with its pid is taken for it.
func ownMarker() (string, error) {
	s, err := readStat("/proc/self/stat")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%s", os.Getpid(), s.startedAt), nil
}

// supervisorOf returns the pid of the process that started a child and still
// lives, or 0 if the child is an orphan. The present parent is asked too: in
// another pid namespace its number differs, its start time does not.
func supervisorOf(child int, marker string) int {
	number, startedAt, _ := strings.Cut(marker, ":")
	candidates := []int{}
	if pid, err := strconv.Atoi(number); err == nil {
		candidates = append(candidates, pid)
	}
	if s, err := readStat(procPath(child, "stat")); err == nil {
		candidates = append(candidates, s.parent)
	}
	for _, pid := range candidates {
		s, err := readStat(procPath(pid, "stat"))
		if err == nil && !s.dead() && s.startedAt == startedAt {
			return pid
		}
	}
	return 0
}
