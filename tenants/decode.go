package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// decodeFile reads the file's JSON: one object of known fields, nothing twice,
// nothing behind it.
func decodeFile(text []byte) (list []entry, reload bool, err error) {
	if err := oneValue(text); err != nil {
		return nil, false, err
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(text, &top); err != nil {
		return nil, false, errors.New(`a JSON object is wanted, {"tenants": [...]}`)
	}
	if err := otherFormat(top["tenants"]); err != nil {
		return nil, false, err
	}
	var file struct {
		Tenants        *[]entry `json:"tenants"`
		ReloadOnChange *bool    `json:"reload_on_change"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, false, explain(text, d.InputOffset(), err)
	}
	if file.Tenants == nil {
		return nil, false, &FieldError{Field: "tenants", Problem: "is missing: give a list, [] if there are none yet"}
	}
	return *file.Tenants, file.ReloadOnChange == nil || *file.ReloadOnChange, nil
}

// oneValue refuses text that is not JSON, that goes on behind the first value,
// or that names a field twice in one object: encoding/json would let the last
// one win, and not say so.
func oneValue(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := scanValue(d, ""); err != nil {
		return explain(text, d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s: there is more behind the end of the JSON object", place(text, d.InputOffset()))
	}
	return nil
}

func scanValue(d *json.Decoder, name string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return scanObject(d)
	case json.Delim('['):
		for d.More() {
			if err := scanValue(d, name); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func scanObject(d *json.Decoder) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name := fmt.Sprint(token)
		if folded := strings.ToLower(name); seen[folded] {
			return &FieldError{Field: name, Problem: "stands there twice: keep one"}
		} else {
			seen[folded] = true // encoding/json does not tell Id from id
		}
		if err := scanValue(d, name); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// explain says where in the file an error is, and names the field.
func explain(text []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var field *FieldError
	switch {
	case errors.As(err, &field):
		return fmt.Errorf("%s: %w", place(text, offset), err)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: not JSON: %s", place(text, syntax.Offset), strings.TrimPrefix(err.Error(), "json: "))
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %w", place(text, kind.Offset), &FieldError{Field: kind.Field,
			Problem: fmt.Sprintf("is a %s: a %s is wanted", kind.Value, wanted(kind.Type.Kind().String()))})
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file is empty or ends before its JSON does")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%s: unknown field %s: remove it, or correct its spelling", place(text, offset), name)
	}
	return err
}

func wanted(kind string) string {
	switch kind {
	case "int64":
		return "whole number"
	case "bool":
		return "true or false"
	case "slice":
		return "list"
	case "struct":
		return "tenant, an object,"
	}
	return kind
}

func place(text []byte, offset int64) string {
	before := text[:min(int64(len(text)), max(0, offset))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d, column %d", line, len(before)-bytes.LastIndexByte(before, '\n'))
}

// otherFormat recognises the tenants files of other programs on such hosts.
func otherFormat(list json.RawMessage) error {
	trimmed := bytes.TrimLeft(list, " \t\r\n")
	if len(trimmed) > 0 && trimmed[0] == '{' {
		return errors.New("this is a tenants file of SQ's own multi-tenant mode, with keys as names: write one entry for each tenant, {\"id\", \"api_key\", \"data_dir\"}")
	}
	var routed []struct {
		Token *string `json:"token"`
	}
	if json.Unmarshal(list, &routed) == nil && len(routed) > 0 && routed[0].Token != nil {
		return errors.New("this is a configuration of the SQ router, with tokens and ports: write one entry for each tenant, {\"id\", \"api_key\", \"data_dir\"}")
	}
	return nil
}
