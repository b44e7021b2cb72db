package tenants

import "encoding/hex"

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
