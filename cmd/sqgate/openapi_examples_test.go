package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"mirrorborn.us/sqgate/internal/openapi"
)

// exampleMethods is the order in which the examples of a path are sent.
var exampleMethods = []string{"PUT", "POST", "GET", "HEAD", "PATCH", "DELETE"}

// TestExamplesOfTheDescription sends the example of each operation, which must succeed;
// send checks the answer.
func TestExamplesOfTheDescription(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will")
		g.args = []string{"--bucket", "file://" + t.TempDir(), "--host-name", "sq2", "--host-listen", "127.0.0.1:0"}
		g.start()
		doc, err := openapi3.NewLoader().LoadFromData([]byte(openapi.JSON))
		if err != nil {
			t.Fatal(err)
		}
		sent := 0
		for _, path := range examplePaths(t, doc) {
			for _, method := range exampleMethods {
				op := doc.Paths.Value(path).GetOperation(method)
				for _, media := range exampleBodies(op) {
					g.sendExample(doc, path, method, media)
					sent++
				}
			}
		}
		if sent < 70 {
			t.Errorf("only %d examples were sent", sent)
		}
	})
}

// examplePaths has all paths: first those that store something, and last those that
// remove something.
func examplePaths(t *testing.T, doc *openapi3.T) []string {
	t.Helper()
	first := []string{"/admin/tenants/add", "/update", "/insert", "/write"}
	last := []string{"/delete", "/delete/{coordinate}", "/admin/tenants/{id}", "/admin/tenants/{id}/purge"}
	paths := slices.DeleteFunc(doc.Paths.Keys(), func(path string) bool { return slices.Contains(first, path) || slices.Contains(last, path) })
	slices.Sort(paths)
	return slices.Concat(first, paths, last)
}

// exampleBodies are the media types with an example; "" for an operation without a body.
func exampleBodies(op *openapi3.Operation) (media []string) {
	switch {
	case op == nil:
		return nil
	case op.RequestBody == nil:
		return []string{""}
	}
	for name, content := range op.RequestBody.Value.Content {
		if content.Example != nil {
			media = append(media, name)
		}
	}
	return media
}

// sendExample sends the example of an operation, with a body of one type.
func (g *gate) sendExample(doc *openapi3.T, path, method, media string) {
	g.t.Helper()
	item := doc.Paths.Value(path)
	op, target, query := item.GetOperation(method), path, url.Values{}
	for _, p := range append(slices.Clone(item.Parameters), op.Parameters...) {
		switch value, given := p.Value.Example.(string); {
		case given && p.Value.In == "path":
			target = strings.Replace(target, "{"+p.Value.Name+"}", value, 1)
		case given && p.Value.In == "query":
			query.Set(p.Value.Name, value)
		}
	}
	var body string
	switch example := exampleOf(op, media).(type) {
	case nil:
	case string:
		body = example
	default:
		text, err := json.Marshal(example)
		if err != nil {
			g.t.Fatal(err)
		}
		body = string(text)
	}
	prefix := doc.Servers[0].URL
	if len(item.Servers) > 0 { // the front page
		prefix = strings.TrimSuffix(item.Servers[0].URL, "/")
	}
	req, err := http.NewRequest(method, g.url+prefix+target+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	switch {
	case slices.Contains(op.Tags, "management"):
		req.Header.Set("Authorization", "Bearer "+adminKey)
	case op.Security == nil:
		req.Header.Set("Authorization", "Bearer "+g.key("will"))
	}
	if r, err := g.send(req); err != nil || r.status >= 300 {
		g.t.Errorf("%s %s %s: %v %d %s", method, req.URL, body, err, r.status, r.body)
	}
}

func exampleOf(op *openapi3.Operation, media string) any {
	if media == "" {
		return nil
	}
	return op.RequestBody.Value.Content[media].Example
}

// TestAPIPage runs the lines of docs/api.md as they are printed, in each language that is
// on the machine. All print the same.
func TestAPIPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		want := ""
		for _, language := range []struct {
			name, program string
			args          []string
		}{
			{"sh", "sh", []string{"-s"}}, {"python", "python3", []string{"-"}}, {"js", "node", []string{"--input-type=module"}}, {"csharp", "dotnet", []string{"script"}},
		} {
			program, err := exec.LookPath(language.program)
			if err != nil {
				t.Logf("%s is not run: there is no %s on this machine", language.name, language.program)
				continue
			}
			g := startGate(t, sq, "will")
			ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
			cmd := exec.CommandContext(ctx, program, language.args...)
			cmd.Env = append(os.Environ(), "URL="+g.url, "KEY="+g.key("will"))
			cmd.Stdin = strings.NewReader(inFences(string(page), language.name))
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				t.Errorf("%s: %v\n%s", language.name, err, out)
			}
			got := momentOrSpace.ReplaceAllString(string(out), "")
			if want == "" {
				want = got
				for _, says := range []string{"Updated5bytes", "HelloHello", `"bytes_written":5`, `"total":1`, `"score":`, `"deleted":true`} {
					if !strings.Contains(got, says) {
						t.Errorf("%s prints no %s:\n%s", language.name, says, out)
					}
				}
			}
			if got != want {
				t.Errorf("%s prints\n%s\nwant\n%s", language.name, got, want)
			}
		}
	})
}

// momentOrSpace is what may differ between two runs.
var momentOrSpace = regexp.MustCompile(`"\d+-\d+-\d+T[^"]*"|\s`)

// inFences is the code of one language in a page.
func inFences(page, language string) string {
	var code strings.Builder
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(page, -1) {
		code.WriteString(m[1])
	}
	return code.String()
}
