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

func (o *options) givenAdminKey() (key, from string, err error) {
	return operatorKey{"management key", "--admin-key", o.adminKey, o.adminKeyFile, "SQ_ADMIN_KEY", adminKeyFile}.given()
}

// givenMetricsKey goes without a credential that is no key: that is no reason to serve
// nobody.
func (o *options) givenMetricsKey(log *slog.Logger) (string, error) {
	key, _, err := operatorKey{"metrics key", "--metrics-key", o.metricsKey, o.metricsKeyFile, "", "metrics-key"}.given()
	if bad := (*credentialError)(nil); errors.As(err, &bad) {
		log.Error("there is no metrics key until the credential is mended and sqgate restarted", "error", err)
		return "", nil
	}
	return key, err
}

// given is the key that the operator gave, or "", and where it is from. It looks, in
// this order, at the flag, the file, the environment and the systemd credential.
func (k operatorKey) given() (key, from string, err error) {
	if k.value != "" && k.file != "" {
		return "", "", usageError{fmt.Errorf("%s and %s-file are both given: keep one", k.flag, k.flag)}
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
		key, from, err := k.read(filepath.Join(dir, k.credential))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", usageError{&credentialError{err, k.credential}}
		}
		return key, from, nil
	}
	return "", "", nil
}

// credentialError is about a key in a directory that systemd makes, from a file that the
// operator knows.
type credentialError struct {
	error
	name string
}

func (e *credentialError) Error() string {
	return fmt.Sprintf("%v: the unit has it from %s, so write a key there, such as `openssl rand -hex 32` prints, or remove that file", e.error, credentialFile(e.name))
}

func (e *credentialError) Unwrap() error { return e.error }

// credentialFile is where the unit has a credential from.
func credentialFile(name string) string { return "/etc/credstore/sqgate." + name }

func (k operatorKey) read(path string) (key, from string, err error) {
	text, err := readSmall(pipePatience, path)
	if err != nil {
		return "", "", usageError{fmt.Errorf("the %s: %w", k.what, err)}
	}
	return k.check(strings.TrimSpace(string(text)), path)
}

// check returns key, or an error if it is too short or no header could carry it.
// The error does not contain the key.
func (k operatorKey) check(key, from string) (string, string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if key == "" {
		return "", "", usageError{fmt.Errorf("the %s from %s is empty", k.what, from)}
	}
	if len(key) < minAdminKey || strings.ContainsFunc(key, odd) {
		return "", "", usageError{fmt.Errorf("the %s from %s has %d characters: at least %d, visible ASCII without spaces, are wanted", k.what, from, len(key), minAdminKey)}
	}
	return key, from, nil
}

func readAdminKey(path string) (key, from string, err error) {
	return operatorKey{what: "management key"}.read(path)
}

// clientKey is the management key for a command, and where it is from: the one that was
// given, that of the unit, or else the one that serve generated on this host.
func clientKey(o *options, unitKey string) (key, from string, err error) {
	key, from, err = o.givenAdminKey()
	if key != "" || err != nil {
		return key, from, err
	}
	paths := []string{filepath.Join(o.stateDir, adminKeyFile)}
	if o.stateDir == defaultOptions().stateDir {
		paths = append([]string{unitKey}, paths...)
	}
	for _, path := range paths {
		if key, from, err = readAdminKey(path); err == nil {
			return key, from, nil
		}
	}
	return "", "", usageError{fmt.Errorf("no management key: give --admin-key, --admin-key-file or SQ_ADMIN_KEY, or run this as root (%w)", err)}
}

// managementKey is the key to serve with. If none is given, it generates one at the
// first start and keeps it in a file. The log names the file, never the key.
func (o *options) managementKey(log *slog.Logger) (string, error) {
	key, _, err := o.givenAdminKey()
	if key != "" || err != nil {
		return key, err
	}
	path := filepath.Join(o.stateDir, adminKeyFile)
	key, _, err = readAdminKey(path)
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
