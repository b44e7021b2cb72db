package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		return nil, usageError{fmt.Errorf("--sq: no SQ program at %q (%w): install SQ, name its path, or use --sq builtin for the stand-in", sq, errors.Unwrap(err))}
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

// versionTimeout is the longest wait for `sq version`.
const versionTimeout = 10 * time.Second

// sqVersion runs `sq version`. It does so in dir, since SQ creates a .sq folder in
// whatever directory it is started in.
func sqVersion(command []string, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], "version")...)
	cmd.Dir = dir
	out, err := cmd.Output()
	version := strings.TrimSpace(string(out))
	if err != nil || version == "" || strings.ContainsAny(version, " \n") {
		return "", usageError{fmt.Errorf("--sq: %s does not answer `version` as SQ does (%v, %q): name an SQ program", command[0], err, version)}
	}
	return version, nil
}
