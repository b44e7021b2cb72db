package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/squnit"
)

// sayPort tells where sqgate is to be found if it is not at its own port.
func sayPort(out io.Writer, old *squnit.Unit) {
	if old.Port != defaultPort {
		fmt.Fprintf(out, "sqgate listens on port %s. For `sqgate tenant` and the like: export SQGATE_URL=%s\n", old.Port, urlOf(old))
	}
}

// ownUnits are what is started of sqgate. A timer that is left would fail each night.
const ownUnits = "sq.socket sq.service sqgate-backup.timer"

// moveLegacyUnit renames the old unit, which would hide sqgate's unit of the same
// name, and carries over the settings in which the two differ.
func (h *host) moveLegacyUnit(out io.Writer, config string, old *squnit.Unit) error {
	aside := filepath.Join(h.etc, legacyName)
	if err := h.renameUnit(out, old.File, aside); err != nil {
		return err
	}
	texts := portDropIns(old)
	texts[unitName] = serviceDropIn(old)
	dropIns, err := h.writeDropIns(out, texts)
	if err != nil {
		return err
	}
	if keepsUser(old) {
		if err := h.giveTo(old, config); err != nil {
			return err
		}
	}
	if err := h.reloadSystemd(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is %s now; it and sqgate's unit stop each other\n", old.File, aside)
	sayPort(out, old)
	steps, back := append(h.provideSQ(config, old.Program), h.letEnter(unitsUser(old), old.DataDir)...), "systemctl start sq"
	if userOf(old) == "root" {
		// Not before the stop: what the old SQ makes after it would be root's again.
		chown := chownStep(old.DataDir, "root")
		steps = append(steps, "systemctl stop sq", chown, "systemctl start sq")
		back = fmt.Sprintf("systemctl stop sq-legacy && chown -R %s:%[1]s %s && systemctl start sq", defaultUser, shellQuote(old.DataDir))
	} else {
		steps = append(steps, "systemctl restart sq")
	}
	if err := printSteps(out, steps); err != nil {
		return err
	}
	fmt.Fprintf(out, "To try the old SQ again: systemctl start sq-legacy\nTo return to sqgate: %s\nTo go back for good:\n", back)
	return printNumbered(out, slices.Concat(
		[]string{fmt.Sprintf("systemctl disable %s && systemctl stop %[1]s sq-legacy", ownUnits)},
		h.undoMove(old.File, aside, dropIns),
		[]string{"systemctl daemon-reload && systemctl enable --now sq"}))
}

// isMoved tells whether adopting a unit moves it out of the way of sqgate's.
func (h *host) isMoved(old *squnit.Unit) bool {
	return old.File == filepath.Join(h.etc, unitName) && h.hasPackagedUnit()
}

// undoMove are the commands that put the old unit back with its drop-ins, and those of
// sqgate's unit out of the way, which has the same name.
func (h *host) undoMove(unit, aside string, dropIns []string) []string {
	var steps []string
	if len(dropIns) > 0 {
		steps = append(steps, removeStep(dropIns))
	}
	steps = append(steps, fmt.Sprintf("test ! -d %s.d || mv %[1]s.d %s     # your own drop-ins for sqgate; `sqgate init --adopt` brings them back", unit, h.keptDropIns()))
	move := fmt.Sprintf("mv %s %s", aside, unit)
	if _, err := os.Stat(aside + ".d"); err == nil {
		move += fmt.Sprintf(" && mv %s.d %s.d", aside, unit)
	}
	return append(steps, move)
}

// removeStep removes drop-ins, and their directories if nothing else is in them.
func removeStep(dropIns []string) string {
	var dirs []string
	for _, path := range dropIns {
		dirs = append(dirs, filepath.Dir(path))
	}
	return fmt.Sprintf("rm %s && rmdir --ignore-fail-on-non-empty %s", strings.Join(dropIns, " "), strings.Join(dirs, " "))
}

// keptDropIns is where the drop-ins of sqgate's unit wait while an old SQ has its name.
func (h *host) keptDropIns() string { return filepath.Join(h.etc, "sqgate.service.d") }

// giveBack is a command behind another, which undoes chownStep for an old SQ that needs
// it: root can read all files.
func (h *host) giveBack(dir, user string) string {
	if !h.hasPackagedUnit() || user == "root" || user == defaultUser {
		return ""
	}
	return fmt.Sprintf(" && chown -R %s: %s", user, shellQuote(dir))
}

// hasPackagedUnit tells whether sqgate's own unit is installed.
func (h *host) hasPackagedUnit() bool {
	for _, dir := range h.packaged {
		text, err := os.ReadFile(filepath.Join(dir, unitName))
		if err == nil && strings.Contains(string(text), "sqgate") {
			return true
		}
	}
	return false
}

// renameUnit renames a unit and its drop-ins. It never replaces a file. Drop-ins that
// are sqgate's stay, or come back.
func (h *host) renameUnit(out io.Writer, from, to string) error {
	for _, suffix := range []string{"", ".d"} {
		if _, err := os.Lstat(to + suffix); err == nil {
			return fmt.Errorf("%s exists already: move it away first", to+suffix)
		}
	}
	for _, move := range []struct {
		from, to string
		moves    func(text string) bool
	}{
		{from + ".d", to + ".d", func(text string) bool { return !isOwnDropIn(text) }},
		{h.keptDropIns(), from + ".d", func(string) bool { return true }},
	} {
		if err := moveDropIns(move.from, move.to, move.moves); err != nil {
			return err
		}
	}
	if stayed, _ := filepath.Glob(from + ".d/*.conf"); len(stayed) > 0 { // the pattern is well-formed
		fmt.Fprintf(out, "%s: for sqgate, as before\n", strings.Join(stayed, " "))
	}
	return os.Rename(from, to)
}

// isOwnDropIn tells whether a drop-in is for sqgate's unit, and not for the old SQ's of
// the same name.
func isOwnDropIn(text string) bool {
	return !strings.Contains(text, "ExecStart=") && (strings.Contains(text, settingPrefix) || strings.Contains(text, "ReadWritePaths="))
}

// moveDropIns moves some drop-ins to another directory, and removes the first one if
// nothing is left in it.
func moveDropIns(from, to string, moves func(text string) bool) error {
	files, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !moves(string(text)) {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := fsutil.RenameNoReplace(file, filepath.Join(to, filepath.Base(file))); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := os.Remove(from); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// reloadSystemd has systemd read its units again. If the old unit was enabled, it
// enables sqgate's.
func (h *host) reloadSystemd() error {
	if err := h.daemonReload(); err != nil || !h.hasBooted() {
		return err
	}
	if _, err := os.Lstat(filepath.Join(h.etc, "multi-user.target.wants", unitName)); err != nil {
		return nil
	}
	return h.systemctl("--quiet", "reenable", "sq.service", "sq.socket")
}

// daemonReload has systemd read its units again, if it runs here.
func (h *host) daemonReload() error {
	if !h.hasBooted() {
		return nil
	}
	return h.systemctl("daemon-reload")
}

func (h *host) hasBooted() bool {
	_, err := os.Stat(h.booted)
	return err == nil
}

// portDropIns are the drop-ins of sqgate's units for the port of an old unit, by unit:
// sqgate listens on it, and the nightly backup finds sqgate there.
func portDropIns(old *squnit.Unit) map[string]string {
	if old.Port == defaultPort {
		return map[string]string{}
	}
	return map[string]string{
		"sq.socket":             fmt.Sprintf("[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\n", old.Port),
		"sqgate-backup.service": "[Service]\nEnvironment=SQGATE_URL=" + urlOf(old) + "\n",
	}
}

// writeDropIns writes drop-ins of sqgate's units for the settings in which the
// old unit differs from them. It returns their paths.
func (h *host) writeDropIns(out io.Writer, texts map[string]string) ([]string, error) {
	var made []string
	for _, unit := range []string{unitName, "sq.socket", "sqgate-backup.service"} {
		if texts[unit] == "" {
			continue
		}
		path := filepath.Join(h.etc, unit+".d", "adopted.conf")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte("# Made by `sqgate init --adopt` from the unit that was there before.\n"+texts[unit]), 0o644); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "%s carries over what was set there\n", path)
		made = append(made, path)
	}
	return made, nil
}

// urlOf is where sqgate answers after the change-over.
func urlOf(old *squnit.Unit) string { return "http://127.0.0.1:" + old.Port }

// keepsUser tells whether sqgate goes on as the user of the old SQ, who is neither root
// nor the one of sqgate's unit.
func keepsUser(old *squnit.Unit) bool {
	return old.User != "" && old.User != "root" && old.User != defaultUser
}

// unitsUser is the user that sqgate runs as when the old unit is moved.
func unitsUser(old *squnit.Unit) string {
	if keepsUser(old) {
		return old.User
	}
	return defaultUser
}

// giveTo gives the user of the old SQ what the package has made for its own: the
// directory of the tenants file, and those for tenants that are added. Data that are
// there already are left as they are. The state directory is systemd's to give.
func (h *host) giveTo(old *squnit.Unit, config string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner := old.User + ":" + old.Group // without a group, that of the user
	paths := append([]string{filepath.Dir(config), config}, h.made...)
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := h.chown(owner, path); err != nil {
			return err
		}
	}
	return nil
}

