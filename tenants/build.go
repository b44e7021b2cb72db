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
	"mirrorborn.us/sqgate/internal/strictjson"
)

// defaultMaxPhexts is the max_phexts of an entry without one.
const defaultMaxPhexts = 10000

// megabyte is the unit of quota_mb, in bytes.
const megabyte = 1 << 20

// builder makes a snapshot and collects the mistakes in the file.
type builder struct {
	snapshot  *Snapshot
	positions []int // in the file, of each of the snapshot's tenants
	mistakes  []error
	writers   map[*Tenant]*[]*string // the fields as they stand in the file
	keys      map[digest]keyUse
	index     int    // position of the current tenant, from 1; 0 for the file itself
	id        string // of the current tenant; "" if it has no valid one
}

// keyUse says which tenant has a key, and in which field.
type keyUse struct {
	id, tenant, field string // tenant is the description
}

// build makes the tenants of a file's entries.
func (b *builder) build(list []json.RawMessage, reload bool) {
	n := len(list)
	b.keys, b.writers = make(map[digest]keyUse, n), map[*Tenant]*[]*string{}
	b.snapshot = &Snapshot{
		all: make([]*Tenant, 0, n), byID: make(map[string]*Tenant, n), byKey: make(map[digest]*Tenant, n),
		byPathKey: map[digest]*Tenant{}, byScopedKey: map[digest]keyOf{}, byDir: make(map[string][]*Tenant, n), reloadOnChange: reload,
	}
	for i, raw := range list {
		b.index, b.id = i+1, ""
		b.readEntry(raw)
	}
	b.checkDirectories()
	b.checkWriters()
}

// readEntry adds a tenant. It does not check the values of an entry whose form
// is wrong: what it would say might not be true.
func (b *builder) readEntry(raw json.RawMessage) {
	list, isObject := strictjson.Fields(raw)
	if !isObject {
		b.refuse("tenants", "has something here that is not a tenant", `write {"id", "api_key", "data_dir"}`)
		return
	}
	var e Entry
	b.id = findID(list)
	if b.decode(list, e.targets()) {
		b.add(e)
	}
}

// findID returns the id among an entry's fields, or "" if it is not valid.
// Whatever else is wrong with the entry, the error can then name the tenant.
func findID(list []strictjson.Field) string {
	for _, f := range list {
		var id string
		if f.Name == "id" && json.Unmarshal(f.Value, &id) == nil && ValidID(id) == nil {
			return id
		}
	}
	return ""
}

func (b *builder) refuse(field, problem, fix string) {
	b.mistakes = append(b.mistakes, &FieldError{Tenant: b.id, Index: b.index, Field: field, Problem: problem, Fix: fix})
}

// refuseBeside refuses what cannot be together with another tenant.
func (b *builder) refuseBeside(other, field, problem, fix string) {
	b.mistakes = append(b.mistakes, &FieldError{Tenant: b.id, Index: b.index, Field: field, Problem: problem, Fix: fix, other: other})
}

func (b *builder) refuseValue(field string, e *ValueError) { b.refuse(field, e.Problem, e.Fix) }

