package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// page is docs/api.md.
func page(t *testing.T, text []byte, paths []string) []byte {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# API reference\n\n%s\n\n%s\n\n", introduction, doc.Info.Description)
	writeOverview(&out, t, doc, paths)
	fmt.Fprintf(&out, "## In four languages\n\n%s\n\n", aboutLanguages)
	for _, l := range languages {
		fmt.Fprintf(&out, "%s:\n\n```%s\n%s\n```\n\n", l.title, l.name, strings.TrimSpace(l.preamble))
	}
	for _, tag := range doc.Tags {
		fmt.Fprintf(&out, "## %s\n\n", tag.Description)
		for _, o := range ofTag(t, doc, paths, tag.Name) {
			o.write(&out)
		}
	}
	fmt.Fprint(&out, "## Shared parameters\n\n")
	var shared openapi3.Parameters
	for _, name := range sortedKeys(doc.Components.Parameters) {
		shared = append(shared, doc.Components.Parameters[name])
	}
	writeParameters(&out, shared)
	writeErrors(&out, doc)
	return []byte(strings.TrimSpace(out.String()) + "\n")
}

const introduction = `Made from [openapi.yaml](../internal/openapi/openapi.yaml), which sqgate serves as
` + "`GET /api/v2/openapi.json`" + `, without a key. [Clients](clients.md) explains keys, coordinates,
headers and errors, and the [management API](admin-api.md) has a page of its own.`

const aboutLanguages = `The main operations below have a line in each of four languages. These lines need what
comes next, and ` + "`URL` and `KEY`" + ` in the environment.`

// languages have a preamble, and a line for a request.
var languages = []struct {
	title, name, preamble string
	line                  func(method, target, body string) string
}{
	{"A shell", "sh", `api() { curl -sS -H "Authorization: Bearer $KEY" "$@"; echo; }`,
		func(method, target, body string) string {
			if body != "" {
				body = " --data-binary '" + body + "'"
			}
			return fmt.Sprintf(`api -X %s "$URL%s"%s`, method, target, body)
		}},
	{"Python", "python", `import os, urllib.request

def api(method, path, text=None):
    request = urllib.request.Request(os.environ["URL"] + path, text and text.encode(), {"Authorization": "Bearer " + os.environ["KEY"]}, method=method)
    with urllib.request.urlopen(request) as answer:
        print(answer.read().decode())
`, arguments("api(%s)")},
	{"JavaScript", "js", `async function api(method, path, body) {
  const answer = await fetch(process.env.URL + path, {method, body, headers: {Authorization: "Bearer " + process.env.KEY}});
  if (!answer.ok) throw new Error(await answer.text());
  console.log(await answer.text());
}
`, arguments("await api(%s);")},
	{"C#", "csharp", `using System;
using System.Net.Http;
using System.Threading.Tasks;

var client = new HttpClient();
client.DefaultRequestHeaders.Add("Authorization", "Bearer " + Environment.GetEnvironmentVariable("KEY"));

async Task Api(string method, string path, string? text = null)
{
    var request = new HttpRequestMessage(new HttpMethod(method), Environment.GetEnvironmentVariable("URL") + path);
    if (text != null) request.Content = new StringContent(text);
    var answer = (await client.SendAsync(request)).EnsureSuccessStatusCode();
    Console.WriteLine(await answer.Content.ReadAsStringAsync());
}
`, arguments("await Api(%s);")},
}

func arguments(format string) func(method, target, body string) string {
	return func(method, target, body string) string {
		list := fmt.Sprintf("%q, %q", method, target)
		if body != "" {
			list += fmt.Sprintf(", %q", body)
		}
		return fmt.Sprintf(format, list)
	}
}

// inLanguages are the operations with a line in each language.
var inLanguages = []string{
	"PUT /update", "POST /insert", "GET /select", "GET /toc", "GET /query", "DELETE /delete",
	"PUT /write/{coordinate}", "GET /read/{coordinate}", "GET /list/{prefix}", "GET /search", "DELETE /delete/{coordinate}",
}

