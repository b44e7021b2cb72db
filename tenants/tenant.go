package tenants

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// Tenant is a customer. It is immutable: a change in the file makes a new one.
type Tenant struct {
	ID                string
	DataDir           string // without symbolic links, as they led when the file was read
	Configured        string // the data_dir of the file, absolute and clean, which leads to DataDir
	QuotaBytes        int64  // 0 = no limit
	Enabled           bool   // never true if Archived is
	Archived          bool   // deleted: its phexts are in an archive
	SharedDataDir     bool   // DataDir may have phexts of other tenants
	FollowLinks       bool   // files in DataDir may be symbolic links to files elsewhere
	AllowDelimiters   bool   // scrolls may contain delimiters
	MaxPhexts         int
	RequestsPerMinute int // 0 = no limit
	ReadsPerMinute    int // beside RequestsPerMinute, as the next two; 0 = no limit
	WritesPerMinute   int // 0 = no limit
	ListsPerMinute    int // 0 = no limit
	CallsPerDay       int // 0 = no limit
	AdminEmail        string
	CreatedAt         time.Time // zero if the file has no created_at
	Incarnation       time.Time // since when this tenant has had its id; zero if the file does not say

	uniqueID           string // if there is an incarnation
	key                digest
	previousKey        digest // zero if there is none
	previousKeyExpires time.Time
	pathKey            digest         // zero if there is none
	public             *rewrite.Scope // nil = nothing is
	writers            []string       // ids
	keys               []*Key
	webhooks           []*Webhook
}

// NewIncarnation is the incarnation of a tenant that is added now. It tells the
// tenant from earlier ones with the same id, so that it inherits nothing of theirs.
func NewIncarnation(now time.Time) string { return now.UTC().Format(incarnationLayout) }

const incarnationLayout = "20060102T150405.000000000Z"

// UniqueID names this tenant, and no earlier one with the same id: it is the id,
// and the incarnation behind a slash if there is one.
func (t *Tenant) UniqueID() string {
	if t.uniqueID != "" {
		return t.uniqueID
	}
	return uniqueID(t.ID, t.Incarnation)
}

// IncarnationText is the incarnation as the tenants file has it, or "".
func (t *Tenant) IncarnationText() string {
	if t.Incarnation.IsZero() {
		return ""
	}
	return NewIncarnation(t.Incarnation)
}

func uniqueID(id string, incarnation time.Time) string {
	if incarnation.IsZero() {
		return id
	}
	return id + "/" + NewIncarnation(incarnation)
}

// ArchiveID is the UniqueID in a form that can be part of a file name.
func (t *Tenant) ArchiveID() string { return strings.ReplaceAll(t.UniqueID(), "/", ".") }

// WasHere says whether something that happened to the tenant's files at a time was
// done to this tenant. by is the UniqueID of the tenant whose key did it, or "".
func (t *Tenant) WasHere(by string, at time.Time) bool {
	id, _, _ := strings.Cut(by, "/")
	return !at.Before(t.Incarnation) && (id != t.ID || by == t.UniqueID())
}

// OwnFile says whether a file name in the tenant's directory is one of its
// phexts. In a shared directory, those begin with the tenant's id and a dot.
func (t *Tenant) OwnFile(name string) bool {
	return strings.HasSuffix(name, phext.Extension) && (!t.SharedDataDir || strings.HasPrefix(name, t.ID+"."))
}

// OwnFiles returns the base names of the tenant's phexts and of the copies that
// SQ's json-export left beside them. There are none if there is no directory.
// Symbolic links are among them if the tenant has FollowLinks.
func (t *Tenant) OwnFiles() ([]string, error) { return t.OwnFilesIn(t.DataDir) }

