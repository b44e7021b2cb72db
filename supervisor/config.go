package supervisor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Defaults of Config.
const (
	DefaultPortLow      = 20000
	DefaultPortHigh     = 29999
	DefaultStopTimeout  = 10 * time.Second
	DefaultStartTimeout = 10 * time.Second
	DefaultWriteLimit   = 10 * time.Minute
)

const (
	// announceGrace is how long SQ may take to announce itself. One that
	// cannot bind its port ends long before that.
	announceGrace = time.Second
	// holderGrace is how long an unknown process may hold a directory's lock:
	// a gateway between locking and spawning, or a process that it forks.
	holderGrace = time.Second
)

// Why a child was started.
const (
	StartedFirst   = "first"   // none has served the directory since it came into use
	StartedAgain   = "again"   // the one before was stopped in order
	StartedFailure = "failure" // the one before failed
)

// Config is what a Supervisor is made of. Only Command and WorkDir have no default.
type Config struct {
	// Command is what a child's argv begins with, {"/usr/local/bin/sq"} or
	// {"/path/sqgate", "legacy-sq"}; `host PORT --key K --data-dir DIR` follows.
	Command []string
	// PortLow and PortHigh bound the ports of children, both included.
	PortLow, PortHigh int
	// IdleTimeout stops a child this long after its last lease ended; 0 = never.
	IdleTimeout time.Duration
	// MaxChildren is the most children alive at once; 0 = no limit. The idle
	// child that was used least recently makes room.
	MaxChildren int
	// LogDir takes one rotated file per data directory; "" = standard error.
	LogDir string
	// WorkDir is the working directory of all children, made with mode 0700,
	// with the folder .sq in it that SQ wants.
	WorkDir string
	// Unconfined lets children do what this user can: for a Command that needs
	// more than its own file, the system's libraries and the data directory.
	Unconfined bool
	// StopTimeout is the time between TERM and KILL.
	StopTimeout time.Duration
	// StartTimeout is the longest a child may take to prove itself ready.
	StartTimeout time.Duration
	// WriteLimit is how long a stop waits for a write to end before Close
	// gives up with ErrStillWriting. A write is never cut short.
	WriteLimit time.Duration
	Logger     *slog.Logger
	// OnStart, if set, is told of each process that was spawned and why: one
	// of the Started constants. It must not call back.
	OnStart func(dir, reason string)

	// For tests.
	stderr        io.Writer        // output of children without LogDir
	now           func() time.Time // clock of backoff and status
	announceGrace time.Duration
	holderGrace   time.Duration
}

// withDefaults fills the gaps and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.PortLow, DefaultPortLow)
	setDefault(&c.PortHigh, DefaultPortHigh)
	setDefault(&c.StopTimeout, DefaultStopTimeout)
	setDefault(&c.StartTimeout, DefaultStartTimeout)
	setDefault(&c.WriteLimit, DefaultWriteLimit)
	setDefault(&c.Logger, slog.Default())
	setDefault(&c.announceGrace, announceGrace)
	setDefault(&c.holderGrace, holderGrace)
	if c.stderr == nil {
		c.stderr = os.Stderr
	}
	if c.now == nil {
		c.now = time.Now
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("supervisor: %w", err)
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) check() error {
	if c.PortLow < 1 || c.PortHigh > 65535 || c.PortLow > c.PortHigh {
		return fmt.Errorf("port range %d-%d is not within 1-65535", c.PortLow, c.PortHigh)
	}
	if c.MaxChildren < 0 || c.IdleTimeout < 0 || c.StopTimeout < 0 {
		return errors.New("MaxChildren, IdleTimeout and StopTimeout must not be negative")
	}
	if c.WorkDir == "" || len(c.Command) == 0 {
		return errors.New("WorkDir and Command must be set")
	}
	return c.resolve()
}

// resolve makes paths absolute, because children run in WorkDir.
func (c *Config) resolve() error {
	binary, err := exec.LookPath(c.Command[0])
	if err != nil {
		return err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	c.Command = append([]string{binary}, c.Command[1:]...)
	c.WorkDir, err = filepath.Abs(c.WorkDir)
	return err
}