func (b *builder) add(e Entry) {
	archived := valueOr(e.Archived, false)
	t := &Tenant{Enabled: valueOr(e.Enabled, true) && !archived, Archived: archived, SharedDataDir: valueOr(e.SharedDataDir, false),
		FollowLinks: valueOr(e.FollowLinks, false), AllowDelimiters: valueOr(e.AllowDelimiters, false), AdminEmail: valueOr(e.AdminEmail, "")}
	b.setID(t, e)
	t.Configured = b.dataDir(e)
	if t.Configured != "" {
		t.DataDir = fsutil.Resolve(t.Configured)
	}
	t.QuotaBytes = b.number("quota_mb", e.QuotaMB, 0, math.MaxInt64/megabyte) * megabyte
	t.MaxPhexts = int(b.number("max_phexts", e.MaxPhexts, defaultMaxPhexts, math.MaxInt32))
	t.RequestsPerMinute = int(b.number("requests_per_minute", e.RequestsPerMinute, 0, math.MaxInt32))
	t.ReadsPerMinute = int(b.number("reads_per_minute", e.ReadsPerMinute, 0, math.MaxInt32))
	t.WritesPerMinute = int(b.number("writes_per_minute", e.WritesPerMinute, 0, math.MaxInt32))
	t.ListsPerMinute = int(b.number("lists_per_minute", e.ListsPerMinute, 0, math.MaxInt32))
	t.CallsPerDay = int(b.number("calls_per_day", e.CallsPerDay, 0, math.MaxInt32))
	t.CreatedAt = b.time("created_at", e.CreatedAt)
	t.Incarnation = b.incarnation(e.Incarnation)
	if !t.Incarnation.IsZero() {
		t.uniqueID = uniqueID(t.ID, t.Incarnation)
	}
	b.setKeys(t, e)
	t.public = b.publicPhexts(e.Public)
	t.keys = b.scopedKeys(t, e.Keys)
	t.webhooks = b.webhookList(e.Webhooks)
	b.writers[t] = e.Writers
	b.snapshot.all, b.positions = append(b.snapshot.all, t), append(b.positions, b.index)
	if archived {
		b.snapshot.archived++
	}
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (b *builder) setID(t *Tenant, e Entry) {
	if e.ID == nil {
		b.refuse("id", "is missing", "give the tenant a name")
		return
	}
	if wrong := checkID(*e.ID); wrong != nil {
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
	v := valueOr(n, otherwise)
	if v < 0 || v > most {
		b.refuse(field, "is out of range", fmt.Sprintf("write a whole number from 0 to %d", most))
		return 0
	}
	return v
}

func (b *builder) time(field string, text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		b.refuse(field, "is not a time", "use the form 2026-01-31T12:00:00Z")
	}
	return at.UTC()
}

func (b *builder) incarnation(text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	at, err := time.Parse(incarnationLayout, *text)
	if err != nil || NewIncarnation(at) != *text {
		b.refuse("incarnation", "is not one that sqgate has written", "leave it as it was, or use the form "+incarnationLayout)
	}
	return at.UTC()
}

// dataDir is the cleaned path, or "" if it was refused.
func (b *builder) dataDir(e Entry) string {
	dir := valueOr(e.DataDir, "")
	switch {
	case dir == "":
		b.refuse("data_dir", "is missing", "name the directory of the tenant's files")
	case strings.ContainsFunc(dir, notInPath):
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

// notInPath refuses control characters and the replacement character, which
// stands for invalid UTF-16 in JSON.
func notInPath(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }

func (b *builder) setKeys(t *Tenant, e Entry) {
	switch {
	case e.APIKey != nil && e.APIKeySHA256 != nil:
		b.refuse("api_key", `and "api_key_sha256" are both there`, "keep one")
	case e.APIKey != nil:
		t.key = b.plainKey("api_key", *e.APIKey, checkKey)
		b.claimKey("api_key", t.key, b.snapshot.byKey, t)
	case e.APIKeySHA256 != nil:
		t.key = b.hashedKey("api_key_sha256", *e.APIKeySHA256)
		b.claimKey("api_key_sha256", t.key, b.snapshot.byKey, t)
	default:
		b.refuse("api_key", "is missing", `give the tenant a key, or its SHA-256 as "api_key_sha256"`)
	}
	b.setPreviousKey(t, e)
	switch {
	case e.PathKey != nil && e.PathKeySHA256 != nil:
		b.refuse("path_key", `and "path_key_sha256" are both there`, "keep one")
	case e.PathKey != nil:
		t.pathKey = b.plainKey("path_key", *e.PathKey, checkPathKey)
		b.claimKey("path_key", t.pathKey, b.snapshot.byPathKey, t)
	case e.PathKeySHA256 != nil:
		t.pathKey = b.hashedKey("path_key_sha256", *e.PathKeySHA256)
		b.claimKey("path_key_sha256", t.pathKey, b.snapshot.byPathKey, t)
	}
}

func (b *builder) setPreviousKey(t *Tenant, e Entry) {
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
	t.previousKey = b.hashedKey("previous_key_sha256", *e.PreviousKeySHA256)
	t.previousKeyExpires = b.time("previous_key_expires", e.PreviousKeyExpires)
	b.claimKey("previous_key_sha256", t.previousKey, b.snapshot.byKey, t)
}

func (b *builder) plainKey(field, key string, check func(string) *ValueError) digest {
	if wrong := check(key); wrong != nil {
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

// claimKey enters a key of t into index. It refuses a key that is already used,
// whichever field has it, because it would not tell one tenant from another.
func (b *builder) claimKey(field string, d digest, index map[digest]*Tenant, t *Tenant) {
	b.claim(field, d, t, func() { index[d] = t })
}

func (b *builder) claim(field string, d digest, t *Tenant, enter func()) {
	if d.isZero() {
		return
	}
	if use, taken := b.keys[d]; taken {
		b.refuseBeside(use.id, field, "is the same key as "+use.field+" of "+use.tenant, "make every key different")
		return
	}
	b.keys[d] = keyUse{t.ID, describeTenant(t.ID, b.index), field}
	enter()
}

// checkDirectories refuses two tenants with one directory unless both share it. A directory
// inside another tenant's is allowed, because a tenant's files lie directly in its own.
func (b *builder) checkDirectories() {
	first := make(map[string]int, len(b.snapshot.all))
	for i, t := range b.snapshot.all {
		if t.DataDir == "" {
			continue // already refused
		}
		b.snapshot.byDir[t.DataDir] = append(b.snapshot.byDir[t.DataDir], t)
		other, taken := first[t.DataDir]
		if !taken {
			first[t.DataDir] = i
			continue
		}
		o := b.snapshot.all[other]
		b.id, b.index = t.ID, b.positions[i]
		if t.SharedDataDir && o.SharedDataDir {
			if t.FollowLinks != o.FollowLinks {
				b.refuseBeside(o.ID, "follow_links", "is not the same as that of "+describeTenant(o.ID, b.positions[other])+", which has this data_dir too",
					"set it for both, or for neither")
			}
			continue
		}
		b.refuseBeside(o.ID, "data_dir", "is the directory of "+describeTenant(o.ID, b.positions[other])+" too",
			`give each its own, or set "shared_data_dir" on both`)
	}
}
