package tenants

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
)

// Portable has tenants by id, as every host with the same bucket can use them: each is
// an Entry as compact JSON, without data_dir, and with the SHA-256 of its keys in the
// place of the keys. Where tenants share a directory, data_dir is its last part.
type Portable map[string]json.RawMessage

// Sums has the SHA-256 of tenants of a Portable, by id, as hexadecimal digits.
type Sums map[string]string

// sharedDirs is the directory in --data-root where a new machine has the directories
// that tenants share. otherDirs, there or beside it, has those of tenants whose usual
// directory is another tenant's on this host. They are no tenant's id.
const (
	sharedDirs = "shared.d"
	otherDirs  = "other.d"
)

// SumOf returns the sum of a tenant, which is "" for none.
func SumOf(raw json.RawMessage) string {
	if raw == nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Sums returns the sums of all tenants.
func (p Portable) Sums() Sums {
	sums := make(Sums, len(p))
	for id, raw := range p {
		sums[id] = SumOf(raw)
	}
	return sums
}

// OnlyWriters is p without the writers that are not allowed. Tenants of several objects
// cannot be changed at once, so there can be a writer that is no tenant.
func (p Portable) OnlyWriters(allowed func(id string) bool) (Portable, error) {
	limited := maps.Clone(p)
	for id, raw := range p {
		if !bytes.Contains(raw, []byte(`"writers"`)) {
			continue
		}
		e, err := decodePortable(id, raw)
		if err != nil {
			return nil, err
		}
		if e.Writers == nil {
			continue
		}
		refused := func(writer *string) bool { return writer == nil || !allowed(*writer) }
		if rest := slices.DeleteFunc(slices.Clone(*e.Writers), refused); len(rest) < len(*e.Writers) {
			e.Writers = &rest
			if limited[id], err = json.Marshal(e); err != nil {
				return nil, err
			}
		}
	}
	return limited, nil
}

// KeepWriters is p with the writers that tenants have in theirs, and that p lacks because
// they are hidden here.
func (p Portable) KeepWriters(theirs Portable, hidden func(id string) bool) (Portable, error) {
	kept := maps.Clone(p)
	for id, raw := range p {
		if raw == nil || !bytes.Contains(theirs[id], []byte(`"writers"`)) {
			continue
		}
		there, err := decodePortable(id, theirs[id])
		if err != nil {
			return nil, err
		}
		var add []*string
		for _, writer := range valueOr(there.Writers, nil) {
			if writer != nil && hidden(*writer) {
				add = append(add, writer)
			}
		}
		if len(add) == 0 {
			continue
		}
		e, err := decodePortable(id, raw)
		if err != nil {
			return nil, err
		}
		all := append(slices.Clone(valueOr(e.Writers, nil)), add...)
		e.Writers = &all
		if kept[id], err = json.Marshal(e); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// portableError is a tenant of a bucket that this sqgate cannot keep.
type portableError struct {
	id  string
	err error
}

func (e *portableError) Error() string { return fmt.Sprintf("tenant %q in the bucket %v", e.id, e.err) }
func (e *portableError) Unwrap() error { return e.err }

var errOtherID = errors.New("has another id in its entry")

// decodePortable refuses fields that it does not know: it would lose them.
func decodePortable(id string, raw json.RawMessage) (e Entry, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, &portableError{id, fmt.Errorf("has something that this sqgate does not know; is that from a newer one? %w", err)}
	}
	if e.ID == nil || *e.ID != id || ValidID(id) != nil {
		return e, &portableError{id, errOtherID}
	}
	return e, nil
}

// Portable returns the tenants of the file.
func (d *Document) Portable() (Portable, error) {
	p := make(Portable, len(d.ids))
	for i, id := range d.ids {
		var e Entry
		if err := json.Unmarshal(d.entries[i], &e); err != nil {
			return nil, err
		}
		raw, err := json.Marshal(e.portable())
		if err != nil {
			return nil, err
		}
		p[id] = raw
	}
	return p, nil
}

func (e Entry) portable() Entry {
	e.APIKey, e.APIKeySHA256 = nil, keySum(e.APIKey, e.APIKeySHA256)
	e.PathKey, e.PathKeySHA256 = nil, keySum(e.PathKey, e.PathKeySHA256)
	e.DataDir = e.sharedName()
	return e
}

// sharedName is the last part of the directory if e shares it, or nil.
func (e Entry) sharedName() *string {
	if e.DataDir == nil || !valueOr(e.SharedDataDir, false) {
		return nil
	}
	last := filepath.Base(*e.DataDir)
	return &last
}

// keySum is the SHA-256 of a key that stands in a file in clear, or as its SHA-256.
func keySum(key, sum *string) *string {
	var text string
	switch {
	case key != nil:
		d := digestOf(*key)
		text = hex.EncodeToString(d[:])
	case sum != nil:
		text = strings.ToLower(*sum)
	default:
		return nil
	}
	return &text
}

// local is a portable e in the file of this host. It keeps the directory and the keys in
// clear that the tenant has here, if they are still its own. placed is false if it has no
// directory here.
func (e Entry) local(here Entry) (local Entry, placed bool) {
	if shared := here.portable().DataDir; here.DataDir != nil && valueOr(shared, "") == valueOr(e.DataDir, "") {
		e.DataDir, placed = here.DataDir, true
	}
	e.APIKey, e.APIKeySHA256 = keepClear(here.APIKey, e.APIKeySHA256)
	e.PathKey, e.PathKeySHA256 = keepClear(here.PathKey, e.PathKeySHA256)
	return e, placed
}

// usualDir is the directory of a portable e on a new machine.
func (e Entry) usualDir(dataRoot string) string {
	if name := e.sharedName(); name != nil {
		return filepath.Join(dataRoot, sharedDirs, *name)
	}
	return filepath.Join(dataRoot, *e.ID)
}

func keepClear(here, sum *string) (key, hashed *string) {
	if here != nil && sum != nil && *keySum(here, nil) == *sum {
		return here, nil
	}
	return nil, sum
}

// Difference is what a tenants file and a bucket did not have alike.
type Difference struct {
	// Changed is what changed in the file only, and is to be put into the bucket; nil is a
	// tenant that was removed.
	Changed Portable
	// Refused are the tenants, sorted by id, that changed in both, and not alike. If the two
	// were never the same, they are all that the bucket does not have, or has otherwise.
	Refused []string
	// Placed are the tenants whose usual directory is another's here, so that they got
	// another one: who that is, by id.
	Placed map[string]string
	// Held are the tenants that the file cannot have as the bucket has them, and why. They
	// stay as they are in the file, if they are there.
	Held map[string]error
}

// Merge brings together the file d and the tenants in a bucket. agreed has the sums from
// when the two were the same; nil means that they never were. What changed in the bucket
// is taken into merged, also if it changed in the file; merged is d itself if there is
// nothing to take. Into dataRoot go the directories of tenants that are new here. A tenant
// that cannot be taken keeps no other from being taken, unless it changed in both.
func (d *Document) Merge(theirs Portable, agreed Sums, dataRoot string) (merged *Document, diff Difference, err error) {
	ours, err := d.Portable()
	if err != nil {
		return nil, diff, err
	}
	theirs, diff.Held = maps.Clone(theirs), map[string]error{}
	for {
		merged, err = d.mergeOnce(ours, theirs, agreed, dataRoot, &diff)
		if err == nil {
			return merged, diff, nil
		}
		before := len(diff.Held)
		for id, why := range blamed(err) {
			switch {
			case diff.Held[id] != nil || bytes.Equal(theirs[id], ours[id]):
				continue
			case SumOf(ours[id]) != agreed[id]:
				err := fmt.Errorf("tenant %q was changed in the tenants file, or is new there, and what the bucket has of it cannot be taken: undo that (%w)", id, why)
				return nil, diff, &editError{err, apierror.New(apierror.Conflict, err.Error())}
			}
			diff.Held[id], theirs[id] = why, ours[id]
			if ours[id] == nil {
				delete(theirs, id)
			}
		}
		if len(diff.Held) == before {
			return nil, diff, err
		}
	}
}

// mergeOnce is Merge with all or none of theirs.
func (d *Document) mergeOnce(ours, theirs Portable, agreed Sums, dataRoot string, diff *Difference) (*Document, error) {
	theirs, err := theirs.OnlyWriters(func(id string) bool { return theirs[id] != nil })
	if err != nil {
		return nil, err
	}
	all := maps.Clone(ours)
	maps.Copy(all, theirs)
	diff.Changed, diff.Refused, diff.Placed = Portable{}, nil, nil
	take := map[string]bool{}
	for id := range all {
		here, there := ours[id], theirs[id]
		switch {
		case bytes.Equal(here, there):
		case SumOf(here) == agreed[id]:
			take[id] = true
		case agreed != nil && SumOf(there) == agreed[id]:
			diff.Changed[id] = here
		default:
			take[id] = true
			diff.Refused = append(diff.Refused, id)
		}
	}
	if len(take) == 0 {
		return d, nil
	}
	slices.Sort(diff.Refused)
	merged, placed, err := d.take(take, theirs, dataRoot)
	diff.Placed = placed
	if err == nil {
		err = merged.takenLast(take).Check()
	}
	return merged, err
}

// takenLast is d with those of some ids at its end: of two tenants that cannot be together,
// the later one is blamed.
func (d *Document) takenLast(ids map[string]bool) *Document {
	sorted := &Document{reload: d.reload}
	for _, last := range []bool{false, true} {
		for i, id := range d.ids {
			if ids[id] == last {
				sorted.ids, sorted.entries = append(sorted.ids, id), append(sorted.entries, d.entries[i])
			}
		}
	}
	return sorted
}

// blamed are the tenants of which an error says that something is wrong with them, and those
// beside which they cannot be: nobody knows which of two it is that has a key.
func blamed(err error) map[string]error {
	ids := map[string]error{}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *FieldError:
			for _, id := range []string{e.Tenant, e.other} {
				ids[id] = cmp.Or(ids[id], error(e))
			}
		case *portableError:
			ids[e.id] = e
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				walk(one)
			}
		}
	}
	walk(err)
	return ids
}

