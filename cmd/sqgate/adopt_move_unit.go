package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/squnit"
)

// moveLegacyUnit renames the old unit if it would hide sqgate's unit of the same
// name, and carries over the settings in which the two differ.
func (h *host) moveLegacyUnit(out io.Writer, config string, old *squnit.Unit) error {
	if old.File != filepath.Join(h.etc, unitName) || !h.hasPackagedUnit() {
		fmt.Fprintln(out, "Units are left as they are")
		steps := []string{"systemctl disable --now " + filepath.Base(old.File)}
		if userOf(old) == "root" && h.hasPackagedUnit() {
			steps = append(steps, chownStep(old.DataDir))
		}
		if err := printSteps(out, append(steps, h.start(config)...)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "To go back: stop sqgate, and systemctl enable --now %s\n", filepath.Base(old.File))
		return err
	}
	aside := filepath.Join(h.etc, legacyName)
	if err := renameUnit(old.File, aside); err != nil {
		return err
	}
	if err := h.writeDropIns(out, old); err != nil {
		return err
	}
	if err := h.reloadSystemd(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is %s now; it and sqgate's unit stop each other\n", old.File, aside)
	steps := []string{"systemctl restart sq"}
	if userOf(old) == "root" {
		// Not before the stop: what the old SQ makes after it would be root's again.
		steps = []string{"systemctl stop sq", chownStep(old.DataDir), "systemctl start sq"}
	}
	if err := printSteps(out, steps); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, `To try the old one again: systemctl start sq-legacy, and systemctl start sq to return
To go back for good:
  1. systemctl disable sq.socket sq.service && systemctl stop sq.socket sq.service
  2. mv %s %s && systemctl daemon-reload
  3. systemctl enable --now sq
`, aside, old.File)
	return err
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

// renameUnit renames a unit and its drop-ins. It never replaces a file.
func renameUnit(from, to string) error {
	for _, suffix := range []string{"", ".d"} {
		if _, err := os.Lstat(to + suffix); err == nil {
			return fmt.Errorf("%s exists already: move it away first", to+suffix)
		}
	}
	if err := os.Rename(from+".d", to+".d"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// reloadSystemd has systemd read its units again. If the old unit was enabled, it
// enables sqgate's.
func (h *host) reloadSystemd() error {
	if _, err := os.Stat(h.booted); err != nil {
		return nil // systemd does not run here
	}
	if err := h.systemctl("daemon-reload"); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(h.etc, "multi-user.target.wants", unitName)); err != nil {
		return nil
	}
	return h.systemctl("--quiet", "reenable", "sq.service", "sq.socket")
}

// writeDropIns writes drop-ins of sqgate's units for the settings in which the
// old unit differs from them: user, data directory and port.
func (h *host) writeDropIns(out io.Writer, old *squnit.Unit) error {
	service := serviceDropIn(old)
	if err := h.dropIn(out, unitName, service); err != nil {
		return err
	}
	socket := ""
	if old.Port != defaultPort {
		socket = fmt.Sprintf("[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\n", old.Port)
	}
	return h.dropIn(out, "sq.socket", socket)
}

func serviceDropIn(old *squnit.Unit) string {
	var lines []string
	if old.User != "" && old.User != "root" && old.User != defaultUser {
		lines = append(lines, "User="+old.User)
		if old.Group != "" {
			lines = append(lines, "Group="+old.Group)
		} else {
			lines = append(lines, "Group=") // empty means the user's own
		}
	}
	if old.DataDir != defaultDataDir && !strings.HasPrefix(old.DataDir, defaultDataDir+"/") {
		lines = append(lines, fmt.Sprintf("ReadWritePaths=%q", old.DataDir))
		if underHome(old.DataDir) {
			lines = append(lines, "ProtectHome=no")
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "[Service]\n" + strings.Join(lines, "\n") + "\n"
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

// dropIn writes a drop-in of a unit, unless text is empty.
func (h *host) dropIn(out io.Writer, unit, text string) error {
	if text == "" {
		return nil
	}
	dir := filepath.Join(h.etc, unit+".d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "adopted.conf")
	if err := os.WriteFile(path, []byte("# Made by `sqgate init --adopt` from the unit that was there before.\n"+text), 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s carries over what was set there\n", path)
	return err
}
