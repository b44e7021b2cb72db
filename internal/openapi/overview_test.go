package openapi

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// overviewRow is an operation of the table that has all of them.
type overviewRow struct {
	name, does, answer           string
	methods, parameters, refused []string
	inPath, body                 bool
}

const aboutOverview = `- ` + "`p`" + ` is the name of a phext, which is a file. Without it, the unnamed phext is meant.
- ` + "`c`" + ` is a coordinate, the place of a scroll in the phext. Without it, ` + "`1.1.1/1.1.1/1.1.1`" + ` is meant.
  If a path ends in ` + "`/C`" + `, the coordinate can stand there instead.
- ` + "`s`" + ` is the text of the scroll. It can be the body instead.

` + "`update` replaces the text of a scroll, and `insert` appends to it." + ` Where there is no scroll
yet, both make one.`

// writeOverview writes a table that fits on a screen, of all operations but those of
// the management API.
func writeOverview(out *strings.Builder, t *testing.T, doc *openapi3.T, paths []string) {
	var rows []*overviewRow
	var all [][]string // the refusals of each row
	for _, tag := range doc.Tags {
		if tag.Name == "management" {
			continue
		}
		of := map[string]*overviewRow{}
		for _, o := range ofTag(t, doc, paths, tag.Name) {
			name := strings.Split(o.paths[0], "/")[1]
			if of[name] == nil {
				of[name] = &overviewRow{name: name, does: o.Summary, answer: o.shortAnswer()}
				rows = append(rows, of[name])
			}
			of[name].add(o)
		}
	}
	for _, r := range rows {
		if len(r.refused) > 1 { // the others need no key
			all = append(all, r.refused)
		}
	}
	common := slices.DeleteFunc(slices.Clone(all[0]), func(status string) bool {
		return slices.ContainsFunc(all, func(refused []string) bool { return !slices.Contains(refused, status) })
	})
	fmt.Fprintf(out, "## All operations\n\n%s\n\n| path | methods | parameters | does | answer | refusals |\n|---|---|---|---|---|---|\n", aboutOverview)
	for _, r := range rows {
		r.write(out, common)
	}
	fmt.Fprintf(out, "\n\"+\" stands for %s. [Other answers](#other-answers) says what each\nmeans. HEAD works where GET reads.\n\n", strings.Join(common, ", "))
}

func (r *overviewRow) add(o *operation) {
	for _, method := range o.methods {
		if method != "HEAD" && !slices.Contains(r.methods, method) {
			r.methods = append(r.methods, method)
		}
	}
	for _, p := range append(slices.Clone(o.item.Parameters), o.Parameters...) {
		if name := "`" + p.Value.Name + "`"; p.Value.In == "query" && !slices.Contains(r.parameters, name) {
			r.parameters = append(r.parameters, name)
		}
	}
	for _, path := range o.paths {
		r.inPath = r.inPath || strings.Contains(path, "{")
	}
	r.body = r.body || o.RequestBody != nil
	for status := range o.Responses.Map() {
		if status >= "400" && !slices.Contains(r.refused, status) {
			r.refused = append(r.refused, status)
		}
	}
	slices.Sort(r.refused)
}

var number = regexp.MustCompile(`\\d\+`)

// shortAnswer is the form of a text that has one, and otherwise what the answer is.
func (o *operation) shortAnswer() string {
	response := o.Responses.Value("200").Value
	if text := response.Content["text/plain"]; text != nil && number.MatchString(text.Schema.Value.Pattern) {
		return "`" + strings.Trim(number.ReplaceAllString(text.Schema.Value.Pattern, "N"), "^$") + "`"
	}
	answer := strings.TrimSuffix(*response.Description, ".")
	if len(response.Content) == 1 && response.Content["application/json"] != nil {
		answer += ", as JSON"
	}
	return answer
}

func (r *overviewRow) write(out *strings.Builder, common []string) {
	path, parameters := "/"+r.name, strings.Join(r.parameters, " ")
	if r.inPath {
		path += "/C"
	}
	if r.body {
		parameters = strings.TrimSpace(parameters + " body")
	}
	own := r.refused
	if len(own) >= len(common) {
		own = append([]string{"+"}, slices.DeleteFunc(slices.Clone(own), func(status string) bool { return slices.Contains(common, status) })...)
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s | %s |\n", path, strings.Join(r.methods, " "), parameters, r.does, r.answer, strings.Join(own, " "))
}
