package openapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/rewrite"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(JSON))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestValid checks the description against OpenAPI 3.1, and its examples against their
// schemas.
func TestValid(t *testing.T) {
	doc := load(t)
	if !doc.IsOpenAPI31OrLater() {
		t.Error(doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	seen := map[string]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if other := seen[op.OperationID]; other != "" {
				t.Errorf("%s %s and %s have the id %q", method, path, other, op.OperationID)
			}
			seen[op.OperationID] = method + " " + path
		}
	}
}

// found are the submatches of a pattern in a source file, at least as many as expected.
func found(t *testing.T, file, pattern string, atLeast int) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1)
	if len(all) < atLeast {
		t.Fatalf("%s has %d matches of %s: has it changed its form?", file, len(all), pattern)
	}
	return all
}

// operations are METHOD PATH of the operations of the management API, or of all others.
func operations(doc *openapi3.T, management bool) (all []string) {
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if slices.Contains(op.Tags, "management") == management {
				all = append(all, method+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, one := range got {
		if !slices.Contains(want, one) {
			t.Errorf("%s: %s is described, and not in the code", what, one)
		}
	}
	for _, one := range want {
		if !slices.Contains(got, one) {
			t.Errorf("%s: %s is in the code, and not described", what, one)
		}
	}
}

// TestOperations compares the description with what rewrite takes.
func TestOperations(t *testing.T) {
	names := []string{"scrolls", "scroll"}
	for _, m := range found(t, "rewrite/op.go", `(?m)^\t\w+ +Op = "([^"]+)"`, 15) {
		names = append(names, m[1])
	}
	want := []string{"GET /", "HEAD /"} // the front page, which is proxy's
	for _, name := range names {
		in := "/{coordinate}"
		if name == string(rewrite.List) {
			in = "/{prefix}"
		}
		for _, path := range []string{"/" + name, "/" + name + in} {
			for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "TRACE"} {
				_, err := rewrite.ParseHead(method, "/api/v2"+strings.Replace(path, in, "/1.1.1", 1), "", rewrite.Tenant{})
				if err == nil && path != "/scroll" { // without a coordinate it is read, which has a name of its own
					want = append(want, method+" "+path)
				}
			}
		}
	}
	sameSet(t, "rewrite", operations(load(t), false), want)
}

// TestManagementRoutes compares the description with admin's routes.
func TestManagementRoutes(t *testing.T) {
	var want []string
	for _, m := range found(t, "admin/api.go", `"([A-Z]+) (?:/api/v2([^"]*))?"(?: ?\+ ?(tenants|metricsPath))?(?: \+ "([^"]*)")?[:,]`, 14) {
		path := map[string]string{"": m[2], "tenants": "/admin/tenants", "metricsPath": "/metrics"}[m[3]] + m[4]
		want = append(want, m[1]+" "+path)
	}
	sameSet(t, "admin", operations(load(t), true), want)
}

// TestParameters looks for each name of a parameter that rewrite knows.
func TestParameters(t *testing.T) {
	known := map[string]bool{}
	for _, item := range load(t).Paths.Map() {
		for _, op := range item.Operations() {
			for _, p := range op.Parameters {
				known[p.Value.Name] = true
				for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(p.Value.Description, -1) {
					known[m[1]] = true
				}
			}
		}
	}
	names := found(t, "rewrite/params.go", `\{"(\w+)", param`, 15)
	for _, m := range found(t, "rewrite/params.go", `(?m)^var dimensions = .*$`, 1) {
		names = append(names, regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(m[0], -1)...)
	}
	for _, m := range names {
		if !known[m[1]] {
			t.Errorf("parameter %s is not described", m[1])
		}
	}
}

// usedResponses are the shared answers with their statuses.
func usedResponses(doc *openapi3.T) map[string]string {
	used := map[string]string{"WrongMethod": "405", "PublishedWrongMethod": "405"} // of what is not described
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				if name, ok := strings.CutPrefix(response.Ref, "#/components/responses/"); ok {
					used[name] = status
				}
			}
		}
	}
	return used
}

// errorCodes are the codes that an answer may have. The loader keeps what stands beside a
// reference in AllOf.
func errorCodes(response *openapi3.Response) (all []string) {
	media := response.Content["application/json"]
	if media == nil {
		return nil
	}
	for _, part := range media.Schema.Value.AllOf {
		if code := part.Value.Properties["code"]; code != nil {
			for _, value := range code.Value.Enum {
				all = append(all, "`"+value.(string)+"`")
			}
		}
	}
	return all
}

// codes are STATUS CODE of all shared answers with a schema for errors.
func codes(t *testing.T, doc *openapi3.T, schema string) (all []string) {
	t.Helper()
	used := usedResponses(doc)
	for name, response := range doc.Components.Responses {
		if used[name] == "" {
			t.Errorf("no operation has the answer %s", name)
		}
		media := response.Value.Content["application/json"]
		if media == nil || media.Schema.Ref != "#/components/schemas/"+schema {
			continue
		}
		for _, code := range errorCodes(response.Value) {
			all = append(all, used[name]+" "+strings.Trim(code, "`"))
		}
	}
	return all
}

// TestCodes compares the codes with the kinds of apierror.
func TestCodes(t *testing.T) {
	var want, published []string
	for _, m := range found(t, "internal/apierror/apierror.go", `= Kind\{http\.Status(\w+), "(\w+)"\}`, 20) {
		kind := apierror.Kind{Status: statuses[m[1]], Code: m[2]}
		if kind.Status == 0 {
			t.Fatalf("http.Status%s: add it to statuses", m[1])
		}
		want = append(want, strconv.Itoa(kind.Status)+" "+kind.Code)
		if kind == apierror.Internal || kind == apierror.Gone { // of the management API and of changes alone
			continue
		}
		w := httptest.NewRecorder()
		apierror.WritePublished(w, apierror.New(kind, "x"))
		var answer struct{ Code string }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		published = append(published, strconv.Itoa(kind.Status)+" "+answer.Code)
	}
	doc := load(t)
	sameSet(t, "apierror.Write", codes(t, doc, "Error"), want)
	sameSet(t, "apierror.WritePublished", codes(t, doc, "PublishedError"), published)
}

// statuses are by the names that http has for them.
var statuses = func() map[string]int {
	all := map[string]int{}
	for status := range 600 {
		if text := http.StatusText(status); text != "" {
			all[strings.NewReplacer(" ", "", "-", "").Replace(text)] = status
		}
	}
	return all
}()

// TestPublishedErrors sees that each operation has the errors of its own API.
func TestPublishedErrors(t *testing.T) {
	for path, item := range load(t).Paths.Map() {
		for method, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				name, isRef := strings.CutPrefix(response.Ref, "#/components/responses/")
				if isRef && status >= "400" && strings.HasPrefix(name, "Published") != rewrite.IsPublished("/api/v2"+path) {
					t.Errorf("%s %s has %s for %s", method, path, name, status)
				}
			}
		}
	}
}

// TestRepeatable sees that 304 is described where If-None-Match is, and only there.
func TestRepeatable(t *testing.T) {
	for path, item := range load(t).Paths.Map() {
		for method, op := range item.Operations() {
			takes := op.Parameters.GetByInAndName("header", "If-None-Match") != nil
			if answers := op.Responses.Value("304") != nil; takes != answers {
				t.Errorf("%s %s: If-None-Match %v, 304 %v", method, path, takes, answers)
			}
		}
	}
}
