package rewrite

import (
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

const apiPrefix = "api/v2/"

// SplitPathKey takes the key of `/k/<path_key>/...` off a path, for clients
// that can set nothing but a URL. ok says whether the path had that form.
func SplitPathKey(path string) (key, rest string, ok bool) {
	after, ok := strings.CutPrefix(path, "/k/")
	if !ok {
		return "", path, false
	}
	key, rest, _ = strings.Cut(after, "/")
	return key, "/" + rest, true
}

// route is what a path says: the operation, and a coordinate if one stands behind it.
type route struct {
	op         Op
	coordinate string
}

// parseRoute reads every path form of the contract: /api/v2/OP, /OP, each with
// /COORDINATE behind it, and each behind /<id> where id is the caller's own.
func parseRoute(path, ownID string) (route, *apierror.Error) {
	rest := strings.TrimPrefix(path, "/")
	if r, ok := parseOp(rest); ok {
		return r, nil
	}
	id, behind, _ := strings.Cut(rest, "/")
	r, ok := parseOp(behind)
	if !ok || !looksLikeID(id) {
		return route{}, notFound(path)
	}
	if id != ownID {
		return route{}, forbidden("the path names tenant %s, and the key is not that tenant's: leave the tenant out of the path or use its key", clip(id))
	}
	return r, nil
}

// parseOp matches OP exactly. Legacy matches prefixes, so that
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

const longestID = 63

// looksLikeID says whether s has the form of a tenant id, whether or not there is such a tenant.
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
