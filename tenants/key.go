package tenants

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/rewrite"
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

// NewPathKey makes a key for use in URLs. It has 22 characters, so that
// https://sq.mirrorborn.us/k/<key>/api/v2 fits into the 64 that Phext Notepad
// accepts.
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

// Fingerprint identifies a key in logs without revealing it: the first eight
// hexadecimal digits of its SHA-256.
func Fingerprint(key string) string {
	return digestOf(key).fingerprint()
}

// Bounds on the length of keys, in bytes.
const (
	minKeyLen     = 8
	maxKeyLen     = 4096
	minPathKeyLen = 22
	maxPathKeyLen = 128
)

func checkKey(key string) *ValueError {
	switch {
	case len(key) < minKeyLen || len(key) > maxKeyLen:
		return wrongLength(len(key), minKeyLen, maxKeyLen)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return &ValueError{"has a character that a key must not have", "use visible ASCII without ':' and spaces"}
	}
	return nil
}

func checkPathKey(key string) *ValueError {
	switch {
	case len(key) < minPathKeyLen || len(key) > maxPathKeyLen:
		return wrongLength(len(key), minPathKeyLen, maxPathKeyLen)
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

// reserved words are not ids, because they appear in the same place in paths.
var reserved = append(rewrite.PathWords(), "admin", "metrics")

// maxIDLen bounds the length of an id, in bytes.
const maxIDLen = 63

// ValidID returns a *ValueError if id cannot be a tenant's id.
func ValidID(id string) error {
	if wrong := checkID(id); wrong != nil {
		return wrong
	}
	return nil
}

func checkID(id string) *ValueError {
	switch {
	case id == "" || len(id) > maxIDLen:
		return wrongLength(len(id), 1, maxIDLen)
	case strings.ContainsFunc(id, notInID):
		return &ValueError{quoteShort(id) + "has a character that an id must not have", "use lower-case letters, digits and '-'"}
	case id[0] == '-' || id[len(id)-1] == '-':
		return &ValueError{"begins or ends with '-'", "use it inside only"}
	case slices.Contains(reserved, id):
		return &ValueError{quoteShort(id) + "is a word that paths of the API use", "choose another one"}
	case strings.Contains(id, keyPrefix):
		// Key and id were probably swapped, and the id appears in every log.
		return &ValueError{"holds \"pmb-v1-\", as keys do", "a key belongs in \"api_key\"; choose a name"}
	}
	return nil
}

// quoteShort repeats a wrong id, so that it can be found, but only if it is too
// short to be a key.
func quoteShort(id string) string {
	if len(id) >= minKeyLen {
		return ""
	}
	return fmt.Sprintf("is %q, which ", id)
}

func notInID(r rune) bool { return r != '-' && (!isAlphanumeric(r) || r >= 'A' && r <= 'Z') }
