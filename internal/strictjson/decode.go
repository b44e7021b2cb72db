package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/nearest"
)

// Decode reads one JSON object into a struct. It refuses fields that the struct does not
// have by exactly that name, fields that stand there twice, and null for a field that is a
// pointer, which would count as if it were not there: a call might change more than was
// meant. Its errors are sentences for whoever wrote the text.
func Decode(text []byte, into any) error {
	if mistake := Check(text); mistake != nil {
		return fmt.Errorf("the body is not JSON: %w", mistake)
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
	fields, isObject := Fields(text)
	if !isObject {
		return errors.New(`the body is not a JSON object: write {"name": value}`)
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
			return fmt.Errorf("unknown field %.64q: remove it, or correct its spelling (capitals count)%s", f.Name, nearest.DidYouMean(f.Name[:min(len(f.Name), 64)], "", known))
		case seen[f.Name]:
			return fmt.Errorf("field %q stands there twice: keep one", f.Name)
		case string(f.Value) == "null" && !slices.Contains(nullable, f.Name): // it would count as if it were not there
			return fmt.Errorf("field %q is null: give it a value, or leave it out", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// decodeError names the field that is wrong.
func decodeError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Errorf("field %q is a %s: a %s is wanted", kind.Field, kind.Value, jsonType(kind.Type.String()))
	}
	return fmt.Errorf("the body cannot be read: %w", err)
}

// jsonType is what people call a Go type.
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
