package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"mirrorborn.us/sqgate/internal/openapi"
	"mirrorborn.us/sqgate/rewrite"
)

// described checks answers against the description of the HTTP interface.
type described struct {
	doc      map[string]any
	compiler *jsonschema.Compiler
	mu       sync.Mutex
	schemas  map[string]*jsonschema.Schema // by their place in doc
}

// description is parsed once.
var description = sync.OnceValue(func() *described {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(openapi.JSON))
	if err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", doc); err != nil {
		panic(err)
	}
	return &described{doc: doc.(map[string]any), compiler: c, schemas: map[string]*jsonschema.Schema{}}
})

// check says in what an answer differs from what is described for its operation.
func (d *described) check(method, path string, r reply) error {
	path, known := d.pathOf(path)
	if method == http.MethodOptions || !known {
		return nil
	}
	item := d.doc["paths"].(map[string]any)[path].(map[string]any)
	operation, ok := item[strings.ToLower(method)].(map[string]any)
	where := []string{"paths", path, strings.ToLower(method), "responses", fmt.Sprint(r.status)}
	switch {
	case r.status == http.StatusMethodNotAllowed && !ok:
		name := "WrongMethod"
		if rewrite.IsPublished("/api/v2" + path) {
			name = "PublishedWrongMethod"
		}
		where = []string{"components", "responses", name}
	case !ok && r.status < 400:
		return fmt.Errorf("%s %s is not described, and is answered %d", method, path, r.status)
	case !ok: // before the method counts, another thing was wrong
		return nil
	case operation["responses"].(map[string]any)[fmt.Sprint(r.status)] == nil:
		return fmt.Errorf("%s %s is answered %d %.200q, which is not described", method, path, r.status, r.body)
	}
	if method == http.MethodHead {
		return nil
	}
	if err := d.checkBody(where, r); err != nil {
		return fmt.Errorf("%s %s is answered %d %.500q, and this differs from the description: %w", method, path, r.status, r.body, err)
	}
	return nil
}

