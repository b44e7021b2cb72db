package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/squnit"
)

// unitName is the name of sqgate's own unit, and of the unit that most hosts
// run single-tenant SQ with. The latter is renamed to legacyName.
const (
	unitName   = "sq.service"
	legacyName = "sq-legacy.service"
)

// What the units of sqgate's package are set to.
const (
	defaultPort    = "1337"
	defaultUser    = "sq"
	defaultDataDir = "/var/lib/sq"
)

// fromUnit is the value of --adopt when it is given without a directory.
const fromUnit = "true"

// adoptDirFlag is a string whose help shows no value for the flag alone, as that of a
// switch does.
type adoptDirFlag struct{ dir *string }

func (f adoptDirFlag) Set(text string) error { *f.dir = text; return nil }
func (f adoptDirFlag) Type() string          { return "bool" }
func (f adoptDirFlag) String() string        { return "" }

// host is the directories in which a host keeps its units, and the way to
// control its systemd.
type host struct {
	etc       string   // the operator's units, which hide those of packages
	packaged  []string // units of packages
	booted    string   // a path that exists only where systemd runs
	serves    string   // the tenants file of sqgate's unit
	made      []string // directories that the package has made for its user's data
	path      []string // in which systemd looks for programs
	systemctl func(args ...string) error
	chown     func(owner, path string) error // if it is defaultUser's, and not what is in it; owner is as in chown(1)
	lookPath  func(program string) (string, error)
	version   func(program, user string) string
	enters    func(user, dir string) bool
}

func thisHost(out io.Writer) *host {
	return &host{
		etc:       "/etc/systemd/system",
		packaged:  []string{"/usr/local/lib/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"},
		booted:    "/run/systemd/system",
		serves:    defaultOptions().config,
		made:      []string{defaultDataDir, filepath.Join(defaultDataDir, "tenants"), filepath.Join(defaultDataDir, "archive")},
		path:      []string{"/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"},
		lookPath:  exec.LookPath,
		version:   versionAs,
		enters:    entersAs,
		systemctl: func(args ...string) error { return runProgram(out, "systemctl", args...) },
		chown:     func(owner, path string) error { return runProgram(out, "chown", "--from="+defaultUser, owner, path) },
	}
}

func runProgram(out io.Writer, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// adoption is the flags of init that turn the data of a single-tenant SQ into a
// tenant's.
type adoption struct{ dir, unit string }

func (a *adoption) register(f *pflag.FlagSet) {
	f.Var(adoptDirFlag{&a.dir}, "adopt", "data `DIR` of a single-tenant SQ; without DIR, its unit says where they are")
	f.Lookup("adopt").NoOptDefVal = fromUnit
	f.StringVar(&a.unit, "unit", "", "with --adopt: unit `FILE` of the single-tenant SQ (default: sq.service, where systemd finds it)")
}

// parseArgs accepts the directory of `--adopt DIR`. Since --adopt also works
// without a directory, the flag parser leaves DIR as an argument.
func (a *adoption) parseArgs(_ *cobra.Command, args []string) error {
	if len(args) == 1 && a.dir == fromUnit && a.unit == "" {
		a.dir = args[0]
		return nil
	}
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q is not understood here: init takes flags, and a directory only after --adopt", args[0])}
	}
	return nil
}

func (a *adoption) requested() bool { return a.dir != "" || a.unit != "" }

func (a *adoption) run(out io.Writer, config, key string) error {
	if a.dir != "" && a.dir != fromUnit {
		if a.unit != "" {
			return usageError{errors.New("--adopt DIR and --unit say the same thing twice: keep one")}
		}
		return thisHost(out).adoptDirectory(out, config, a.dir, key)
	}
	return thisHost(out).adopt(out, config, a.unit, key)
}

// adopt reads the old unit, writes the tenants file and moves the old unit out
// of the way of sqgate's.
func (h *host) adopt(out io.Writer, config, file, key string) error {
	old, err := h.find(file)
	if err != nil {
		return usageError{err}
	}
	what := ""
	if file != "" {
		what = " --unit " + shellQuote(file)
	}
	again := h.initAgain(config, key, what)
	if key == "" {
		key = old.Key
	}
	fmt.Fprintf(out, "%s runs SQ on port %s, with its data in %s, as user %s\n", old.File, old.Port, old.DataDir, userOf(old))
	if old.Key == "" {
		fmt.Fprintln(out, "It asks for no key; sqgate always does: give your clients the one below.")
	}
	if user := userOf(old); !h.isMoved(old) || user == "root" { // otherwise, sqgate runs as that user
		unit := filepath.Base(old.File)
		if err := h.checkOwnDir(old.DataDir, user, "systemctl stop "+unit, []string{
			fmt.Sprintf("systemctl edit --full %s     # WorkingDirectory=, and --data-dir if ExecStart= has it", unit), "systemctl start " + unit, again}); err != nil {
			return err
		}
	}
	_, err = os.Stat(config)
	returns := err == nil
	if err := adoptDir(out, config, old.DataDir, key); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(h.etc, "timers.target.wants", "sqgate-backup.timer")); returns && err != nil {
		fmt.Fprintln(out, "The nightly backups are off: systemctl enable --now sqgate-backup.timer")
	}
	h.sayVersions(out, old)
	if h.isMoved(old) {
		err = h.moveLegacyUnit(out, config, old)
	} else {
		err = h.leaveLegacyUnit(out, config, old, again)
	}
	if err != nil {
		return fmt.Errorf("the tenants file is written, but the units are not in order: %w", err)
	}
	return nil
}