// OwnFilesIn is OwnFiles where the path at leads to the directory.
func (t *Tenant) OwnFilesIn(at string) ([]string, error) {
	entries, err := os.ReadDir(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if (e.Type().IsRegular() || t.FollowLinks && e.Type() == fs.ModeSymlink) && t.OwnFile(strings.TrimSuffix(e.Name(), ".json")) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// usualKeyLen is enough for almost all keys, in bytes.
const usualKeyLen = 256

// digest is the SHA-256 of a key.
type digest [sha256.Size]byte

func digestOf(key string) digest {
	var b [usualKeyLen]byte // on the stack, because this runs for each request
	return sha256.Sum256(append(b[:0], key...))
}

// fingerprint is too short to check guesses of a key with.
func (d digest) fingerprint() string { return hex.EncodeToString(d[:4]) }

func (d digest) isZero() bool { return d == digest{} }

// Snapshot is the content of a tenants file. It is immutable.
type Snapshot struct {
	all            []*Tenant
	byID           map[string]*Tenant
	byKey          map[digest]*Tenant // current and previous keys
	byPathKey      map[digest]*Tenant
	archived       int // how many of them are
	byScopedKey    map[digest]keyOf
	byDir          map[string][]*Tenant // by DataDir
	reloadOnChange bool
	refusal        *apierror.Error // nil once a file is in force
}

// Refusal is what callers are told while no tenants file is in force yet, and nil
// once one is. It names no tenant and no path.
func (s *Snapshot) Refusal() *apierror.Error { return s.refusal }

// ByKey finds the tenant with this key, its own one, and not one of Tenant.Keys. A
// previous key counts until it expires.
//
// The time that the map takes depends on the SHA-256 of what was sent, which
// does not help to find a key. The digests are then compared in constant time.
func (s *Snapshot) ByKey(key string, now time.Time) (*Tenant, bool) {
	sent := digestOf(key)
	t, ok := s.byKey[sent]
	if !ok {
		return nil, false
	}
	current := subtle.ConstantTimeCompare(sent[:], t.key[:]) == 1
	previous := subtle.ConstantTimeCompare(sent[:], t.previousKey[:]) == 1
	if current || previous && now.Before(t.previousKeyExpires) {
		return t, true
	}
	return nil, false
}

// ByPathKey finds the tenant with this key for use in URLs.
func (s *Snapshot) ByPathKey(key string) (*Tenant, bool) {
	sent := digestOf(key)
	t, ok := s.byPathKey[sent]
	if !ok || subtle.ConstantTimeCompare(sent[:], t.pathKey[:]) != 1 {
		return nil, false
	}
	return t, true
}

// PathKeyFingerprint is the Fingerprint of the tenant's path key, or "" if there
// is none.
func (t *Tenant) PathKeyFingerprint() string {
	if t.pathKey.isZero() {
		return ""
	}
	return t.pathKey.fingerprint()
}

// ByID finds a tenant by its id.
func (s *Snapshot) ByID(id string) (*Tenant, bool) {
	t, ok := s.byID[id]
	return t, ok
}

// ByUniqueID finds a tenant by its UniqueID.
func (s *Snapshot) ByUniqueID(uniqueID string) (*Tenant, bool) {
	id, _, _ := strings.Cut(uniqueID, "/")
	if t, ok := s.byID[id]; ok && t.UniqueID() == uniqueID {
		return t, true
	}
	return nil, false
}

// At returns the tenants whose DataDir is this path, in the file's order. Archived ones are
// among them. The slice must not be changed.
func (s *Snapshot) At(dir string) []*Tenant { return s.byDir[dir] }

// All returns the tenants in the file's order. The slice must not be changed.
func (s *Snapshot) All() []*Tenant { return s.all }

// Len is the number of tenants that are not deleted. Disabled ones count.
func (s *Snapshot) Len() int { return len(s.all) - s.archived }

// ReloadOnChange says whether the file asks to be watched.
func (s *Snapshot) ReloadOnChange() bool { return s.reloadOnChange }

// equal compares everything, including the order.
func equal(a, b *Snapshot) bool {
	return a.reloadOnChange == b.reloadOnChange &&
		slices.EqualFunc(a.all, b.all, same)
}

func same(t, u *Tenant) bool { return reflect.DeepEqual(t, u) }

// Diff is the difference between two snapshots.
type Diff struct {
	Added, Removed []*Tenant
	Changed        []*Tenant // in the new snapshot
}

// Empty says whether no tenant changed.
func (d Diff) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// Compare returns what changed from old to now. A nil old has no tenants.
func Compare(old, now *Snapshot) Diff {
	var d Diff
	if old == nil {
		return Diff{Added: now.all}
	}
	for _, t := range now.all {
		switch was, ok := old.byID[t.ID]; {
		case !ok:
			d.Added = append(d.Added, t)
		case !same(was, t):
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