// operation is one, whatever methods and paths it has.
type operation struct {
	*openapi3.Operation
	methods []string
	paths   []string
	item    *openapi3.PathItem // of the first path
}

// ofTag are the operations of a tag, in the order of the paths. Those that differ in
// nothing but method or path are one.
func ofTag(t *testing.T, doc *openapi3.T, paths []string, tag string) (all []*operation) {
	t.Helper()
	known := map[string]*operation{}
	for _, path := range paths {
		item := doc.Paths.Value(path)
		if item == nil {
			t.Fatalf("%s: the paths of openapi.yaml are not where they are looked for", path)
		}
		for _, method := range methods {
			op := item.GetOperation(strings.ToUpper(method))
			if op == nil || op.Tags[0] != tag {
				continue
			}
			same := *op
			same.OperationID = ""
			key, err := json.Marshal(same)
			if err != nil {
				t.Fatal(err)
			}
			one := known[string(key)]
			if one == nil {
				one = &operation{Operation: op, item: item}
				known[string(key)] = one
				all = append(all, one)
			}
			if !slices.Contains(one.methods, strings.ToUpper(method)) {
				one.methods = append(one.methods, strings.ToUpper(method))
			}
			if !slices.Contains(one.paths, path) {
				one.paths = append(one.paths, path)
			}
		}
	}
	return all
}

func (o *operation) write(out *strings.Builder) {
	fmt.Fprintf(out, "### %s\n\n`%s` of `%s`\n\n", o.Summary, strings.Join(o.methods, "`, `"), strings.Join(o.paths, "`, `"))
	if o.Description != "" {
		fmt.Fprintf(out, "%s\n\n", o.Description)
	}
	var shared []string
	var own openapi3.Parameters
	for _, p := range append(slices.Clone(o.item.Parameters), o.Parameters...) {
		if p.Ref == "" {
			own = append(own, p)
		} else {
			shared = append(shared, "`"+p.Value.Name+"`")
		}
	}
	writeParameters(out, own)
	if len(shared) > 0 {
		fmt.Fprintf(out, "[Shared parameters](#shared-parameters): %s.\n\n", strings.Join(shared, ", "))
	}
	if o.RequestBody != nil {
		fmt.Fprintf(out, "The body is %s.", contents(o.RequestBody.Value.Content))
		fmt.Fprintf(out, "%s\n\n", leadingBlank(o.RequestBody.Value.Description))
	}
	var errors []string
	for _, status := range sortedKeys(o.Responses.Map()) {
		response := o.Responses.Value(status).Value
		if status >= "300" {
			errors = append(errors, status)
			continue
		}
		fmt.Fprintf(out, "%s: %s", status, *response.Description)
		if len(response.Content) > 0 {
			fmt.Fprintf(out, " It is %s.", contents(response.Content))
		}
		fmt.Fprint(out, "\n\n")
	}
	if len(errors) > 0 {
		fmt.Fprintf(out, "[Other answers](#other-answers): %s.\n\n", strings.Join(errors, ", "))
	}
	for _, method := range o.methods {
		if !slices.Contains(inLanguages, method+" "+o.paths[0]) {
			continue
		}
		for _, l := range languages {
			fmt.Fprintf(out, "```%s\n%s\n```\n\n", l.name, l.line(method, "/api/v2"+o.target(), o.body()))
		}
	}
}

func writeParameters(out *strings.Builder, all openapi3.Parameters) {
	if len(all) == 0 {
		return
	}
	fmt.Fprint(out, "| parameter | in | meaning |\n|---|---|---|\n")
	for _, p := range all {
		fmt.Fprintf(out, "| `%s` | %s | %s%s |\n", p.Value.Name, p.Value.In, p.Value.Description, limits(p.Value))
	}
	fmt.Fprintln(out)
}

func leadingBlank(text string) string {
	if text != "" {
		text = " " + text
	}
	return text
}

