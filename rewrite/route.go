package rewrite

import (
	"net/http"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

const apiPrefix = "api/v2/"

// SplitPathKey splits the path /k/PATH_KEY/REST, for clients that can set nothing
// but a URL. The rest begins with a slash. If the path has another form, ok is
// false and rest is the whole path. Repeated slashes are one.
func SplitPathKey(path string) (key, rest string, ok bool) {
	path = oneSlash(path)
	after, ok := strings.CutPrefix(path, "/k/")
	if !ok {
		return "", path, false
	}
	key, rest, _ = strings.Cut(after, "/")
	return key, "/" + rest, true
}

// oneSlash is the path without repeated slashes, which clients make whose endpoint
// ends in one.
func oneSlash(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var out strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			out.WriteByte(path[i])
		}
	}
	return out.String()
}

// route is what a path means: the operation, and the coordinate, or the prefix of a
// list, or "". instance is the id in front of it, or "".
type route struct {
	op         Op
	coordinate string
	instance   string
	either     bool // Read, or Write if the method is one of its own
}

// parseRoute finds the operation of a path. An id in front of it must be the caller's
// own.
func parseRoute(path, ownID string) (route, *apierror.Error) {
	r, ok := findRoute(path)
	switch {
	case !ok:
		return route{}, notFound(path)
	case r.instance != "" && r.instance != ownID:
		return route{}, forbidden("the path names tenant %s, and the key is not that tenant's: leave the tenant out of the path or use its key", clip(r.instance))
	}
	return r, nil
}

// findRoute reads all forms of a path: /api/v2/OP and /OP, each with or without
// /COORDINATE behind it, and each with or without /ID or /t/ID in front of it.
func findRoute(path string) (r route, ok bool) {
	rest := strings.TrimPrefix(oneSlash(path), "/")
	if r, ok := parseOp(rest); ok {
		return r, true
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(rest, "t/"), "/")
	r, ok = parseOp(rest)
	r.instance = id
	return r, ok && looksLikeID(id)
}

// parseOp matches the whole name of an operation. SQ matches its beginning: there
// /api/v2/deleteme deletes (recorded in "query spellings").
func parseOp(rest string) (route, bool) {
	rest = strings.TrimPrefix(rest, apiPrefix)
	name, coordinate, _ := strings.Cut(rest, "/")
	switch name { // other names in the published documents
	case "scrolls":
		return route{op: List}, coordinate == ""
	case "scroll":
		return route{op: Read, coordinate: coordinate, either: true}, true
	}
	op, known := operationNamed(name)
	if !known || (coordinate != "" && !operations[op].coordinate && op != List) {
		return route{}, false
	}
	return route{op: op, coordinate: coordinate}, true
}

// PathWords are the words that begin a path, or stand in it where an id may stand: a tenant
// with such an id could not be named in a path. Operations that came when there may have been
// tenants with such ids are not among them, or an update would refuse the tenants file.
// Nothing stands behind them, so /usage/api/v2/toc is a tenant's.
func PathWords() []string {
	return slices.DeleteFunc(append([]string{"api", "k", "t", "scroll", "scrolls"}, opNames()...), func(word string) bool {
		return operations[Op(word)].later
	})
}

// published says whether the answer is that of the published API: delete is if the
// path has the coordinate.
func (r route) published() bool {
	switch r.op {
	case Read, Write, List, Search:
		return true
	}
	return r.op == Delete && r.coordinate != ""
}

// IsPublished says whether a path, without a path key, is one of the published API,
// whose errors are its own. It may be another tenant's.
func IsPublished(path string) bool {
	r, ok := findRoute(path)
	return ok && r.published()
}

// Keyless finds an operation that needs no key: Health, Version or Description, and the id in front
// of it, which may be nobody's. op is "" for all others.
func Keyless(path string) (op Op, instance string) {
	last := Op(path[strings.LastIndexByte(path, '/')+1:])
	if last != Health && last != Version && last != Description {
		return "", ""
	}
	r, ok := findRoute(path)
	if !ok || r.op != last {
		return "", ""
	}
	return r.op, r.instance
}

// Find finds the operation of a request, and the id in front of it, which may be
// nobody's. op is "" if the path has none.
func Find(method, path string) (op Op, instance string) {
	r, ok := findRoute(path)
	if !ok {
		return "", ""
	}
	return r.opFor(method), r.instance
}

// opFor is the operation of a request with a method.
func (r *route) opFor(method string) Op {
	if r.either && Write.allows(method) {
		return Write
	}
	return r.op
}

// ReadPhext is the phext that a read without a body is about, from its raw query, and
// whether it is about all of them. ok is false if the request cannot be a read that
// everybody may make.
func ReadPhext(method string, op Op, rawQuery string) (name string, everywhere, ok bool) {
	got := collector{op: op}
	if op == "" || operations[op].keyed || op.Mutates() || method != http.MethodGet && method != http.MethodHead || got.query(rawQuery) != nil {
		return "", false, false
	}
	name = got.get(paramPhext)
	return name, name == everyPhext && (op == List || op == Search), true
}

// CheckMethod is the error for a method that op does not take, or nil.
func CheckMethod(op Op, method string) error {
	if !op.allows(method) {
		return methodNotAllowed(op, method)
	}
	return nil
}

// longestID is the length of the longest tenant id, in bytes.
const longestID = 63

// looksLikeID says whether s has the form of a tenant id. There may be no such
// tenant.
func looksLikeID(s string) bool {
	if s == "" || len(s) > longestID || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
