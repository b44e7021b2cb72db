package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// Variables in the environment of every child, for whoever finds it when its
// supervisor is gone.
const (
	envDataDir = "SQGATE_DATA_DIR"
	envParent  = "SQGATE_PARENT" // PID:STARTTIME of the supervising process
)

// ownMarker names this process so that no later one with its pid is taken for it.
func ownMarker() (string, error) {
	s, err := procfs.Self()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%s", os.Getpid(), s.StartTime), nil
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
	if s, err := procfs.ReadStat(child); err == nil {
		candidates = append(candidates, s.Parent)
	}
	for _, pid := range candidates {
		s, err := procfs.ReadStat(pid)
		if err == nil && !s.Dead() && s.StartTime == startedAt {
			return pid
		}
	}
	return 0
}
