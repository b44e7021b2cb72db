package tenants

import (
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// defaultMaxPhexts is the most phexts of a tenant whose entry does not say.
const defaultMaxPhexts = 10000

// megabyte is the unit of quota_mb, in bytes.
const megabyte = 1 << 20

// builder makes a snapshot and gathers what is wrong.
type builder struct {
	snapshot *Snapshot
	wrong    []error
	keys     map[digest]keyUse
	index    int
	id       string
}

// keyUse is where a key stands.
type keyUse struct {
	tenant, field string
}

func newBuilder(n int, reload bool) *builder {
	return &builder{keys: make(map[digest]keyUse, n), snapshot: &Snapshot{
		all: make([]*Tenant, 0, n), byID: make(map[string]*Tenant, n), byKey: make(map[digest]*Tenant, n),
		byPath: map[digest]*Tenant{}, reloadOnChange: reload,
	}}
}

func (b *builder) refuse(field, format string, args ...any) {
	b.wrong = append(b.wrong, &FieldError{Tenant: b.id, Index: b.index, Field: field, Problem: fmt.Sprintf(format, args...)})
}

func (b *builder) add(index int, e entry) {
	b.index, b.id = index, ""
	t := &Tenant{Enabled: value(e.Enabled, true), SharedDataDir: value(e.SharedDataDir, false),
		AllowDelimiters: value(e.AllowDelimiters, false), AdminEmail: value(e.AdminEmail, "")}
	b.setID(t, e)
	t.DataDir = b.dataDir(e)
	t.QuotaBytes = b.number("quota_mb", e.QuotaMB, 0, math.MaxInt64/megabyte) * megabyte
	t.MaxPhexts = int(b.number("max_phexts", e.MaxPhexts, defaultMaxPhexts, math.MaxInt32))
	t.RequestsPerMinute = int(b.number("requests_per_minute", e.RequestsPerMinute, 0, math.MaxInt32))
	t.CallsPerDay = int(b.number("calls_per_day", e.CallsPerDay, 0, math.MaxInt32))
	t.CreatedAt = b.moment("created_at", e.CreatedAt)
	b.setKeys(t, e)
	b.snapshot.all = append(b.snapshot.all, t)
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (b *builder) setID(t *Tenant, e entry) {
	if e.ID == nil {
		b.refuse("id", "is missing: give the tenant a name")
		return
	}
	if err := ValidID(*e.ID); err != nil {
		b.refuse("id", "%v", err)
		return
	}
	b.id, t.ID = *e.ID, *e.ID
	if _, taken := b.snapshot.byID[t.ID]; taken {
		b.refuse("id", "is taken by another tenant: ids must differ")
		return
	}
	b.snapshot.byID[t.ID] = t
}

func (b *builder) number(field string, n *int64, otherwise, most int64) int64 {
	v := value(n, otherwise)
	if v < 0 || v > most {
		b.refuse(field, "is %d: a whole number from 0 to %d is wanted", v, most)
		return 0
	}
	return v
}

func (b *builder) moment(field string, text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		b.refuse(field, "is not a time: use the form 2026-01-31T12:00:00Z")
	}
	return at.UTC()
}

func (b *builder) dataDir(e entry) string {
	dir := value(e.DataDir, "")
	switch {
	case dir == "":
		b.refuse("data_dir", "is missing: name the directory of the tenant's files")
	case strings.ContainsRune(dir, 0):
		b.refuse("data_dir", "holds a NUL byte: remove it")
	case !filepath.IsAbs(dir):
		b.refuse("data_dir", "is %q: a path that begins with / is wanted", dir)
	case filepath.Clean(dir) == "/":
		b.refuse("data_dir", "is /: name a directory below it")
	}
	return filepath.Clean(dir)
}

func (b *builder) setKeys(t *Tenant, e entry) {
	switch {
	case e.APIKey != nil && e.APIKeySHA256 != nil:
		b.refuse("api_key", "and \"api_key_sha256\" are both there: keep one")
	case e.APIKey != nil:
		t.key = b.plainKey("api_key", *e.APIKey, keyProblem)
	case e.APIKeySHA256 != nil:
		t.key = b.hashedKey("api_key_sha256", *e.APIKeySHA256)
	default:
		b.refuse("api_key", "is missing: give the tenant a key, or its SHA-256 as \"api_key_sha256\"")
	}
	b.claim("api_key", t.key, b.snapshot.byKey, t)
	b.setPrevious(t, e)
	if e.PathKey != nil {
		t.path = b.plainKey("path_key", *e.PathKey, pathKeyProblem)
		b.claim("path_key", t.path, b.snapshot.byPath, t)
	}
}

func (b *builder) setPrevious(t *Tenant, e entry) {
	if (e.PreviousKeySHA256 == nil) != (e.PreviousKeyExpires == nil) {
		b.refuse("previous_key_sha256", "and \"previous_key_expires\" belong together: give both or neither")
		return
	}
	if e.PreviousKeySHA256 == nil {
		return
	}
	t.previous = b.hashedKey("previous_key_sha256", *e.PreviousKeySHA256)
	t.previousExpires = b.moment("previous_key_expires", e.PreviousKeyExpires)
	b.claim("previous_key_sha256", t.previous, b.snapshot.byKey, t)
}

func (b *builder) plainKey(field, key string, problem func(string) string) digest {
	if p := problem(key); p != "" {
		b.refuse(field, "%s", p)
		return digest{}
	}
	return digestOf(key)
}

func (b *builder) hashedKey(field, text string) digest {
	var d digest
	if n, err := hex.Decode(d[:], []byte(text[:min(len(text), 2*len(d))])); err != nil || n != len(d) || len(text) != 2*len(d) {
		b.refuse(field, "is not a SHA-256: 64 hexadecimal digits are wanted")
		return digest{}
	}
	return d
}

// claim takes a key for t. All keys are in one name space: a key that meant
// two tenants, in whatever place, would be nobody's.
func (b *builder) claim(field string, d digest, index map[digest]*Tenant, t *Tenant) {
	if d.isZero() {
		return
	}
	if use, taken := b.keys[d]; taken {
		b.refuse(field, "is the same key as %s of tenant %q: every key must be different", use.field, use.tenant)
		return
	}
	b.keys[d] = keyUse{b.id, field}
	index[d] = t
}
