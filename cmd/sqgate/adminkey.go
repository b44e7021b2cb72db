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

// minAdminKey is the length of the shortest key of an operator, in characters.
const minAdminKey = 16

// operatorKey is where a key of the operator's can come from. One of the first two
// is a flag's value.
type operatorKey struct {
	what, flag  string
	value, file string
	variable    string // of the environment, beside the one of the flag; "" = none
	credential  string // name of systemd's credential
}

func (o *options) givenAdminKey() (string, error) {
	return operatorKey{"management key", "--admin-key", o.adminKey, o.adminKeyFile, "SQ_ADMIN_KEY", adminKeyFile}.given()
}

func (o *options) givenMetricsKey() (string, error) {
	return operatorKey{"metrics key", "--metrics-key", o.metricsKey, o.metricsKeyFile, "", "metrics-key"}.given()
}

// given is the key that the operator gave, or "". It looks, in this order, at the
// flag, the file, the environment and the systemd credential.
func (k operatorKey) given() (string, error) {
	if k.value != "" && k.file != "" {
		return "", usageError{fmt.Errorf("%s and %s-file are both given: keep one", k.flag, k.flag)}
	}
	if k.value != "" {
		return k.check(k.value, k.flag)
	}
	if k.file != "" {
		return k.read(k.file)
	}
	if key := os.Getenv(k.variable); key != "" {
		return k.check(key, k.variable)
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		key, err := k.read(filepath.Join(dir, k.credential))
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
	}
	return "", nil
}

func (k operatorKey) read(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usageError{fmt.Errorf("the %s: %w", k.what, err)}
	}
	return k.check(strings.TrimSpace(string(text)), path)
}

// check returns key, or an error if it is too short or no header could carry it.
// The error does not contain the key.
func (k operatorKey) check(key, from string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(key) < minAdminKey || strings.ContainsFunc(key, odd) {
		return "", usageError{fmt.Errorf("the %s from %s has %d characters: at least %d, visible ASCII without spaces, are wanted", k.what, from, len(key), minAdminKey)}
	}
	return key, nil
}

func readAdminKey(path string) (string, error) {
	return operatorKey{what: "management key"}.read(path)
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
