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

	"mirrorborn.us/sqgate/internal/fsutil"
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
	// announceGrace is how long SQ may take to announce itself. One that cannot
	// bind its port ends long before that.
	announceGrace = time.Second
	// holderGrace is how long an unknown process may hold a directory's lock. It
	// may be an sqgate between lock and spawn, or a process that it is forking, or one that
	// was killed: until the kernel is done with it, it holds the lock and is seen nowhere.
	holderGrace = 5 * time.Second
)

// The reasons to start a child, as OnStart is told.
const (
	StartedFirst   = "first"   // it is the directory's first since New or Stop
	StartedAgain   = "again"   // the one before was stopped in good order
	StartedFailure = "failure" // the one before failed
)

// Config configures a Supervisor. Command and WorkDir must be set.
type Config struct {
	// Command begins a child's command line: {"/usr/local/bin/sq"} or
	// {"/path/sqgate", "legacy-sq"}. `host PORT --key K --data-dir DIR` follows.
	Command []string
	// PortLow and PortHigh bound the children's ports; both are included.
	PortLow, PortHigh int
	// IdleTimeout stops a child this long after its last lease has ended; 0 = never.
	IdleTimeout time.Duration
	// MaxChildren limits the children alive at once; 0 = no limit. When it is
	// reached, the least recently used child without a lease is stopped.
	MaxChildren int
	// LogDir gets one rotated file per data directory; "" = Stderr gets all.
	LogDir string
	// Stderr gets the children's output line by line; nil = standard error. A
	// child waits as long as a Write does.
	Stderr io.Writer
	// Output logs the children's output instead of Stderr, with the data directory of
	// each line; nil = the lines go to Stderr as they are.
	Output *slog.Logger
	// WorkDir is the working directory of all children. It is made with mode
	// 0700, and in it the folder .sq that SQ needs.
	WorkDir string
	// Unconfined lets children do what this user can. It is for a Command that
	// needs more than its own file, the system's libraries and the data directory.
	Unconfined bool
	// Links says which phexts that are symbolic links a confined child may use;
	// nil = none.
	Links fsutil.Links
	// StopTimeout is the time from TERM to KILL.
	StopTimeout time.Duration
	// StartTimeout is the longest time from the spawn until a child is ready.
	StartTimeout time.Duration
	// WriteLimit is how long a stop waits for a write to end until Close gives
	// up with ErrStillWriting. A write is never cut short.
	WriteLimit time.Duration
	Logger     *slog.Logger
	// OnStart, if set, is called for each spawned process with one of the
	// Started reasons. It must not call the Supervisor.
	OnStart func(dir, reason string)

	// CheckDir, if set, says whether a child may be started on a directory. at is a path of
	// it: dir itself, before it is made if need be, or the directory that was opened there.
	CheckDir func(dir, at string) error

	// For tests.
	now           func() time.Time // clock of backoff and status
	announceGrace time.Duration
	holderGrace   time.Duration
}

// withDefaults sets what has a default and checks the rest.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.PortLow, DefaultPortLow)
	setDefault(&c.PortHigh, DefaultPortHigh)
	setDefault(&c.StopTimeout, DefaultStopTimeout)
	setDefault(&c.StartTimeout, DefaultStartTimeout)
	setDefault(&c.WriteLimit, DefaultWriteLimit)
	setDefault(&c.Logger, slog.Default())
	setDefault(&c.announceGrace, announceGrace)
	setDefault(&c.holderGrace, holderGrace)
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, c.check()
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

// resolve makes the paths absolute, because children run in WorkDir.
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
