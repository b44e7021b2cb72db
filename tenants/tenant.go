package tenants

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/phext"
)

// Tenant is one customer. It is immutable: a change in the file makes a new one.
type Tenant struct {
	ID                string
	DataDir           string // absolute and clean
	QuotaBytes        int64  // 0 = no limit
	Enabled           bool
	SharedDataDir     bool // other tenants' phexts may lie in DataDir
	AllowDelimiters   bool // scrolls may hold delimiters
	MaxPhexts         int
	RequestsPerMinute int // 0 = no limit
	CallsPerDay       int // 0 = no limit
	AdminEmail        string
	CreatedAt         time.Time // zero if the file does not say

	key             digest
	previous        digest // zero if there is none
	previousExpires time.Time
	path            digest // zero if there is none
}

// OwnFile says whether a file directly in the tenant's directory is one of its
// phexts. In a shared directory the tenant's id stands in front.
func (t *Tenant) OwnFile(name string) bool {
	return strings.HasSuffix(name, phext.Extension) && (!t.SharedDataDir || strings.HasPrefix(name, t.ID+"."))
}

// OwnFiles are the tenant's phexts and what SQ's json-export left beside them,
// by base name.
func (t *Tenant) OwnFiles() ([]string, error) {
	entries, err := os.ReadDir(t.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && t.OwnFile(strings.TrimSuffix(e.Name(), ".json")) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// digest is the SHA-256 of a key.
type digest [sha256.Size]byte

func digestOf(key string) digest {
	var b [longestKey]byte // on the stack: each request has a key
	return sha256.Sum256(append(b[:0], key...))
}

// fingerprint is short enough that nobody can check guesses of a key by it.
func (d digest) fingerprint() string { return hex.EncodeToString(d[:4]) }

func (d digest) isZero() bool { return d == digest{} }

// Snapshot is the content of one tenants file, immutable.
type Snapshot struct {
	all            []*Tenant
	byID           map[string]*Tenant
	byKey          map[digest]*Tenant // current and previous keys
	byPath         map[digest]*Tenant
	reloadOnChange bool
}

// ByKey finds the tenant whose key, or whose previous key at a time before it
// expires, this is.
//
// The look-up is by SHA-256: how long it takes says something about the hash
// of what was sent, which helps nobody to find a key; the match itself is
// compared in constant time.
func (s *Snapshot) ByKey(key string, now time.Time) (*Tenant, bool) {
	sent := digestOf(key)
	t, ok := s.byKey[sent]
	if !ok {
		return nil, false
	}
	current := subtle.ConstantTimeCompare(sent[:], t.key[:]) == 1
	previous := subtle.ConstantTimeCompare(sent[:], t.previous[:]) == 1
	if current || previous && now.Before(t.previousExpires) {
		return t, true
	}
	return nil, false
}

// ByPathKey finds the tenant that has this key for use in URLs.
func (s *Snapshot) ByPathKey(key string) (*Tenant, bool) {
	sent := digestOf(key)
	t, ok := s.byPath[sent]
	if !ok || subtle.ConstantTimeCompare(sent[:], t.path[:]) != 1 {
		return nil, false
	}
	return t, true
}

// PathKeyFingerprint tells the tenant's path key apart from others without
// giving it away, as Fingerprint does; "" if there is none.
func (t *Tenant) PathKeyFingerprint() string {
	if t.path.isZero() {
		return ""
	}
	return t.path.fingerprint()
}

// ByID finds a tenant by its id.
func (s *Snapshot) ByID(id string) (*Tenant, bool) {
	t, ok := s.byID[id]
	return t, ok
}

// All are the tenants in the file's order. The slice must not be changed.
func (s *Snapshot) All() []*Tenant { return s.all }

// Len is the number of tenants, disabled ones too.
func (s *Snapshot) Len() int { return len(s.all) }

// ReloadOnChange says whether the file wants to be watched.
func (s *Snapshot) ReloadOnChange() bool { return s.reloadOnChange }

// same says whether two snapshots are alike in everything, order too.
func same(a, b *Snapshot) bool {
	return a.reloadOnChange == b.reloadOnChange &&
		slices.EqualFunc(a.all, b.all, func(t, u *Tenant) bool { return *t == *u })
}

// Diff is what one file changed against another.
type Diff struct {
	Added, Removed []*Tenant
	Changed        []*Tenant // as they are now
}

// Empty says whether nothing changed.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Compare says what changed from old to now; old may be nil.
func Compare(old, now *Snapshot) Diff {
	var d Diff
	if old == nil {
		return Diff{Added: now.all}
	}
	for _, t := range now.all {
		switch was, ok := old.byID[t.ID]; {
		case !ok:
			d.Added = append(d.Added, t)
		case *was != *t:
			d.Changed = append(d.Changed, t)
		}
	}
	for _, t := range old.all {
		if _, ok := now.byID[t.ID]; !ok {
			d.Removed = append(d.Removed, t)
		}
	}
	return d
}
