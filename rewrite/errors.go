package rewrite

import (
	"fmt"
	"net/http"
	"strings"
)

// Error is a request refused, in the form the caller is told: an HTTP status,
// a slug from the contract and a sentence a person can act on.
type Error struct {
	Status  int
	Code    string
	Message string
	Allow   []string // methods for the Allow header; with status 405 only
}

func (e *Error) Error() string { return e.Message }

// Told is the status and the slug.
func (e *Error) Told() (status int, code string) { return e.Status, e.Code }

func badRequest(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "bad_request", Message: fmt.Sprintf(format, args...)}
}

func badCoordinate(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "bad_coordinate", Message: fmt.Sprintf(format, args...)}
}

func badPhext(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "bad_phext", Message: fmt.Sprintf(format, args...)}
}

func notUTF8(what string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "not_utf8",
		Message: what + " is not valid UTF-8: a phext is text, so encode it (for example with base64) before storing it"}
}

func forbidden(format string, args ...any) *Error {
	return &Error{Status: http.StatusForbidden, Code: "forbidden", Message: fmt.Sprintf(format, args...)}
}

func notFound(path string) *Error {
	return &Error{Status: http.StatusNotFound, Code: "not_found",
		Message: fmt.Sprintf("no operation at %s: use /api/v2/OP, where OP is one of %s", clip(path), strings.Join(opNames(), ", "))}
}

func methodNotAllowed(op Op, method string) *Error {
	allow := op.Methods()
	return &Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Allow: allow,
		Message: fmt.Sprintf("%s does not take %s: use %s", op, clip(method), strings.Join(allow, ", "))}
}

// longestEcho bounds how much of a caller's own words an error repeats, in bytes.
const longestEcho = 80

// clip quotes what a caller sent, shortened, so that an error stays one readable line.
func clip(s string) string {
	if len(s) > longestEcho {
		s = s[:longestEcho] + "..."
	}
	return fmt.Sprintf("%q", s)
}
