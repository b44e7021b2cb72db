package supervisor

import (
	"cmp"
	"slices"
	"time"
)

// ChildStatus describes a data directory whose child lives or has failed.
type ChildStatus struct {
	Dir       string
	PID       int // 0 before the spawn
	Port      int // 0 before the spawn
	State     State
	InFlight  int       // leases held
	Starts    int       // processes spawned for Dir so far, since its last Stop
	StartedAt time.Time // when the process was spawned; zero before
	LastUsed  time.Time // end of the last lease, or when the child became ready
}

// Children lists all children and all directories that wait after a failure,
// by directory.
func (s *Supervisor) Children() []ChildStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []ChildStatus
	for _, p := range s.places {
		if status, ok := p.status(s.config.now()); ok {
			list = append(list, status)
		}
	}
	slices.SortFunc(list, func(a, b ChildStatus) int { return cmp.Compare(a.Dir, b.Dir) })
	return list
}

func (p *place) status(now time.Time) (ChildStatus, bool) {
	status := ChildStatus{Dir: p.dir, Starts: p.starts}
	if c := p.child; c != nil {
		status.PID, status.Port, status.State = c.proc.PID, c.port, c.state
		status.InFlight, status.StartedAt, status.LastUsed = c.inFlight, c.startedAt, c.lastUsed
		return status, true
	}
	status.State = StateBackoff
	if p.history.looping() {
		status.State = StateCrashLooping
	}
	return status, p.history.until.After(now)
}

// Lines returns the last output of the children of a directory, oldest first:
// at most 200 lines and 64 KiB.
func (s *Supervisor) Lines(dir string) []string {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	p := s.places[dir]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.output.last(ringLines)
}

// States are all that a child can be in, in the order it walks through them.
func States() []State {
	return []State{StateStarting, StateReady, StateDraining, StateStopping, StateBackoff, StateCrashLooping}
}

// Command is what a child's argv begins with.
func (s *Supervisor) Command() []string { return s.config.Command }
