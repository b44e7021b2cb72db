package tenants

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/strictjson"
	"mirrorborn.us/sqgate/rewrite"
)

// ScopeFor is what the key of a caller allows with the phexts of t, or nil for nothing. A
// nil caller is somebody without a key.
func (t *Tenant) ScopeFor(caller *Tenant) *rewrite.Scope {
	switch {
	case !t.Enabled:
		return nil
	case caller != nil && caller.Enabled && caller.UniqueID() == t.UniqueID():
		return rewrite.Everything
	case caller != nil && caller.Enabled && slices.Contains(t.writers, caller.ID):
		return rewrite.Guests
	}
	return t.public
}

// Public are the patterns of the names of the phexts that everybody may read. The
// slice must not be changed.
func (t *Tenant) Public() []string {
	if t.public == nil {
		return nil
	}
	return t.public.Phexts
}

// Writers are the ids of the other tenants that may write here. The slice must not be
// changed.
func (t *Tenant) Writers() []string { return t.writers }

// longestPattern is the length of the longest pattern: no name of a phext is longer.
// mostPatterns is how many there may be, and mostStars how many '*' each: anybody can
// have them matched, without a key.
const (
	longestPattern = 240
	mostPatterns   = 32
	mostStars      = 2
)

// publicPhexts reads the field public, which is {"phexts": [...], "access": "read"}.
func (b *builder) publicPhexts(raw json.RawMessage) *rewrite.Scope {
	if raw == nil {
		return nil
	}
	fields, isObject := strictjson.Fields(raw)
	if !isObject {
		b.refuse("public", "is not an object", `write {"phexts": ["site"], "access": "read"}`)
		return nil
	}
	for i := range fields {
		fields[i].Name = "public." + fields[i].Name
	}
	var patterns *[]*string
	var access *string
	if !b.decode(fields, map[string]any{"public.phexts": &patterns, "public.access": &access}) {
		return nil
	}
	if valueOr(access, "read") != "read" {
		b.refuse("public.access", "is not \"read\"", "write \"read\", or leave it out: to let others write, name them in \"writers\"")
	}
	list := b.patterns("public.phexts", patterns, `leave "public" out`)
	return &rewrite.Scope{Access: rewrite.ReadAccess, Phexts: list, Anonymous: true}
}

// patterns are those of names of phexts, of which there is one at least.
func (b *builder) patterns(field string, patterns *[]*string, orElse string) []string {
	list := b.texts(field, patterns, mostPatterns)
	if len(list) == 0 {
		b.refuse(field, "names no phext", `list names or patterns, such as "site" and "log-*", or `+orElse)
	}
	for _, pattern := range list {
		if _, err := path.Match(pattern, ""); err != nil || len(pattern) > longestPattern || strings.Count(pattern, "*") > mostStars || strings.ContainsFunc(pattern, notInPattern) || strings.Contains(pattern, "[!") {
			b.refuse(field, "has a pattern that is not one of phext names", "use names in which '*' stands for any characters, '?' for one, [a-z] for one of several and [^a-z] for one of all others; a name has no '/', and a pattern at most two '*'")
		}
	}
	return list
}

func notInPattern(r rune) bool { return r == '/' || notInPath(r) }

// mostWriters is how many writers a tenant may have.
const mostWriters = 1000

// checkWriters reads the field writers of all tenants, when all ids are known. An id
// that nobody has is refused: whoever gets it later would be let in.
func (b *builder) checkWriters() {
	for i, t := range b.snapshot.all {
		b.id, b.index = t.ID, b.positions[i]
		t.writers = b.texts("writers", b.writers[t], mostWriters)
		seen := map[string]bool{t.ID: true}
		for _, id := range t.writers {
			if _, known := b.snapshot.byID[id]; !known {
				b.refuse("writers", "names somebody who is no tenant of this file", "correct the id, or take it out")
			} else if seen[id] {
				b.refuse("writers", "names a tenant twice, or the tenant itself", "name each of the others once")
			}
			seen[id] = true
		}
	}
}

// texts is a list of texts, of which none is null.
func (b *builder) texts(field string, list *[]*string, most int) (texts []string) {
	if list == nil {
		return nil
	}
	if len(*list) > most {
		b.refuse(field, "is too long", fmt.Sprintf("list at most %d", most))
		return nil
	}
	for _, text := range *list {
		if text == nil {
			b.refuse(field, "has a null in it", "list texts in quotes")
			continue
		}
		texts = append(texts, *text)
	}
	return texts
}
