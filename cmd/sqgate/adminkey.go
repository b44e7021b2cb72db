package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// adminKeyFile is the name of the file in the state directory that holds a
// generated management key. A systemd credential for the key has the same name.
const adminKeyFile = "admin-key"

// minAdminKey is the length of the shortest management key, in characters.
const minAdminKey = 16

// givenAdminKey is the management key that the operator gave, or "". It looks, in
// this order, at the flag, the file, the environment and the systemd credential.
func (o *options) givenAdminKey() (string, error) {
	if o.adminKey != "" && o.adminKeyFile != "" {
		return "", usageError{errors.New("--admin-key and --admin-key-file are both given: keep one")}
	}
	if o.adminKey != "" {
		return checkAdminKey(o.adminKey, "--admin-key")
	}
	if o.adminKeyFile != "" {
		return readAdminKey(o.adminKeyFile)
	}
	if key := os.Getenv("SQ_ADMIN_KEY"); key != "" {
		return checkAdminKey(key, "SQ_ADMIN_KEY")
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		key, err := readAdminKey(filepath.Join(dir, adminKeyFile))
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
	}
	return "", nil
}

func readAdminKey(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usageError{fmt.Errorf("the management key: %w", err)}
	}
	return checkAdminKey(strings.TrimSpace(string(text)), path)
}

// checkAdminKey returns key, or an error if it is too short or no header could
// carry it. The error does not contain the key.
func checkAdminKey(key, from string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(key) < minAdminKey || strings.ContainsFunc(key, odd) {
		return "", usageError{fmt.Errorf("the management key from %s has %d characters: at least %d, visible ASCII without spaces, are wanted", from, len(key), minAdminKey)}
	}
	return key, nil
}

// managementKey is the key to serve with. If none is given, it generates one at the
// first start and keeps it in a file. The log names the file, never the key.
func (o *options) managementKey(log *slog.Logger) (string, error) {
	key, err := o.givenAdminKey()
	if key != "" || err != nil {
		return key, err
	}
	path := filepath.Join(o.stateDir, adminKeyFile)
	key, err = readAdminKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = tenants.NewKey(); err != nil {
		return "", err
	}
	if err := fsutil.CreatePrivate(path, key+"\n"); err != nil {
		return "", fmt.Errorf("keeping the management key: %w", err)
	}
	log.Info("a management key was made", "file", path)
	return key, nil
}
