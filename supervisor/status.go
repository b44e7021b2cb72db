package supervisor

import (
	"cmp"
	"slices"
	"time"
)

// ChildStatus is that of a data directory whose child lives or has failed.
type ChildStatus struct {
	Dir       string
	PID       int // 0 before the spawn
	Port      int // 0 before the spawn
	State     State
	InFlight  int       // leases held
	Starts    int       // processes spawned for Dir since its last Stop
	StartedAt time.Time // when the process was spawned; zero before
	LastUsed  time.Time // end of the last lease, or when the child became ready
}

// Children lists all children, and all directories that wait after a failure,
// ordered by directory.
func (s *Supervisor) Children() []ChildStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []ChildStatus
	for _, p := range s.slots {
		if status, ok := p.status(s.config.now()); ok {
			list = append(list, status)
		}
	}
	slices.SortFunc(list, func(a, b ChildStatus) int { return cmp.Compare(a.Dir, b.Dir) })
	return list
}

func (p *slot) status(now time.Time) (ChildStatus, bool) {
	status := ChildStatus{Dir: p.dir, Starts: p.starts}
	if c := p.child; c != nil {
		status.PID, status.Port, status.State = c.proc.PID, c.port, c.state
		status.InFlight, status.StartedAt, status.LastUsed = c.inFlight, c.startedAt, c.lastUsed
		return status, true
	}
	status.State = StateBackoff
	if p.backoff.crashLooping() {
		status.State = StateCrashLooping
	}
	return status, p.backoff.notBefore.After(now)
}

// Lines returns the last output of a directory's children, oldest line first: at
// most 200 lines and 64 KiB.
func (s *Supervisor) Lines(dir string) []string {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	p := s.slots[dir]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.output.last(keptLines)
}

// States lists all states.
func States() []State {
	return []State{StateStarting, StateReady, StateDraining, StateStopping, StateBackoff, StateCrashLooping}
}

// Command is Config.Command with an absolute path.
func (s *Supervisor) Command() []string { return s.config.Command }
