package rewrite

import (
	"fmt"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

func badRequest(format string, args ...any) *apierror.Error {
	return apierror.New(apierror.BadRequest, format, args...)
}

func badCoordinate(format string, args ...any) *apierror.Error {
	return apierror.New(apierror.BadCoordinate, format, args...)
}

func badPhext(format string, args ...any) *apierror.Error {
	return apierror.New(apierror.BadPhext, format, args...)
}

func notUTF8(what string) *apierror.Error {
	return apierror.New(apierror.NotUTF8,
		"%s is not valid UTF-8: a phext is text, so encode it (for example with base64) before storing it", what)
}

func forbidden(format string, args ...any) *apierror.Error {
	return apierror.New(apierror.Forbidden, format, args...)
}

func notFound(path string) *apierror.Error {
	return apierror.New(apierror.NotFound,
		"no operation at %s: use /api/v2/OP, where OP is one of %s", clip(path), strings.Join(opNames(), ", "))
}

func methodNotAllowed(op Op, method string) *apierror.Error {
	e := apierror.New(apierror.WrongMethod, "%s does not take %s: use %s", op, clip(method), strings.Join(op.Methods(), ", "))
	e.Allow = op.Methods()
	return e
}

// noText is the error for a write without a text, which must not empty a scroll: a
// redirect may have made it a GET, or the client may have lost its body.
func noText(op Op) *apierror.Error {
	return apierror.New(apierror.LengthRequired,
		"%s has neither a body with a length nor a parameter s: nothing was changed; send the text as a body with Content-Length, or s= to store an empty one", op)
}

// noScroll is the error for a body with a coordinate but no text.
func noScroll(kind string) *apierror.Error {
	return badRequest("the %s has a coordinate and no text: nothing was changed; name the text content, s, data, text, or in JSON scroll, value or body, or put the coordinate into the query", kind)
}

// longestQuote is the most, in bytes, that an error repeats of what a caller sent.
const longestQuote = 80

// clip quotes the beginning of s, so that an error stays one readable line.
func clip(s string) string {
	if len(s) > longestQuote {
		s = s[:longestQuote] + "..."
	}
	return fmt.Sprintf("%q", s)
}
