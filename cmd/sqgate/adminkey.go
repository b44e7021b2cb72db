package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"mirrorborn.us/sqgate/tenants"
)

// adminKeyFile is the name of the file with the generated management key in
// the state directory, and of the credential that systemd may hand over.
const adminKeyFile = "admin-key"

// shortestAdminKey is in characters.
const shortestAdminKey = 16

// givenAdminKey is the management key that the operator gave: by flag, by file,
// by environment or as a systemd credential, in this order; "" if by none.
func (o *options) givenAdminKey() (string, error) {
	if o.adminKey != "" && o.adminKeyFile != "" {
		return "", usageError{errors.New("--admin-key and --admin-key-file are both given: keep one")}
	}
	if o.adminKey != "" {
		return goodAdminKey(o.adminKey, "--admin-key")
	}
	if o.adminKeyFile != "" {
		return readAdminKey(o.adminKeyFile)
	}
	if key := os.Getenv("SQ_ADMIN_KEY"); key != "" {
		return goodAdminKey(key, "SQ_ADMIN_KEY")
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
	return goodAdminKey(strings.TrimSpace(string(text)), path)
}

// goodAdminKey refuses what no header could carry; the error never repeats the key.
func goodAdminKey(key, from string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(key) < shortestAdminKey || strings.ContainsFunc(key, odd) {
		return "", usageError{fmt.Errorf("the management key from %s has %d characters: at least %d, visible ASCII without spaces, are wanted", from, len(key), shortestAdminKey)}
	}
	return key, nil
}

// managementKey is the key to serve with. With none given, one is generated at
// the first start and kept; the log names the file, never the key.
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
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("keeping the management key: %w", err)
	}
	_, err = f.WriteString(key + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("keeping the management key: %w", err)
	}
	log.Info("a management key was made", "file", path)
	return key, nil
}
