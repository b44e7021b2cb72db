package tenants

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// defaultMaxPhexts is the most phexts of a tenant whose entry does not say.
const defaultMaxPhexts = 10000

// megabyte is the unit of quota_mb, in bytes.
const megabyte = 1 << 20

// builder makes a snapshot and gathers what is wrong.
type builder struct {
	snapshot *Snapshot
	places   []int // where in the file each of the snapshot's tenants stands
	wrong    []error
	keys     map[digest]keyUse
	index    int // of the tenant that is being read; 0 for the file itself
	id       string
}

// begin makes the tenants of a file's entries.
func (b *builder) begin(list []json.RawMessage, reload bool) {
	n := len(list)
	b.keys = make(map[digest]keyUse, n)
	b.snapshot = &Snapshot{
		all: make([]*Tenant, 0, n), byID: make(map[string]*Tenant, n), byKey: make(map[digest]*Tenant, n),
		byPath: map[digest]*Tenant{}, reloadOnChange: reload,
	}
	for i, raw := range list {
		b.index, b.id = i+1, ""
		b.read(raw)
	}
}

// read takes one entry apart. One whose form is wrong is not looked at any
// further: what else could be said of it might not be so.
func (b *builder) read(raw json.RawMessage) {
	list, isObject := fieldsOf(raw)
	if !isObject {
		b.refuse("tenants", "has something here that is not a tenant", `write {"id", "api_key", "data_dir"}`)
		return
	}
	var e entry
	b.id = soundID(list)
	if b.decode(list, e.slots()) {
		b.add(e)
	}
}

func (b *builder) refuse(field, problem, fix string) {
	b.wrong = append(b.wrong, &FieldError{Tenant: b.id, Index: b.index, Field: field, Problem: problem, Fix: fix})
}

func (b *builder) refuseValue(field string, e *ValueError) { b.refuse(field, e.Problem, e.Fix) }

func (b *builder) add(e entry) {
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
	b.snapshot.all, b.places = append(b.snapshot.all, t), append(b.places, b.index)
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (b *builder) setID(t *Tenant, e entry) {
	if e.ID == nil {
		b.refuse("id", "is missing", "give the tenant a name")
		return
	}
	if wrong := idProblem(*e.ID); wrong != nil {
		b.refuseValue("id", wrong)
		return
	}
	t.ID = *e.ID
	if _, taken := b.snapshot.byID[t.ID]; taken {
		b.refuse("id", "is taken by another tenant", "give each its own")
		return
	}
	b.snapshot.byID[t.ID] = t
}

func (b *builder) number(field string, n *int64, otherwise, most int64) int64 {
	v := value(n, otherwise)
	if v < 0 || v > most {
		b.refuse(field, "is out of range", fmt.Sprintf("write a whole number from 0 to %d", most))
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
		b.refuse(field, "is not a time", "use the form 2026-01-31T12:00:00Z")
	}
	return at.UTC()
}

// dataDir is the cleaned path, or "" if it was refused.
func (b *builder) dataDir(e entry) string {
	dir := value(e.DataDir, "")
	switch {
	case dir == "":
		b.refuse("data_dir", "is missing", "name the directory of the tenant's files")
	case strings.ContainsFunc(dir, unfitForPath):
		b.refuse("data_dir", "holds a character that is not text", "use a path without control characters")
	case !filepath.IsAbs(dir):
		b.refuse("data_dir", "is a relative path", "write the whole path, beginning with /")
	case filepath.Clean(dir) == "/":
		b.refuse("data_dir", "is the root directory", "name a directory below /")
	default:
		return filepath.Clean(dir)
	}
	return ""
}

// unfitForPath tells control characters, and what JSON puts in the place of
// half a character.
func unfitForPath(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }

// keyUse is where a key stands.
type keyUse struct {
	who, field string
}

func (b *builder) setKeys(t *Tenant, e entry) {
	switch {
	case e.APIKey != nil && e.APIKeySHA256 != nil:
		b.refuse("api_key", `and "api_key_sha256" are both there`, "keep one")
	case e.APIKey != nil:
		t.key = b.plainKey("api_key", *e.APIKey, keyProblem)
		b.claim("api_key", t.key, b.snapshot.byKey, t)
	case e.APIKeySHA256 != nil:
		t.key = b.hashedKey("api_key_sha256", *e.APIKeySHA256)
		b.claim("api_key_sha256", t.key, b.snapshot.byKey, t)
	default:
		b.refuse("api_key", "is missing", `give the tenant a key, or its SHA-256 as "api_key_sha256"`)
	}
	b.setPrevious(t, e)
	if e.PathKey != nil {
		t.path = b.plainKey("path_key", *e.PathKey, pathKeyProblem)
		b.claim("path_key", t.path, b.snapshot.byPath, t)
	}
}

func (b *builder) setPrevious(t *Tenant, e entry) {
	switch {
	case e.PreviousKeySHA256 == nil && e.PreviousKeyExpires == nil:
		return
	case e.PreviousKeySHA256 == nil:
		b.refuse("previous_key_expires", `stands there without "previous_key_sha256"`, "give both or neither")
		return
	case e.PreviousKeyExpires == nil:
		b.refuse("previous_key_sha256", `stands there without "previous_key_expires"`, "give both or neither")
		return
	}
	t.previous = b.hashedKey("previous_key_sha256", *e.PreviousKeySHA256)
	t.previousExpires = b.moment("previous_key_expires", e.PreviousKeyExpires)
	b.claim("previous_key_sha256", t.previous, b.snapshot.byKey, t)
}

func (b *builder) plainKey(field, key string, problem func(string) *ValueError) digest {
	if wrong := problem(key); wrong != nil {
		b.refuseValue(field, wrong)
		return digest{}
	}
	return digestOf(key)
}

func (b *builder) hashedKey(field, text string) digest {
	var d digest
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != len(d) {
		b.refuse(field, "is not a SHA-256", "write 64 hexadecimal digits")
		return d
	}
	return digest(sum)
}

// claim takes a key for t. All keys are in one name space: a key that meant
// two tenants, in whatever place, would be nobody's.
func (b *builder) claim(field string, d digest, index map[digest]*Tenant, t *Tenant) {
	if d.isZero() {
		return
	}
	if use, taken := b.keys[d]; taken {
		b.refuse(field, "is the same key as "+use.field+" of "+use.who, "make every key different")
		return
	}
	b.keys[d] = keyUse{who(t.ID, b.index), field}
	index[d] = t
}

// checkDirectories refuses one directory for two tenants, unless both share
// it. One inside another's is fine: a tenant's files are the flat files in its
// own directory. Symbolic links count as what they lead to.
func (b *builder) checkDirectories() {
	first := make(map[string]int, len(b.snapshot.all))
	for i, t := range b.snapshot.all {
		if t.DataDir == "" {
			continue // refused already
		}
		dir := fsutil.Resolve(t.DataDir)
		other, taken := first[dir]
		if !taken {
			first[dir] = i
			continue
		}
		o := b.snapshot.all[other]
		if t.SharedDataDir && o.SharedDataDir {
			continue
		}
		b.id, b.index = t.ID, b.places[i]
		b.refuse("data_dir", "is the directory of "+who(o.ID, b.places[other])+" too",
			`give each its own, or set "shared_data_dir" on both`)
	}
}