// leaveLegacyUnit prints how sqgate takes over from an old unit that does not hide its
// own. sqgate goes on with the port, and as its own user.
func (h *host) leaveLegacyUnit(out io.Writer, config string, old *squnit.Unit, again string) error {
	fmt.Fprintln(out, "Units are left as they are")
	start, giveUp := h.start(config), ""
	switch {
	case old.Port == defaultPort:
	case h.servedByUnit(config):
		dropIns, err := h.writeDropIns(out, portDropIns(old))
		if err != nil {
			return err
		}
		if err := h.daemonReload(); err != nil {
			return err
		}
		// A socket that is open already, on the port of before, would stay there.
		start = append([]string{"systemctl stop sq.socket sq.service"}, start...)
		giveUp = " && " + removeStep(dropIns) + " && systemctl daemon-reload"
	default:
		start[0] += " --listen 127.0.0.1:" + old.Port
	}
	sayPort(out, old)
	steps := append(h.provideSQ(config, old.Program), "systemctl disable --now "+filepath.Base(old.File))
	if h.hasPackagedUnit() && userOf(old) != defaultUser {
		steps = append(steps, chownStep(old.DataDir, userOf(old)))
	}
	steps = append(steps, append(h.letEnter(defaultUser, old.DataDir), h.letWrite(old.DataDir)...)...)
	if err := printSteps(out, append(steps, start...)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "To go back: systemctl disable --now %s%s%s && systemctl enable --now %s\nTo return to sqgate: %s\n",
		ownUnits, giveUp, h.giveBack(old.DataDir, userOf(old)), filepath.Base(old.File), again)
	return err
}

// initAgain is the command that adopts once more, with the settings of this time.
func (h *host) initAgain(config, key, what string) string {
	command := "sqgate init --adopt" + what
	if config != h.serves {
		command += " --config " + shellQuote(config)
	}
	if key != "" {
		command += " --key K"
	}
	return command
}

// adoptDirectory adopts a directory without looking for a unit.
func (h *host) adoptDirectory(out io.Writer, config, dir, key string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	user := defaultUser
	if info, err := os.Stat(dir); err == nil && h.hasPackagedUnit() {
		user = userName(ownerOf(dir, info))
	}
	stop := "stop the SQ that serves " + dir
	if err := h.checkOwnDir(dir, user, stop, []string{"start SQ on that directory", h.initAgain(config, key, " "+ownPlace)}); err != nil {
		return err
	}
	if err := adoptDir(out, config, dir, key); err != nil {
		return err
	}
	steps, back := append(h.provideSQ(config, ""), stop), ""
	if user != defaultUser {
		steps, back = append(steps, chownStep(dir, user)), h.giveBack(dir, user)
	}
	steps = append(steps, append(h.letEnter(defaultUser, dir), h.letWrite(dir)...)...)
	if err := printSteps(out, append(steps, h.start(config)...)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "To go back: stop sqgate%s, delete %s, and start SQ on %s again\n", strings.Replace(back, " && ", ", ", 1), config, dir)
	return err
}

// chownStep gives the files of an SQ that ran as another user to that of sqgate's unit.
func chownStep(dir, user string) string {
	return fmt.Sprintf("chown -R %s:%[1]s %s     # the files are %s's, and sqgate runs as %[1]s", defaultUser, shellQuote(dir), user)
}

// start are the steps that start sqgate. The unit serves no other tenants file than its
// own.
func (h *host) start(config string) []string {
	if h.servedByUnit(config) {
		return []string{"systemctl enable --now sq"}
	}
	return []string{"sqgate serve --config " + config}
}

// find reads the given unit file or, if none is given, the first unit of the
// host that runs single-tenant SQ under one of its usual names.
func (h *host) find(file string) (*squnit.Unit, error) {
	if file != "" {
		return squnit.Read(file)
	}
	var tried []error
	dirs := append([]string{h.etc}, h.packaged...)
	for _, dir := range dirs {
		for _, name := range []string{unitName, legacyName} {
			path := filepath.Join(dir, name)
			text, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(text), "sqgate") {
				continue // it is not the one that is meant
			}
			u, err := squnit.Read(path)
			if err == nil {
				return u, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				tried = append(tried, err)
			}
		}
	}
	if others := unitsOfSQ(dirs); len(others) > 0 {
		return nil, fmt.Errorf("no %s runs a single-tenant SQ, but another unit does: sqgate init --adopt --unit %s", unitName, strings.Join(others, ", or --unit "))
	}
	return nil, errors.Join(append([]error{errors.New("no unit of a single-tenant SQ was found: name it with --unit FILE, or its directory with --adopt DIR --key K")}, tried...)...)
}

// unitsOfSQ are the units in some directories that run single-tenant SQ, whatever their
// names.
func unitsOfSQ(dirs []string) (found []string) {
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.service")) // the pattern is well-formed
		for _, file := range files {
			if _, err := squnit.Read(file); err != nil {
				continue // it is of something else
			}
			if file = fsutil.Resolve(file); !slices.Contains(found, file) {
				found = append(found, file)
			}
		}
	}
	return found
}

// userOf is the user that a unit runs SQ as.
func userOf(u *squnit.Unit) string {
	if u.User == "" {
		return "root"
	}
	return u.User
}

// chownLikeDir gives a file that root has created to the owner of its directory.
// The service does not run as root and must be able to read and replace it.
func chownLikeDir(path string) error {
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
