package admin

import (
	"bytes"
	"io"
	"net/http"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/strictjson"
)

// maxBody bounds the body of a management call, in bytes.
const maxBody = 64 << 10

// decode reads one JSON object from the body into a struct, as strictjson.Decode. An
// empty body is an empty object.
func decode(r *http.Request, into any) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return badRequest("the body ended before it was complete: %v", err)
	case len(text) > maxBody:
		return apierror.New(apierror.TooLarge, "the body is larger than %d bytes", maxBody)
	case len(bytes.TrimSpace(text)) == 0:
		return nil
	}
	if err := strictjson.Decode(text, into); err != nil {
		return badRequest("%v", err)
	}
	return nil
}
