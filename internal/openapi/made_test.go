package openapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write openapi.json and docs/api.md anew")

// TestMade compares openapi.json and docs/api.md with what openapi.yaml says.
func TestMade(t *testing.T) {
	source, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := described(t, source)
	compare(t, "openapi.json", text)
	compare(t, "../../docs/api.md", page(t, text, order(source)))
}

func compare(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	is, wanted := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(is), len(wanted)) {
		if is[i] != wanted[i] {
			t.Errorf("%s is not what openapi.yaml makes of it. Line %d is\n%.500s\nwant\n%.500s\nRun go test ./internal/openapi -update", path, i+1, is[i], wanted[i])
			return
		}
	}
	t.Errorf("%s has %d lines, want %d: run go test ./internal/openapi -update", path, len(is), len(wanted))
}

// described is the source as compact JSON.
func described(t *testing.T, source []byte) []byte {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal(source, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "x-shared")
	for path, item := range doc["paths"].(map[string]any) {
		item := item.(map[string]any)
		for method, operation := range item {
			if operation, ok := operation.(map[string]any); ok {
				operation = maps.Clone(operation) // aliases of YAML share one map
				operation["operationId"] = operationID(method, path)
				item[method] = operation
			}
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var wordEnd = regexp.MustCompile(`[^A-Za-z]+`)

// operationID is such as putWriteCoordinate.
func operationID(method, path string) string {
	for _, word := range wordEnd.Split(path, -1) {
		if word != "" {
			method += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return method
}

var pathLine = regexp.MustCompile(`(?m)^  (/\S*):`)

// order is the paths in the order of the source.
func order(source []byte) (paths []string) {
	for _, m := range pathLine.FindAllSubmatch(source, -1) {
		paths = append(paths, string(m[1]))
	}
	return paths
}

// methods is the order in which methods are listed.
var methods = []string{"put", "post", "get", "head", "patch", "delete"}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
