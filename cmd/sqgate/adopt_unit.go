package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Units of hosts that ran single-tenant SQ.
const (
	unitName   = "sq.service"
	legacyName = "sq-legacy.service"
	fromUnit   = "the old unit" // what --adopt means without a directory
	usualPort  = "1337"
	usualUser  = "sq"
	usualData  = "/var/lib/sq"
)

// host is where a host keeps its units, and how systemd is spoken to.
type host struct {
	etc     string   // where an operator's units lie; they hide those of packages
	shipped []string // where units of packages lie
	booted  string   // exists where systemd runs
	control func(args ...string) error
}

func thisHost(out io.Writer) *host {
	return &host{
		etc:     "/etc/systemd/system",
		shipped: []string{"/usr/local/lib/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"},
		booted:  "/run/systemd/system",
		control: func(args ...string) error {
			cmd := exec.Command("systemctl", args...)
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
			}
			return nil
		},
	}
}

// adoption are the flags of init that make an old SQ's data a tenant's.
type adoption struct{ dir, unit string }

func (a *adoption) register(f *pflag.FlagSet) {
	f.StringVar(&a.dir, "adopt", "", "data `DIR` of a single-tenant SQ; without DIR its unit is read")
	f.Lookup("adopt").NoOptDefVal = fromUnit
	f.StringVar(&a.unit, "unit", "", "with --adopt: unit `FILE` of the single-tenant SQ (default: sq.service, where systemd finds it)")
}

// args takes the directory of `--adopt DIR`, which is a word of its own since
// --adopt has a meaning without one.
func (a *adoption) args(_ *cobra.Command, args []string) error {
	if len(args) == 1 && a.dir == fromUnit && a.unit == "" {
		a.dir = args[0]
		return nil
	}
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q is not understood here: init takes flags, and a directory only after --adopt", args[0])}
	}
	return nil
}

func (a *adoption) wanted() bool { return a.dir != "" || a.unit != "" }

func (a *adoption) run(out io.Writer, config, key string) error {
	if a.dir != "" && a.dir != fromUnit {
		if a.unit != "" {
			return usageError{errors.New("--adopt DIR and --unit say the same thing twice: keep one")}
		}
		return adoptDir(out, config, a.dir, key)
	}
	return thisHost(out).adopt(out, config, a.unit, key)
}

// adopt reads the old unit, writes the tenants file and makes room for the new unit.
func (h *host) adopt(out io.Writer, config, file, key string) error {
	old, err := h.find(file)
	if err != nil {
		return usageError{err}
	}
	if key == "" {
		key = old.key
	}
	fmt.Fprintf(out, "%s runs SQ on port %s, with its data in %s, as user %s\n", old.file, old.port, old.dataDir, old.runsAs())
	if old.key == "" {
		fmt.Fprintln(out, "It asks for no key; sqgate always does: give your clients the one below.")
	}
	if err := adoptDir(out, config, old.dataDir, key); err != nil {
		return err
	}
	if err := h.makeRoom(out, old); err != nil {
		return fmt.Errorf("the tenants file is written, but the units are not in order: %w", err)
	}
	return nil
}

// find reads the unit that file names, or else the first that runs SQ.
func (h *host) find(file string) (*legacyUnit, error) {
	if file != "" {
		return readLegacyUnit(file)
	}
	var tried []error
	for _, dir := range append([]string{h.etc}, h.shipped...) {
		for _, name := range []string{unitName, legacyName} {
			u, err := readLegacyUnit(filepath.Join(dir, name))
			if err == nil {
				return u, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				tried = append(tried, err)
			}
		}
	}
	return nil, fmt.Errorf("no unit of a single-tenant SQ was found: name it with --unit FILE, or its directory with --adopt DIR --key K\n%w", errors.Join(tried...))
}

func (u *legacyUnit) runsAs() string {
	if u.user == "" {
		return "root"
	}
	return u.user
}

// ownLikeDir gives a file that root has made to the owner of its directory:
// sqgate, which is not root, has to read and replace it.
func ownLikeDir(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(stat.Uid), int(stat.Gid))
}