func serviceDropIn(old *squnit.Unit) string {
	var lines []string
	if keepsUser(old) {
		lines = append(lines, "User="+old.User)
		if old.Group != "" {
			lines = append(lines, "Group="+old.Group)
		} else {
			lines = append(lines, "Group=") // empty means the user's own
		}
	}
	lines = append(lines, writeSettings(old.DataDir)...)
	if len(lines) == 0 {
		return ""
	}
	return "[Service]\n" + strings.Join(lines, "\n") + "\n"
}

// writeSettings are the settings of a unit that let sqgate's write in dir, if it does
// not do so anyway.
func writeSettings(dir string) []string {
	resolved := fsutil.Resolve(dir)
	home := underHome(resolved)
	if !home && (dir == defaultDataDir || strings.HasPrefix(dir, defaultDataDir+"/")) {
		return nil
	}
	// With "-", the other tenants are served even if it is missing.
	quoted := "-" + strings.ReplaceAll(resolved, "%", "%%")
	if strings.ContainsFunc(quoted, unicode.IsSpace) || strings.ContainsAny(quoted, `"'\`) {
		quoted = fmt.Sprintf("%q", quoted)
	}
	if !home {
		return []string{"ReadWritePaths=" + quoted}
	}
	return []string{"ProtectHome=no", showOnly, "BindPaths=" + quoted, "ReadWritePaths=" + quoted}
}

// showOnly hides the homes from a unit, but for what BindPaths= names. That the unit sees
// even if its user may not enter the home. ProtectHome=tmpfs would do the same with file
// systems that can be written: a missing data directory would be made there, in memory.
const showOnly = "TemporaryFileSystem=/home:ro /root:ro /run/user:ro"

// letWrite are the steps by which sqgate's unit can write in directories that are
// elsewhere. They have to be there when the unit starts.
func (h *host) letWrite(dirs ...string) []string {
	if !h.hasPackagedUnit() {
		return nil
	}
	var steps, settings []string
	unit := h.packagedUnit()
	for _, dir := range dirs {
		lines := writeSettings(dir)
		if letsWrite(unit, fsutil.Resolve(dir)) {
			lines = nil
		}
		if _, err := os.Stat(dir); len(lines) > 0 && errors.Is(err, fs.ErrNotExist) {
			steps = append(steps, fmt.Sprintf("install -d -o %s -g %[1]s -m 700 %s", defaultUser, shellQuote(dir)))
		}
		settings = append(settings, lines...)
	}
	if len(settings) == 0 {
		return nil
	}
	quoted := []string{"'[Service]'"}
	for i, line := range settings {
		if !slices.Contains(settings[:i], line) {
			quoted = append(quoted, shellQuote(line))
		}
	}
	return append(steps, fmt.Sprintf("printf '%%s\\n' %s | install -D -m 644 /dev/stdin %s && systemctl daemon-reload",
		strings.Join(quoted, " "), h.newDropIn("data", "init")))
}

// letsWrite tells whether a unit lets sqgate write in a directory already, as it does when
// somebody went back to the old SQ and returns.
func letsWrite(unit squnit.Service, dir string) bool {
	who := servingUser{hidden: unit.Hidden, bound: unit.Bound}
	return slices.ContainsFunc(unit.Writable, func(place string) bool { return inside(dir, place) }) &&
		(who.boundAbove(dir) != "" || !underHome(dir))
}

// newDropIn is the path of a drop-in of sqgate's unit, with the first of two names that no
// file of the operator has.
func (h *host) newDropIn(name, otherwise string) string {
	dir := filepath.Join(h.etc, unitName+".d")
	if _, err := os.Lstat(filepath.Join(dir, name+".conf")); err == nil {
		name = otherwise
	}
	return filepath.Join(dir, name+".conf")
}

// shellQuote is text as one word for a shell.
func shellQuote(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("/._-+,:=@%", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// underHome tells whether ProtectHome=yes, which sqgate's unit sets, would hide dir.
func underHome(dir string) bool {
	for _, home := range []string{"/home/", "/root/", "/run/user/"} {
		if strings.HasPrefix(dir+"/", home) {
			return true
		}
	}
	return false
}
