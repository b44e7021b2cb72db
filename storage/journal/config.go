package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// Policy says when records have to be on disk.
type Policy int

// The policies. sqgate uses Batch unless it is told otherwise.
const (
	Off    Policy = iota // whenever the kernel writes them: a power cut may lose the mutations acknowledged last, but no phext
	Batch                // before Sync returns, which may wait while SQ works; callers that wait at the same time share one sync
	Always               // before Begin returns: SQ writes nothing that the journal on the disk does not know
)

var policies = [...]string{Off: "off", Batch: "batch", Always: "always"}

// ParsePolicy parses off, batch or always.
func ParsePolicy(s string) (Policy, error) {
	for p, name := range policies {
		if s == name {
			return Policy(p), nil
		}
	}
	return Batch, fmt.Errorf("%q is not one of off, batch and always", s)
}

// String returns the name that ParsePolicy reads.
func (p Policy) String() string {
	if p < 0 || int(p) >= len(policies) {
		return fmt.Sprintf("Policy(%d)", int(p))
	}
	return policies[p]
}

// Config is what New needs. Dir and Quarantine are required.
type Config struct {
	Dir        string        // has a directory for each data_dir; created on demand with mode 0700
	Quarantine string        // for copies of damaged files; created on demand with mode 0700
	Sync       Policy        // the zero Policy is Off
	History    time.Duration // how far back states can be restored; 0 = only what recovery needs
	Limit      int64         // bytes of segments and checkpoints per data_dir; 0 = no limit. The newest segment is always kept
	Logger     *slog.Logger  // nil = slog.Default
	Now        func() time.Time
	BootID     string       // of this run of the kernel; "" = ask the kernel
	BootTime   time.Time    // when this run of the kernel began; zero = ask the kernel
	Links      fsutil.Links // the symbolic links that are followed in data_dirs; nil = none
	// Turn makes the turn in which the past is looked up. nil = it does not wait for one.
	Turn func() *fairqueue.Turn

	// Write and Datasync let tests make the disk fail.
	Write    func(f *os.File, b []byte, off int64) (int, error) // nil = WriteAt
	Datasync func(f *os.File) error                             // nil = fdatasync
}

// Errors of the journal. They are wrapped, with details before them.
var (
	ErrBeyondHistory = errors.New("is further back than the journal goes")
	ErrDamaged       = errors.New("is damaged")
	ErrClosed        = errors.New("the journal is closed")
	ErrVersion       = errors.New("was written by a newer sqgate")
	ErrFormat        = errors.New("was written by an older sqgate, in a format that this one cannot read: to go without its history, stop sqgate and move the directory of the segment away")
	ErrName          = errors.New("is not the name of a phext's file")
	ErrFinished      = errors.New("the mutation is finished already")
	ErrUndecided     = errors.New("it is not known whether recovery will make the mutation")
	ErrBatch         = errors.New("these mutations cannot be one batch")
)

const (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	statFile   = "/proc/stat" // its line "btime" has the time of the boot, in seconds since 1970
)

func (c Config) complete() (Config, error) {
	if c.Dir == "" || c.Quarantine == "" {
		return c, errors.New("a journal needs a directory and a quarantine")
	}
	if c.Sync < Off || c.Sync > Always || c.History < 0 || c.Limit < 0 {
		return c, fmt.Errorf("sync %v, history %v and limit %d are not all valid", c.Sync, c.History, c.Limit)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Turn == nil {
		c.Turn = func() *fairqueue.Turn { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Write == nil {
		c.Write = func(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }
	}
	if c.Datasync == nil {
		c.Datasync = fdatasync
	}
	return c.booted()
}

// booted adds the boot id and the time of the boot. The identity of a file says
// that its content is the same only within one run of the kernel.
func (c Config) booted() (Config, error) {
	if _, err := c.bootTime(); err != nil {
		return c, err
	}
	if c.BootID != "" {
		return c, nil
	}
	id, err := os.ReadFile(bootIDFile)
	if err != nil {
		return c, fmt.Errorf("finding out whether the machine was restarted: %w", err)
	}
	c.BootID = strings.TrimSpace(string(id))
	return c, nil
}

// bootTime is BootTime. The kernel says it by the clock as it is now.
func (c *Config) bootTime() (time.Time, error) {
	if !c.BootTime.IsZero() {
		return c.BootTime, nil
	}
	stat, err := os.ReadFile(statFile)
	if err != nil {
		return time.Time{}, fmt.Errorf("finding out when the machine was started: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64)
			return time.Unix(n, 0), err
		}
	}
	return time.Time{}, fmt.Errorf("%s has no btime", statFile)
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// makeDir creates a directory that only sqgate may use.
func makeDir(dir string) error {
	if err := fsutil.MakeDir(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the journal: %w", err)
	}
	return nil
}
