package tenants

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// keyPrefix marks a key as one of this service.
const keyPrefix = "pmb-v1-"

// NewKey makes a key from 128 bits of the system's secure random source.
func NewKey() (string, error) {
	b, err := randomBytes()
	if err != nil {
		return "", err
	}
	return keyPrefix + hex.EncodeToString(b), nil
}

// NewPathKey makes a key for use in URLs: 22 characters, so that
// https://sq.mirrorborn.us/k/<key>/api/v2 fits the 64 characters that Phext
// Notepad has room for.
func NewPathKey() (string, error) {
	b, err := randomBytes()
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func randomBytes() ([]byte, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return b, nil
}

// Fingerprint tells keys apart in logs without giving them away: the first
// eight hexadecimal digits of the SHA-256.
func Fingerprint(key string) string {
	d := digestOf(key)
	return hex.EncodeToString(d[:4])
}

// Lengths of keys in characters.
const (
	shortestKey     = 8
	longestKey      = 256
	shortestPathKey = 22
	longestPathKey  = 128
)

// keyProblem says what is wrong with a key, never repeating it.
func keyProblem(key string) string {
	switch {
	case len(key) < shortestKey || len(key) > longestKey:
		return fmt.Sprintf("is %d characters long, and %d to %d are wanted", len(key), shortestKey, longestKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return "has a character that a key must not have: visible ASCII without ':' and spaces is wanted"
	}
	return ""
}

func pathKeyProblem(key string) string {
	switch {
	case len(key) < shortestPathKey || len(key) > longestPathKey:
		return fmt.Sprintf("is %d characters long, and %d to %d are wanted", len(key), shortestPathKey, longestPathKey)
	case strings.ContainsFunc(key, func(r rune) bool { return !isAlphanumeric(r) && r != '-' && r != '_' }):
		return "has a character that does not belong in a URL: letters, digits, '-' and '_' are wanted"
	}
	return ""
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// reserved are the words that stand in paths where an id may stand too.
var reserved = []string{
	"api", "k", "health", "admin", "metrics", "select", "insert", "update", "delete", "toc", "get", "delta",
	"checksum", "status", "load", "json-export", "where", "version",
}

const longestID = 63

// ValidID refuses what cannot be a tenant's id; the error says what can.
func ValidID(id string) error {
	switch {
	case id == "" || len(id) > longestID:
		return fmt.Errorf("is %d characters long: 1 to %d are wanted", len(id), longestID)
	case strings.ContainsFunc(id, func(r rune) bool { return r != '-' && !(isAlphanumeric(r) && (r < 'A' || r > 'Z')) }):
		return fmt.Errorf("is %q: lower-case letters, digits and '-' are wanted", id)
	case id[0] == '-' || id[len(id)-1] == '-':
		return fmt.Errorf("is %q: '-' may stand inside, not at the ends", id)
	case slices.Contains(reserved, id):
		return fmt.Errorf("is %q, a word that paths of the API use: choose another one", id)
	}
	return nil
}