// take returns d with some tenants as in theirs. Those that are new come last. placed is
// that of Difference.
func (d *Document) take(ids map[string]bool, theirs Portable, dataRoot string) (merged *Document, placed map[string]string, err error) {
	merged = &Document{reload: d.reload}
	add := func(id string, raw json.RawMessage) {
		merged.ids, merged.entries = append(merged.ids, id), append(merged.entries, raw)
	}
	homeless := map[int]bool{} // positions of those that have no directory here
	take := func(id string, here json.RawMessage) error {
		raw, placed, err := localEntry(id, theirs[id], here)
		homeless[len(merged.ids)] = !placed
		add(id, raw)
		return err
	}
	left := maps.Clone(ids)
	for i, id := range d.ids {
		delete(left, id)
		if !ids[id] {
			add(id, d.entries[i])
		} else if theirs[id] != nil {
			if err := take(id, d.entries[i]); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		if err := take(id, json.RawMessage("{}")); err != nil {
			return nil, nil, err
		}
	}
	placed, err = merged.place(homeless, dataRoot)
	return merged, placed, err
}

// place gives each tenant at one of the positions the directory that others share here by the
// same name, or else its usual one, or if that is another's here, another one: where directories
// are is each host's own, and what somebody has moved there must not keep this host from what
// the bucket says of all tenants.
func (d *Document) place(positions map[int]bool, dataRoot string) (placed map[string]string, err error) {
	all, whose, shared := make([]Entry, len(d.entries)), map[string]*Entry{}, map[string]*string{}
	for i, raw := range d.entries {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, err
		}
		if !positions[i] {
			whose[fsutil.Resolve(*all[i].DataDir)] = &all[i]
			if name := all[i].sharedName(); name != nil {
				shared[*name] = all[i].DataDir
			}
		}
	}
	placed = map[string]string{}
	for i := range d.entries {
		if !positions[i] {
			continue
		}
		e := &all[i]
		dir := e.usualDir(dataRoot)
		if name := e.sharedName(); name != nil && shared[*name] != nil {
			dir = *shared[*name]
		}
		for other := whose[fsutil.Resolve(dir)]; other != nil && !bothShare(e, other); other = whose[fsutil.Resolve(dir)] {
			placed[*e.ID] = *other.ID
			dir = filepath.Join(filepath.Dir(dir), otherDirs, filepath.Base(dir))
		}
		e.DataDir = &dir
		whose[fsutil.Resolve(dir)] = e
		if d.entries[i], err = json.Marshal(e); err != nil {
			return nil, err
		}
	}
	return placed, nil
}

func bothShare(a, b *Entry) bool {
	return valueOr(a.SharedDataDir, false) && valueOr(b.SharedDataDir, false)
}

// localEntry is a tenant of a bucket as it stands in the file, where here stood before.
// placed is that of local.
func localEntry(id string, there, here json.RawMessage) (raw json.RawMessage, placed bool, err error) {
	e, err := decodePortable(id, there)
	if err != nil {
		return nil, false, err
	}
	var before Entry
	if err := json.Unmarshal(here, &before); err != nil {
		return nil, false, err
	}
	e, placed = e.local(before)
	raw, err = json.Marshal(e)
	return raw, placed, err
}

// ReadDocument reads the tenants file at path. The error is that of Load.
func ReadDocument(path string) (*Document, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := Parse(text); err != nil {
		return nil, fileError(path, err)
	}
	return openDocument(text)
}

// Create is the function Create for the tenants of d.
func (d *Document) Create(path string) error {
	text, _, err := d.parse()
	if err != nil {
		return err
	}
	return create(path, text)
}
