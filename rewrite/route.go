package rewrite

import (
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

const apiPrefix = "api/v2/"

// SplitPathKey splits the path /k/PATH_KEY/REST, for clients that can set nothing
// but a URL. The rest begins with a slash. If the path has another form, ok is
// false and rest is the whole path.
func SplitPathKey(path string) (key, rest string, ok bool) {
	after, ok := strings.CutPrefix(path, "/k/")
	if !ok {
		return "", path, false
	}
	key, rest, _ = strings.Cut(after, "/")
	return key, "/" + rest, true
}

// route is what a path means: the operation, and the coordinate or "".
type route struct {
	op         Op
	coordinate string
}

// parseRoute reads all forms of a path: /api/v2/OP and /OP, each with or without
// /COORDINATE behind it, and each with or without /ID in front of it, where ID is
// the caller's own.
func parseRoute(path, ownID string) (route, *apierror.Error) {
	rest := strings.TrimPrefix(path, "/")
	if r, ok := parseOp(rest); ok {
		return r, nil
	}
	id, rest, _ := strings.Cut(rest, "/")
	r, ok := parseOp(rest)
	if !ok || !looksLikeID(id) {
		return route{}, notFound(path)
	}
	if id != ownID {
		return route{}, forbidden("the path names tenant %s, and the key is not that tenant's: leave the tenant out of the path or use its key", clip(id))
	}
	return r, nil
}

// parseOp matches the whole name of an operation. SQ matches its beginning: there
// /api/v2/deleteme deletes (recorded in "query spellings").
func parseOp(rest string) (route, bool) {
	rest = strings.TrimPrefix(rest, apiPrefix)
	name, coordinate, _ := strings.Cut(rest, "/")
	op, known := operationNamed(name)
	if !known || (coordinate != "" && !operations[op].coordinate) {
		return route{}, false
	}
	return route{op: op, coordinate: coordinate}, true
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