// pathOf is the described path that the path of a request means.
func (d *described) pathOf(path string) (template string, known bool) {
	_, path, _ = rewrite.SplitPathKey(path)
	all := d.doc["paths"].(map[string]any)
	if path == "/" {
		return path, true
	}
	if rest, ok := strings.CutPrefix(path, "/api/v2"); ok && (strings.HasPrefix(rest, "/admin/") || rest == "/metrics") {
		parts := strings.Split(rest, "/")
		if len(parts) > 3 && rest != "/admin/tenants/add" {
			parts[3] = "{id}"
		}
		template = strings.Join(parts, "/")
		return template, all[template] != nil
	}
	if op, _ := rewrite.Find(http.MethodGet, path); op == "" {
		return "", false
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range parts[:min(len(parts), 5)] { // behind t, the id, api and v2
		item, ok := all["/"+part]
		at, behind := all["/"+part+"/{coordinate}"], "/{coordinate}"
		if part == "list" {
			at, behind = item, "/{prefix}"
		}
		rest := strings.Join(parts[i+1:], "/")
		switch {
		case !ok && at == nil:
		case rest == "":
			return "/" + part, ok
		default:
			return "/" + part + behind, at != nil
		}
	}
	return "", false
}

func (d *described) checkBody(where []string, r reply) error {
	response, where := d.follow(where)
	content, _ := response["content"].(map[string]any)
	if content == nil {
		if r.body != "" {
			return errors.New("it has a body")
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil || content[media] == nil {
		return fmt.Errorf("the content type is %q", r.header.Get("Content-Type"))
	}
	headers, _ := response["headers"].(map[string]any)
	if headers["Retry-After"] != nil && r.header.Get("Retry-After") == "" || headers["Allow"] != nil && r.header.Get("Allow") == "" {
		return errors.New("it lacks Retry-After or Allow")
	}
	text, err := decompressed(r)
	if err != nil {
		return err
	}
	value := any(text)
	if media == "application/json" {
		if value, err = jsonschema.UnmarshalJSON(strings.NewReader(text)); err != nil {
			return err
		}
	}
	schema, err := d.schema(append(where, "content", media, "schema"))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func decompressed(r reply) (string, error) {
	if r.header.Get("Content-Encoding") != "gzip" {
		return r.body, nil
	}
	in, err := gzip.NewReader(strings.NewReader(r.body))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(in)
	return string(text), err
}

// follow finds what is at a place of the description. The place of a reference is its
// target's.
func (d *described) follow(where []string) (map[string]any, []string) {
	at := d.doc
	for _, name := range where {
		at = at[name].(map[string]any)
	}
	if ref, ok := at["$ref"].(string); ok {
		return d.follow(strings.Split(strings.TrimPrefix(ref, "#/"), "/"))
	}
	return at, where
}

// schema is compiled once.
func (d *described) schema(where []string) (*jsonschema.Schema, error) {
	pointer := ""
	for _, name := range where {
		pointer += "/" + escape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name), "~-._")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.schemas[pointer]; s != nil {
		return s, nil
	}
	s, err := d.compiler.Compile("openapi.json#" + pointer)
	if err == nil {
		d.schemas[pointer] = s
	}
	return s, err
}

// TestDescriptionIsChecked sees that answers which are not described are noticed.
func TestDescriptionIsChecked(t *testing.T) {
	t.Parallel()
	answer := func(status int, contentType, body string, more ...string) reply {
		h := http.Header{"Content-Type": {contentType}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return reply{status, h, body}
	}
	const text, json = "text/plain; charset=utf-8", "application/json"
	for _, test := range []struct {
		method, path string
		answer       reply
		ok           bool
	}{
		{"GET", "/api/v2/select", answer(200, text, "x"), true},
		{"GET", "/t/will/api/v2/select/1.1.1/1.1.1/1.1.1", answer(200, text, "x"), true},
		{"GET", "/k/a-path-key/api/v2/select", answer(200, json, "x"), false},
		{"GET", "/api/v2/select", answer(201, text, "x"), false},
		{"GET", "/will/select", answer(404, json, `{"error":"e","code":"not_found"}`), true},
		{"GET", "/will/select", answer(404, json, `{"error":"e","code":"NOT_FOUND"}`), false},
		{"GET", "/will/select", answer(404, json, `{"error":"e","code":"not_found","details":{}}`), false},
		{"PUT", "/update", answer(200, text, "Updated 5 bytes"), true},
		{"PUT", "/update", answer(200, text, "Inserted 5 bytes"), false},
		{"PATCH", "/update", answer(405, json, `{"error":"e","code":"method_not_allowed"}`, "Allow", "GET"), true},
		{"PATCH", "/update", answer(405, json, `{"error":"e","code":"method_not_allowed"}`), false},
		{"PATCH", "/update", answer(200, text, ""), false},
		{"GET", "/api/v2/read/1.1.1", answer(404, json, `{"error":"e","code":"NOT_FOUND","coordinate":"1.1.1","details":{}}`), true},
		{"GET", "/api/v2/read/1.1.1", answer(404, json, `{"error":"e","code":"NOT_FOUND"}`), false},
		{"GET", "/api/v2/read/1.1.1", answer(200, text, ""), false},
		{"GET", "/api/v2/list/1.1.1", answer(200, json, `{"prefix":"1.1.1","count":0,"total":0,"coordinates":[],"scrolls":[]}`), true},
		{"GET", "/api/v2/list/1.1.1", answer(200, json, `{"prefix":"1.1.1","count":0,"total":0,"coordinates":null,"scrolls":[]}`), false},
		{"GET", "/api/v2/select", answer(429, json, `{"error":"e","code":"rate_limited"}`), false},
		{"GET", "/api/v2/admin/tenants/will/logs", answer(200, json, `{"tenant_id":"will","lines":[]}`), true},
		{"GET", "/api/v2/admin/tenants/will/logs", answer(200, json, `{"tenant_id":"will","lines":null}`), false},
		{"PUT", "/api/v2/write/1.1.1", answer(200, json, `{"status":"ok","ok":true,"coordinate":"1.1.1","bytes_written":1,"bytes":1,"timestamp":"2026-02-13T18:30:00Z"}`), true},
		{"PUT", "/api/v2/write/1.1.1", answer(200, json, `{"status":"ok","ok":true,"coordinate":"1.1.1","bytes_written":1,"bytes":1,"timestamp":"today"}`), false},
	} {
		if err := description().check(test.method, test.path, test.answer); (err == nil) != test.ok {
			t.Errorf("%s %s: %v %q: %v", test.method, test.path, test.answer.status, test.answer.body, err)
		}
	}
}

// TestFrontPage has the page over a connection, where HEAD has its length.
func TestFrontPage(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		page, head := g.must("", "GET", "/", "", 200), g.must("", "HEAD", "/", "", 200)
		if !strings.HasPrefix(page.body, "This is sqgate") || strings.Contains(page.body, "will") || head.body != "" ||
			head.header.Get("Content-Length") != fmt.Sprint(len(page.body)) || page.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%+v, HEAD %+v", page, head)
		}
		g.must("will", "PUT", "/", "text", 405)
	})
}
