package tenants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// field is one field of a JSON object, as it stands there.
type field struct {
	name  string
	value json.RawMessage
}

// fieldsOf takes a sound JSON value apart, in its order and with what stands
// there twice: encoding/json would let the last one win, and not say so. It
// reports false for anything but an object.
func fieldsOf(sound json.RawMessage) (list []field, isObject bool) {
	d := json.NewDecoder(bytes.NewReader(sound))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		f := field{name: fmt.Sprint(name)}
		if err := d.Decode(&f.value); err != nil {
			return nil, false
		}
		list = append(list, f)
	}
	return list, true
}

// slots is where each field of an entry goes.
func (e *entry) slots() map[string]any {
	return map[string]any{
		"id": &e.ID, "api_key": &e.APIKey, "api_key_sha256": &e.APIKeySHA256,
		"previous_key_sha256": &e.PreviousKeySHA256, "previous_key_expires": &e.PreviousKeyExpires,
		"path_key": &e.PathKey, "data_dir": &e.DataDir, "quota_mb": &e.QuotaMB, "enabled": &e.Enabled,
		"admin_email": &e.AdminEmail, "created_at": &e.CreatedAt,
		"requests_per_minute": &e.RequestsPerMinute, "calls_per_day": &e.CallsPerDay, "max_phexts": &e.MaxPhexts,
		"allow_delimiters": &e.AllowDelimiters, "shared_data_dir": &e.SharedDataDir,
	}
}

// decode puts each field into its slot, and reports whether nothing was wrong.
func (b *builder) decode(list []field, slots map[string]any) bool {
	before, seen := len(b.wrong), make(map[string]bool, len(list))
	for _, f := range list {
		slot, known := slots[f.name]
		switch {
		case !known:
			b.refuse(fitName(f), "is unknown", "remove it, or correct its spelling (capitals count)")
		case seen[f.name]:
			b.refuse(f.name, "stands there twice", "keep one")
		case string(f.value) == "null" || json.Unmarshal(f.value, slot) != nil:
			b.refuse(f.name, "has a value of the wrong kind", "write "+wanted(slot))
		}
		seen[f.name] = true
	}
	return len(b.wrong) == before
}

// fitName is the name of an unknown field, or nothing if it might be a key:
// other formats have keys as names.
func fitName(f field) string {
	odd := strings.ContainsFunc(f.name, func(r rune) bool { return r != '_' && (!isAlphanumeric(r) || r <= '9') })
	if _, isObject := fieldsOf(f.value); odd || isObject || len(f.name) > 32 {
		return ""
	}
	return f.name
}

func wanted(slot any) string {
	switch slot.(type) {
	case **string:
		return `a text in quotes, "..."`
	case **int64:
		return "a whole number, without quotes, point or exponent"
	case **bool:
		return "true or false, without quotes"
	}
	return "a list, [...]"
}

// soundID is the id among an entry's fields if it is fit to name the tenant
// with, so that whatever else is wrong there can be said of somebody.
func soundID(list []field) string {
	for _, f := range list {
		var id string
		if f.name == "id" && json.Unmarshal(f.value, &id) == nil && ValidID(id) == nil {
			return id
		}
	}
	return ""
}
