package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/nearest"
	"mirrorborn.us/sqgate/internal/strictjson"
)

// maxBody bounds the body of a management call, in bytes.
const maxBody = 64 << 10

// decode reads one JSON object from the body into a struct. It refuses fields that the
// struct does not have by exactly that name, and fields that stand there twice. An empty
// body is an empty object.
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
	if mistake := strictjson.Check(text); mistake != nil {
		return badRequest("the body is not JSON: %v", mistake)
	}
	if err := checkNames(text, into); err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return decodeError(err)
	}
	return nil
}

// checkNames refuses the names of fields that encoding/json would take for others.
func checkNames(text []byte, into any) error {
	fields, isObject := strictjson.Fields(text)
	if !isObject {
		return badRequest(`the body is not a JSON object: write {"name": value}`)
	}
	var known, nullable []string
	for f := range reflect.TypeOf(into).Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known = append(known, name)
		if f.Type.Kind() != reflect.Pointer { // it gives null a meaning
			nullable = append(nullable, name)
		}
	}
	seen := map[string]bool{}
	for _, f := range fields {
		switch {
		case !slices.Contains(known, f.Name):
			return badRequest("unknown field %.64q: remove it, or correct its spelling (capitals count)%s", f.Name, nearest.DidYouMean(f.Name[:min(len(f.Name), 64)], "", known))
		case seen[f.Name]:
			return badRequest("field %q stands there twice: keep one", f.Name)
		case string(f.Value) == "null" && !slices.Contains(nullable, f.Name): // a restore without phext is one of all phexts
			return badRequest("field %q is null: give it a value, or leave it out", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// decodeError names the field that is wrong.
func decodeError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return badRequest("field %q is a %s: a %s is wanted", kind.Field, kind.Value, jsonType(kind.Type.String()))
	}
	return badRequest("the body cannot be read: %v", err)
}

// jsonType is what an operator calls a Go type.
func jsonType(goType string) string {
	switch strings.TrimPrefix(goType, "*") {
	case "int64":
		return "whole number"
	case "bool":
		return "true or false"
	case "[]*string":
		return "list of strings"
	}
	return "string"
}
