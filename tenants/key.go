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
	return digestOf(key).fingerprint()
}

// Lengths of keys in characters.
const (
	shortestKey     = 8
	longestKey      = 256
	shortestPathKey = 22
	longestPathKey  = 128
)

// keyProblem says what is wrong with a key; nil if nothing is.
func keyProblem(key string) *ValueError {
	switch {
	case len(key) < shortestKey || len(key) > longestKey:
		return wrongLength(len(key), shortestKey, longestKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return &ValueError{"has a character that a key must not have", "use visible ASCII without ':' and spaces"}
	}
	return nil
}

func pathKeyProblem(key string) *ValueError {
	switch {
	case len(key) < shortestPathKey || len(key) > longestPathKey:
		return wrongLength(len(key), shortestPathKey, longestPathKey)
	case strings.ContainsFunc(key, func(r rune) bool { return !isAlphanumeric(r) && r != '-' && r != '_' }):
		return &ValueError{"has a character that does not belong in a URL", "use letters, digits, '-' and '_'"}
	}
	return nil
}

func wrongLength(n, least, most int) *ValueError {
	return &ValueError{fmt.Sprintf("is %d bytes long", n), fmt.Sprintf("use %d to %d characters", least, most)}
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

// ValidID refuses what cannot be a tenant's id, with a *ValueError that says
// what can.
func ValidID(id string) error {
	if wrong := idProblem(id); wrong != nil {
		return wrong
	}
	return nil
}

func idProblem(id string) *ValueError {
	switch {
	case id == "" || len(id) > longestID:
		return wrongLength(len(id), 1, longestID)
	case strings.ContainsFunc(id, unfitForID):
		return &ValueError{quoteShort(id) + "has a character that an id must not have", "use lower-case letters, digits and '-'"}
	case id[0] == '-' || id[len(id)-1] == '-':
		return &ValueError{"begins or ends with '-'", "use it inside only"}
	case slices.Contains(reserved, id):
		return &ValueError{"is a word that paths of the API use", "choose another one"}
	case strings.HasPrefix(id, keyPrefix):
		// It would stand in every log: most likely key and id were swapped.
		return &ValueError{"begins as keys do", "a key belongs in \"api_key\"; choose a name"}
	}
	return nil
}

// quoteShort repeats a wrong id, so that it is found, if it is too short to
// hold a key; another one is found by its place in the file.
func quoteShort(id string) string {
	if len(id) >= shortestKey {
		return ""
	}
	return fmt.Sprintf("is %q, which ", id)
}

func unfitForID(r rune) bool { return r != '-' && (!isAlphanumeric(r) || r >= 'A' && r <= 'Z') }
