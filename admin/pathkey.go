package admin

import (
	"encoding/json"
	"reflect"

	"mirrorborn.us/sqgate/tenants"
)

// pathKey is what a call wants done with a tenant's path key: a new one, or
// none. "" leaves it as it is. In the audit log it is a fingerprint instead.
type pathKey string

const (
	newPathKey pathKey = "new"
	noPathKey  pathKey = "off"
)

// UnmarshalJSON takes null for noPathKey, as PATCH calls use it.
func (p *pathKey) UnmarshalJSON(text []byte) error {
	var word *string
	if err := json.Unmarshal(text, &word); err != nil {
		return &json.UnmarshalTypeError{Field: "path_key", Value: "wrong kind", Type: reflect.TypeFor[string]()}
	}
	*p = noPathKey
	if word != nil {
		*p = pathKey(*word)
	}
	return nil
}

// check refuses other words without repeating them: one may be a key. A key of
// the caller's own choice is not taken, since it would be easier to guess.
func (p pathKey) check() error {
	switch p {
	case "", newPathKey, noPathKey:
		return nil
	}
	return bad(`field "path_key" is neither "new" nor null: the key itself is made here, and shown once`)
}

// carryOut is the path key that a tenant has afterwards.
func (p pathKey) carryOut(have *string) (*string, error) {
	switch p {
	case newPathKey:
		key, err := tenants.NewPathKey()
		return &key, err
	case noPathKey:
		return nil, nil
	}
	return have, nil
}

// audited is a path key as the audit log has it.
func audited(key *string) pathKey {
	if key == nil {
		return noPathKey
	}
	return pathKey("fingerprint " + tenants.Fingerprint(*key))
}
