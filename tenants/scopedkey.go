package tenants

import (
	"crypto/subtle"
	"encoding/json"
	"strings"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
)

// Key is a further key of a tenant, with rights of its own. It is immutable.
type Key struct {
	ID      string
	Scope   *rewrite.Scope
	Expires time.Time // zero = never
	Note    string

	tenant string // its UniqueID
	digest digest
}

// keyOf is a key with its tenant.
type keyOf struct {
	*Key
	tenant *Tenant
}

// Fingerprint tells one key from another and does not give it away.
func (k *Key) Fingerprint() string { return k.digest.fingerprint() }

// UniqueID is the ID, and what tells the key from an earlier one with the same ID.
func (k *Key) UniqueID() string { return k.ID + "/" + k.Fingerprint() }

// HasExpired says whether the key does not count any more.
func (k *Key) HasExpired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Keys are the further keys of a tenant, also those that have expired. The slice must
// not be changed.
func (t *Tenant) Keys() []*Key { return t.keys }

var (
	// ErrNoKey is the id of a key that the tenant does not have.
	ErrNoKey = apierror.New(apierror.NotFound, "the tenant has no key with this id")
	// ErrKeyExists is the id of one that it has.
	ErrKeyExists = apierror.New(apierror.Conflict, "the tenant has a key with this id already: revoke it first, or choose another id")
)

// ByScopedKey finds a key of Tenant.Keys, which may have expired. See ByKey for the time
// that it takes.
func (s *Snapshot) ByScopedKey(key string) (*Tenant, *Key, bool) {
	sent := digestOf(key)
	k, ok := s.byScopedKey[sent]
	if !ok || subtle.ConstantTimeCompare(sent[:], k.digest[:]) != 1 {
		return nil, nil, false
	}
	return k.tenant, k.Key, true
}

// Now is the key as this snapshot has it, with the scope that it has there. ok is false
// if it was revoked, or has expired.
func (s *Snapshot) Now(k *Key, now time.Time) (current *Key, ok bool) {
	found, ok := s.byScopedKey[k.digest]
	return found.Key, ok && found.ID == k.ID && found.Key.tenant == k.tenant && !found.HasExpired(now)
}

// KeyEntry is a key as the tenants file has it. A nil field is not in the file.
type KeyEntry struct {
	ID      *string    `json:"id,omitempty"`
	SHA256  *string    `json:"sha256,omitempty"`
	Access  *string    `json:"access,omitempty"`
	Phexts  *[]*string `json:"phexts,omitempty"` // patterns
	Prefix  *string    `json:"prefix,omitempty"`
	Expires *string    `json:"expires,omitempty"`
	Note    *string    `json:"note,omitempty"`
}

func (k KeyEntry) id() string { return valueOr(k.ID, "") }

// mostKeys is how many further keys a tenant may have.
const mostKeys = 1000

// scopedKeys reads the field keys.
func (b *builder) scopedKeys(t *Tenant, list *[]json.RawMessage) (keys []*Key) {
	b.eachListed("keys", "key", `{"id", "sha256", "access"}`, mostKeys, list, func(decode func(map[string]any) bool) (id string, ok bool) {
		var e KeyEntry
		if !decode(map[string]any{"keys.id": &e.ID, "keys.sha256": &e.SHA256, "keys.access": &e.Access,
			"keys.phexts": &e.Phexts, "keys.prefix": &e.Prefix, "keys.expires": &e.Expires, "keys.note": &e.Note}) {
			return "", false
		}
		k := b.scopedKey(t, e)
		keys = append(keys, k)
		return k.ID, true
	})
	return keys
}

func (b *builder) scopedKey(t *Tenant, e KeyEntry) *Key {
	k := &Key{ID: e.id(), Scope: &rewrite.Scope{}, Expires: b.time("keys.expires", e.Expires), tenant: t.UniqueID()}
	if wrong := checkKeyID(k.ID); wrong != nil {
		b.refuseValue("keys.id", wrong)
	}
	if e.SHA256 == nil {
		b.refuse("keys.sha256", "is missing", "give the SHA-256 of the key, as 64 hexadecimal digits")
	} else {
		k.digest = b.hashedKey("keys.sha256", *e.SHA256)
		b.claim("keys.sha256", k.digest, t, func() { b.snapshot.byScopedKey[k.digest] = keyOf{k, t} })
	}
	var known bool
	if k.Scope.Access, known = rewrite.ParseAccess(valueOr(e.Access, "")); !known {
		b.refuse("keys.access", "is not one that there is", `write "read", "append" or "read-write"`)
	}
	if e.Phexts != nil {
		k.Scope.Phexts = b.patterns("keys.phexts", e.Phexts, "leave it out for all phexts")
	}
	if e.Prefix != nil {
		prefix, err := rewrite.ParsePrefix(*e.Prefix)
		switch {
		case err != nil:
			b.refuse("keys.prefix", "is not a prefix of coordinates", `write numbers or a name, such as "2.3.5" or "docs.readme.1"`)
		case prefix.CoversAll():
			b.refuse("keys.prefix", "covers all coordinates", "leave it out, if that is what is meant")
		}
		k.Scope.Prefix = &prefix
	}
	k.Note = b.note("keys.note", e.Note)
	return k
}

// checkKeyID refuses an id that could be taken for something else where it stands: in the
// history, the tenant's own key stands as eight hexadecimal digits.
func checkKeyID(id string) *ValueError {
	switch {
	case len(id) > maxIDLen, id == "":
		return wrongLength(len(id), 1, maxIDLen)
	case strings.ContainsFunc(id, notInID), id[0] == '-', id[len(id)-1] == '-', strings.Contains(id, keyPrefix):
		return &ValueError{"is not one of a key", "use lower-case letters and digits, and '-' inside"}
	case len(id) == len(Fingerprint("")) && !strings.ContainsFunc(id, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }):
		return &ValueError{"looks like the fingerprint of a key", "choose another one"}
	}
	return nil
}

// AddKey adds a key to those of a tenant. The error is ErrKeyExists if there is one with its
// id.
func (e *Entry) AddKey(k KeyEntry) error { return addListed(&e.Keys, k, ErrKeyExists) }

// RemoveKey removes a key, and returns it. The error is ErrNoKey if there is none with
// this id.
func (e *Entry) RemoveKey(id string) (removed KeyEntry, err error) {
	return removeListed[KeyEntry](&e.Keys, id, ErrNoKey)
}
