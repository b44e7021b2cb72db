package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// builtin is the value of --sq that selects the stand-in.
const builtin = "builtin"

// sqCommand finds the program that --sq names, and returns the beginning of the
// command line that starts a child.
func sqCommand(sq string) ([]string, error) {
	if sq == builtin {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding sqgate's own program file: %w", err)
		}
		return []string{self, standIn}, nil
	}
	path, err := exec.LookPath(sq)
	if err != nil {
		return nil, usageError{fmt.Errorf("--sq: no SQ program at %q (%w): %s", sq, errors.Unwrap(err), getSQ)}
	}
	return absolute(path)
}

// absolute makes the program's path absolute, because children run in another
// working directory.
func absolute(path string) ([]string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("--sq: %w", err)
	}
	return []string{abs}, nil
}

// getSQ is the end of each error about a missing SQ.
const getSQ = "`cargo install sq --root /usr/local` installs SQ, --sq names another place, and --sq builtin is a stand-in for trying things out"

// isVersion matches what SQ prints, such as 0.6.0.
var isVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)+[-+.0-9A-Za-z]*$`)

// versionTimeout is the longest wait for `sq version`.
const versionTimeout = 10 * time.Second

// sqVersion runs `sq version`. It does so in dir, since SQ creates a .sq folder in
// whatever directory it is started in.
func sqVersion(command []string, dir string) (string, error) {
	return sqVersionAs(command, dir, servingUser{uid: os.Geteuid()})
}

// sqVersionAs is sqVersion for a program that another user is to run.
func sqVersionAs(command []string, dir string, who servingUser) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], "version")...)
	cmd.Dir = dir
	who.runs(cmd)
	out, err := cmd.Output()
	version := strings.TrimSpace(string(out))
	switch {
	case err != nil:
		return "", usageError{fmt.Errorf("--sq: %s is no SQ, or a broken one: `%[1]s version` fails (%w): %s", command[0], err, getSQ)}
	case !isVersion.MatchString(version):
		return "", usageError{fmt.Errorf("--sq: %s is no SQ: `%[1]s version` prints %.40q and no version: %s", command[0], version, getSQ)}
	}
	return version, nil
}