// limits say what the schema of a parameter does.
func limits(p *openapi3.Parameter) string {
	var all []string
	if p.Required {
		all = append(all, "required")
	}
	if s := p.Schema.Value; s.Enum != nil || s.Default != nil {
		for _, value := range s.Enum {
			all = append(all, fmt.Sprintf("`%v`", value))
		}
		if s.Default != nil {
			all = append(all, fmt.Sprintf("default `%v`", s.Default))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// contents are media types with the form of JSON.
func contents(content openapi3.Content) string {
	var all []string
	for _, media := range sortedKeys(content) {
		one := "`" + media + "`"
		if form := shape(content[media].Schema.Value); media == "application/json" && form != "any" {
			one += ", `" + form + "`"
		}
		all = append(all, one)
	}
	return strings.Join(all, "; or ")
}

// shape is a schema in one line. What may be missing has a question mark.
func shape(s *openapi3.Schema) string {
	switch {
	case s.Const != nil:
		text, _ := json.Marshal(s.Const) // it was JSON
		return string(text)
	case s.Enum != nil:
		var all []string
		for _, value := range s.Enum {
			text, _ := json.Marshal(value) // it was JSON
			all = append(all, string(text))
		}
		return strings.Join(all, " or ")
	case len(s.OneOf) > 0:
		var all []string
		for _, one := range s.OneOf {
			all = append(all, shape(one.Value))
		}
		return strings.Join(all, " or ")
	case len(s.Properties) > 0:
		var all []string
		names := slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
			return cmp.Or(cmp.Compare(place(s.Required, a), place(s.Required, b)), cmp.Compare(a, b))
		})
		for _, name := range names {
			mark := "?"
			if slices.Contains(s.Required, name) {
				mark = ""
			}
			all = append(all, name+mark+": "+shape(s.Properties[name].Value))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case s.Items != nil:
		return "[" + shape(s.Items.Value) + ", ...]"
	case s.Type != nil:
		return strings.Join(s.Type.Slice(), " or ")
	}
	return "any"
}

// place is the index of a name, or behind all of them.
func place(names []string, name string) int {
	if i := slices.Index(names, name); i >= 0 {
		return i
	}
	return len(names)
}

// target is the path and query of the operation's example.
func (o *operation) target() string {
	path, query := o.paths[0], []string{}
	for _, p := range append(slices.Clone(o.item.Parameters), o.Parameters...) {
		switch value, given := p.Value.Example.(string); {
		case given && p.Value.In == "path":
			path = strings.Replace(path, "{"+p.Value.Name+"}", value, 1)
		case given && p.Value.In == "query":
			query = append(query, p.Value.Name+"="+strings.ReplaceAll(url.QueryEscape(value), "%2F", "/"))
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path
}

// body is the text of the operation's example, or "".
func (o *operation) body() string {
	if o.RequestBody == nil {
		return ""
	}
	text, _ := o.RequestBody.Value.Content["text/plain"].Example.(string)
	return text
}

// writeErrors writes a table of all answers that are not 2xx.
func writeErrors(out *strings.Builder, doc *openapi3.T) {
	fmt.Fprint(out, "## Other answers\n\n| status | code | code of the published API | means |\n|---|---|---|---|\n")
	rows := map[string]*[3]string{}
	used := usedResponses(doc)
	for name, response := range doc.Components.Responses {
		column, status := 0, used[name]
		if strings.HasPrefix(name, "Published") {
			column = 1
		}
		key := status + strings.TrimPrefix(name, "Published")
		if rows[key] == nil {
			rows[key] = new([3]string)
		}
		rows[key][column] = strings.Join(errorCodes(response.Value), " ")
		if column == 0 || rows[key][2] == "" {
			rows[key][2] = *response.Value.Description
		}
	}
	for _, key := range sortedKeys(rows) {
		row := rows[key]
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", key[:3], row[0], row[1], row[2])
	}
}
