package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// makeRoom moves the old unit aside where it would hide sqgate's, which has
// its name, and carries over what differs from what is usual.
func (h *host) makeRoom(out io.Writer, old *legacyUnit) error {
	if old.file != filepath.Join(h.etc, unitName) || !h.hasOurs() {
		fmt.Fprintf(out, "Units are left as they are: stop and disable %s before sqgate starts.\n", filepath.Base(old.file))
		return nil
	}
	aside := filepath.Join(h.etc, legacyName)
	if err := moveAside(old.file, aside); err != nil {
		return err
	}
	if err := h.carryOver(out, old); err != nil {
		return err
	}
	if err := h.reread(); err != nil {
		return err
	}
	fmt.Fprintf(out, `%s is %s now; it and sqgate's unit stop each other.
Next:        systemctl restart sq
To go back:  systemctl disable sq.socket sq.service && systemctl stop sq.socket sq.service
             mv %s %s && systemctl daemon-reload && systemctl enable --now sq
             (just to try: systemctl start sq-legacy, and systemctl start sq to return)
`, old.file, aside, aside, old.file)
	if old.user == "" || old.user == "root" {
		fmt.Fprintf(out, "SQ ran as root, sqgate does not: before the restart, chown -R %s:%s %s\n", usualUser, usualUser, old.dataDir)
	}
	return nil
}

func (h *host) hasOurs() bool {
	for _, dir := range h.shipped {
		text, err := os.ReadFile(filepath.Join(dir, unitName))
		if err == nil && strings.Contains(string(text), "sqgate") {
			return true
		}
	}
	return false
}

// moveAside renames a unit and its drop-ins, and replaces nothing.
func moveAside(from, to string) error {
	for _, end := range []string{"", ".d"} {
		if _, err := os.Lstat(to + end); err == nil {
			return fmt.Errorf("%s exists already: move it away first", to+end)
		}
	}
	if err := os.Rename(from+".d", to+".d"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// reread tells systemd, and has what was enabled stay enabled.
func (h *host) reread() error {
	if _, err := os.Stat(h.booted); err != nil {
		return nil // nobody to tell
	}
	if err := h.control("daemon-reload"); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(h.etc, "multi-user.target.wants", unitName)); err != nil {
		return nil
	}
	return h.control("--quiet", "reenable", "sq.service", "sq.socket")
}

// carryOver writes drop-ins for what the old unit has otherwise than sqgate's:
// user, data directory, port.
func (h *host) carryOver(out io.Writer, old *legacyUnit) error {
	service := serviceDropIn(old)
	if err := h.dropIn(out, unitName, service); err != nil {
		return err
	}
	socket := ""
	if old.port != usualPort {
		socket = fmt.Sprintf("[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\n", old.port)
	}
	return h.dropIn(out, "sq.socket", socket)
}

func serviceDropIn(old *legacyUnit) string {
	var lines []string
	if old.user != "" && old.user != "root" && old.user != usualUser {
		lines = append(lines, "User="+old.user)
		if old.group != "" {
			lines = append(lines, "Group="+old.group)
		} else {
			lines = append(lines, "Group=") // the user's own
		}
	}
	if old.dataDir != usualData && !strings.HasPrefix(old.dataDir, usualData+"/") {
		lines = append(lines, fmt.Sprintf("ReadWritePaths=%q", old.dataDir))
		if underHome(old.dataDir) {
			lines = append(lines, "ProtectHome=no")
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "[Service]\n" + strings.Join(lines, "\n") + "\n"
}

func underHome(dir string) bool {
	for _, home := range []string{"/home/", "/root/", "/run/user/"} {
		if strings.HasPrefix(dir+"/", home) {
			return true
		}
	}
	return false
}

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
