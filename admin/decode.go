package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

// maxBody bounds the body of a management call, in bytes.
const maxBody = 64 << 10

// decode reads one JSON object from the body. Fields that into does not have
// are refused. An empty body is an empty object.
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
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return decodeError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("the body goes on behind the end of its JSON object")
	}
	return nil
}

// decodeError names the field that is wrong.
func decodeError(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return badRequest("field %q is a %s: a %s is wanted", kind.Field, kind.Value, jsonType(kind.Type.String()))
	case errors.As(err, &kind):
		return badRequest("the body is a %s: a JSON object is wanted", kind.Value)
	case errors.As(err, &syntax):
		return badRequest("the body is not JSON, at byte %d: %v", syntax.Offset, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the body is not JSON: it ends too early")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return badRequest("unknown field %s: remove it, or correct its spelling", name)
	}
	return badRequest("the body is not JSON: %v", err)
}

// jsonType is what an operator calls a Go type.
func jsonType(goType string) string {
	switch strings.TrimPrefix(goType, "*") {
	case "int64":
		return "whole number"
	case "bool":
		return "true or false"
	}
	return "string"
}
