package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// parseTop reads the file's outermost JSON: one object and nothing behind it.
func parseTop(text []byte) ([]field, error) {
	if isTOML(text) {
		return nil, foreign("the Python gateway, in TOML")
	}
	top, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	for _, f := range top {
		if f.name != "tenants" {
			continue
		}
		if err := otherFormat(f.value); err != nil {
			return nil, err
		}
	}
	return top, nil
}

func parseObject(text []byte) ([]field, error) {
	if len(text) > largestFile {
		return nil, tooLarge()
	}
	if err := checkSyntax(text); err != nil {
		return nil, err
	}
	top, ok := fieldsOf(text)
	if !ok {
		return nil, &FormatError{Problem: "the file is not a JSON object", Fix: `write {"tenants": [...]}`}
	}
	return top, nil
}

func tooLarge() error {
	return &FormatError{Problem: fmt.Sprintf("the file is larger than %d bytes", largestFile), Fix: "a tenants file is wanted"}
}

// checkSyntax refuses what is not one JSON value in UTF-8. json.Unmarshal
// bounds how deep values may nest, which a scanner of ours would have to.
func checkSyntax(text []byte) error {
	if !utf8.Valid(text) {
		return &FormatError{Problem: "the file is not UTF-8", Fix: "save it as UTF-8"}
	}
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &FormatError{Problem: "the file is not JSON", Fix: err.Error()}
	}
	return syntaxError(text, syntax)
}

func syntaxError(text []byte, err *json.SyntaxError) error {
	e := &FormatError{Problem: "not JSON", Fix: err.Error()}
	e.Line, e.Column = place(text, err.Offset)
	switch {
	case strings.HasPrefix(err.Error(), "unexpected end"):
		e.Problem, e.Fix = "the file is empty or ends before its JSON does", "complete it"
	case strings.HasSuffix(err.Error(), "after top-level value"):
		e.Problem, e.Fix = "there is more behind the end of the JSON object", "remove it"
	}
	return e
}

// place turns the number of bytes up to and with the wrong one into its line
// and column.
func place(text []byte, offset int64) (line, column int) {
	before := text[:min(len(text), max(0, int(offset)-1))]
	line = bytes.Count(before, []byte("\n")) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// otherFormat recognises the tenants files of other programs on such hosts.
func otherFormat(list json.RawMessage) error {
	if _, isObject := fieldsOf(list); isObject {
		return foreign("SQ's own multi-tenant mode, with keys as names")
	}
	if isRouted(list) {
		return foreign("the SQ router, with tokens and ports")
	}
	return nil
}

// isRouted says whether it is tokens that the first tenant of a list has.
func isRouted(list json.RawMessage) bool {
	var routed []struct {
		Token json.RawMessage `json:"token"`
	}
	return json.Unmarshal(list, &routed) == nil && len(routed) > 0 && routed[0].Token != nil
}

func isTOML(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[[tenants]]")) {
			return true
		}
	}
	return false
}

func foreign(program string) error {
	return &FormatError{Problem: "this is a tenants file of " + program,
		Fix: "`sqgate init --from FILE` converts it"}
}
