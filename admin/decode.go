package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// largestCall bounds the body of a management call, in bytes.
const largestCall = 64 << 10

// decode reads one JSON object of known fields from the body. An empty body is
// an empty object.
func decode(r *http.Request, into any) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, largestCall+1))
	switch {
	case err != nil:
		return bad("the body ended before it was complete: " + err.Error())
	case len(text) > largestCall:
		return &problem{status: http.StatusRequestEntityTooLarge, code: "too_large", message: fmt.Sprintf("the body is larger than %d bytes", largestCall)}
	case len(bytes.TrimSpace(text)) == 0:
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return explain(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("the body goes on behind the end of its JSON object")
	}
	return nil
}

// explain names the field that is wrong.
func explain(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return bad(fmt.Sprintf("field %q is a %s: a %s is wanted", kind.Field, kind.Value, wanted(kind.Type.String())))
	case errors.As(err, &kind):
		return bad("the body is a " + kind.Value + ": a JSON object is wanted")
	case errors.As(err, &syntax):
		return bad(fmt.Sprintf("the body is not JSON, at byte %d: %v", syntax.Offset, err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("the body is not JSON: it ends too early")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return bad("unknown field " + name + ": remove it, or correct its spelling")
	}
	return bad("the body is not JSON: " + err.Error())
}

func wanted(kind string) string {
	switch strings.TrimPrefix(kind, "*") {
	case "int64":
		return "whole number"
	case "bool":
		return "true or false"
	}
	return "string"
}
