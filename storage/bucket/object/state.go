package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"
)

// Hash is the SHA-256 of a phext's text. In keys and in JSON it is 64 hexadecimal
// digits.
type Hash [sha256.Size]byte

// String returns the digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("a hash %w", ErrDamaged)
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// EncodeFile returns an object of a phext's text, and its hash.
func EncodeFile(text []byte) ([]byte, Hash, error) {
	b, err := seal(kindFile, text)
	return b, sha256.Sum256(text), err
}

// DecodeFile returns the text of an object, which must have this hash.
func DecodeFile(b []byte, want Hash) ([]byte, error) {
	text, err := unseal(kindFile, b)
	if err == nil && Hash(sha256.Sum256(text)) != want {
		err = fmt.Errorf("the object %w: it has another text than its name says", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// CopyFile is DecodeFile for an object that comes piece by piece, and writes the text
// to w. Only if there is no error may any of it be believed.
func CopyFile(w io.Writer, r io.Reader, want Hash) error {
	sum := sha256.New()
	err := unsealTo(kindFile, r, io.MultiWriter(w, sum))
	if err == nil && Hash(sum.Sum(nil)) != want {
		err = fmt.Errorf("the object %w: it has another text than its name says", ErrDamaged)
	}
	return err
}

// Checkpoint is what the log of a directory says when it stands at Seq: every phext,
// and what else an owner has to know.
type Checkpoint struct {
	Seq     uint64       `json:"seq"`
	Epoch   uint64       `json:"epoch"`
	Of      string       `json:"of"`   // as in the record that opened the epoch
	Time    int64        `json:"time"` // of the log object at Seq, in nanoseconds since 1970
	Files   []File       `json:"files"`
	Answers []Answer     `json:"answers"` // of the last day, oldest first
	Calls   []CallCounts `json:"calls"`
}

// File is a phext in a checkpoint.
type File struct {
	Name string `json:"name"` // in the directory: "notes.phext"
	Hash Hash   `json:"hash"`
	Size int64  `json:"size"` // bytes
}

// Answer is the first answer to an Idempotency-Key.
type Answer struct {
	Time        int64  `json:"time"` // nanoseconds since 1970
	Tenant      string `json:"tenant"`
	Idempotency string `json:"idempotency"`
	Digest      string `json:"digest"` // of the request
	Answer      string `json:"answer"`
}

// CallCounts are a tenant's calls of a day.
type CallCounts struct {
	Tenant     string `json:"tenant"`
	Day        string `json:"day"` // as in 2026-01-31, UTC
	Calls      int64  `json:"calls"`
	LastActive int64  `json:"last_active"` // nanoseconds since 1970
}

func (c *Checkpoint) kind() kind { return kindCheckpoint }

func (c *Checkpoint) unmarshal(b []byte) error { return unmarshalJSON(b, c) }

func (c *Checkpoint) marshal() ([]byte, error) {
	if err := checkText(c.Of); err != nil {
		return nil, err
	}
	for i, f := range c.Files {
		if f.Name == "" || i > 0 && f.Name <= c.Files[i-1].Name {
			return nil, fmt.Errorf("a checkpoint whose files are not sorted by name %w", ErrInvalid)
		}
		if err := checkText(f.Name); err != nil {
			return nil, err
		}
	}
	for _, a := range c.Answers {
		if err := checkText(a.Tenant, a.Idempotency, a.Digest, a.Answer); err != nil {
			return nil, err
		}
	}
	for _, n := range c.Calls {
		if err := checkText(n.Tenant, n.Day); err != nil {
			return nil, err
		}
	}
	return marshalJSON(c)
}

// Owner says which host has a directory.
type Owner struct {
	Host        string `json:"host"` // "" = nobody: it was handed over
	Incarnation string `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	// Next is the host that is to take over what was handed over; "" = any may.
	Next string `json:"next,omitempty"`
}

func (o *Owner) kind() kind { return kindOwner }

func (o *Owner) unmarshal(b []byte) error { return unmarshalJSON(b, o) }

func (o *Owner) marshal() ([]byte, error) {
	if err := checkText(o.Host, o.Incarnation, o.Next); err != nil {
		return nil, err
	}
	return marshalJSON(o)
}

// Host is a host that lives as long as its Counter goes up.
type Host struct {
	Name        string `json:"name"`
	URL         string `json:"url"` // where other hosts reach it; "" = they do not
	Incarnation string `json:"incarnation"`
	Counter     uint64 `json:"counter"`
	Fingerprint string `json:"fingerprint"` // of its certificate
	Version     string `json:"version"`     // of its sqgate
	Draining    bool   `json:"draining"`    // it takes no directory over
	Load        int    `json:"load"`        // data directories that it has
}

func (h *Host) kind() kind { return kindHost }

func (h *Host) unmarshal(b []byte) error { return unmarshalJSON(b, h) }

func (h *Host) marshal() ([]byte, error) {
	if err := checkText(h.Name, h.URL, h.Incarnation, h.Fingerprint, h.Version); err != nil {
		return nil, err
	}
	return marshalJSON(h)
}

// TenantShards is how many objects hold the tenants.
const TenantShards = 16

// TenantShard says which of them holds a tenant. Buckets rely on it.
func TenantShard(id string) int {
	return int(sha256.Sum256([]byte(id))[0]) % TenantShards
}

// Tenants is a shard of the tenants.
type Tenants struct {
	Service  string `json:"service"`  // random: the same in all shards of a bucket, and in no other bucket
	Revision uint64 `json:"revision"` // one more in each version, so that no two are equal, and a late write finds another one
	// Writers has the revision that each writer, which has a random name, wrote last. So one
	// whose answer was lost can tell whether it wrote, although others have written since.
	Writers map[string]uint64 `json:"writers"`
	// ByID has each tenant as in the tenants file, as compact JSON, without
	// data_dir and with its keys as SHA-256. Where tenants share a directory, data_dir
	// is its last part.
	ByID map[string]json.RawMessage `json:"tenants"`
}

func (t *Tenants) kind() kind { return kindTenants }

func (t *Tenants) unmarshal(b []byte) error { return unmarshalJSON(b, t) }

func (t *Tenants) marshal() ([]byte, error) {
	if err := checkText(append(slices.Collect(maps.Keys(t.Writers)), t.Service)...); err != nil {
		return nil, err
	}
	for id := range t.ByID {
		if err := checkText(id); err != nil {
			return nil, err
		}
	}
	return marshalJSON(t)
}

// checkText refuses what JSON would silently replace.
func checkText(texts ...string) error {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q, which is not UTF-8, %w", s, ErrInvalid)
		}
	}
	return nil
}

func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("the object %w: %w", ErrInvalid, err)
	}
	return b.Bytes(), nil
}

// unmarshalJSON leaves what JSON allows beside one form to Decode, which compares: also fields
// that are not known. It makes no copy of b, as a json.Decoder does.
func unmarshalJSON(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the object %w", errors.Join(ErrDamaged, err))
	}
	return nil
}
