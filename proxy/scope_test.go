package proxy

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/tenants"
)

const (
	guestKey = "key-of-the-guest"
)

// guest is a tenants file's entry of a key.
func guest(access string, phexts []string, prefix string) map[string]any {
	k := map[string]any{"id": "guest", "sha256": tenants.SumOf([]byte(guestKey)), "access": access}
	if phexts != nil {
		k["phexts"] = phexts
	}
	if prefix != "" {
		k["prefix"] = prefix
	}
	return k
}

func (w *world) asGuest(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	return w.ask(method, target, body, append(headers, "Authorization", "Bearer "+guestKey)...)
}

// scopeModel says what a key is for, in the words of the tenants file.
type scopeModel struct {
	access string
	phexts []string
	prefix string
	below  []string // labels of the scrolls of these tests that begin with prefix
}

func (m scopeModel) covers(name, label string) bool {
	of := name
	for strings.HasSuffix(of, ".names") {
		of = strings.TrimSuffix(of, ".names")
	}
	there := m.phexts == nil
	for _, pattern := range m.phexts {
		ok, _ := path.Match(pattern, of)
		there = there || ok
	}
	if m.prefix == "" || !there {
		return there
	}
	for _, one := range m.below {
		if one == label {
			return of == name
		}
	}
	return false
}

// labels are the coordinates and names of these tests.
var labels = []string{"1.1.1/1.1.1/1.1.1", "2.3.1/1.1.1/1.1.1", "2.3.1/1.1.1/1.1.5", "23.1.1/1.1.1/1.1.1", "docs.other.1", "docs.readme.1", "docs.readme.2", "2.3.zoo"}

// fill puts phexts in which what the key must not see depends on the world.
func (m scopeModel) fill(w *world, number int) {
	for _, name := range []string{"notes", "log-1", "secret", ""} {
		var scrolls, names []phext.Scroll
		at := phext.Coordinate{999, 1, 1, 1, 1, 1, 1, 1, 1}
		step := uint32(1)
		if number == 2 && (m.prefix != "" || !m.covers(name, "")) { // the names of others have taken some
			at[8], step = 4, 2
		}
		for _, label := range labels {
			text := "text of " + label
			if !m.covers(name, label) {
				if number == 2 && label == "23.1.1/1.1.1/1.1.1" {
					continue
				}
				text = strings.Repeat("hidden text ", number)
			}
			place, err := phext.ParseCoordinate(label)
			if err != nil {
				place = at
				names = append(names, phext.Scroll{At: at, Text: label})
				at[8] += step
			}
			scrolls = append(scrolls, phext.Scroll{At: place, Text: text})
		}
		w.put(name+".phext", phext.Of(scrolls).Render())
		w.put(name+".names.phext", phext.Of(names).Render())
	}
}

// scrolls are all there are, by phext and label.
func (w *world) scrolls() map[[2]string]string {
	all := map[[2]string]string{}
	files, err := filepath.Glob(filepath.Join(w.dir.Path, "*.phext"))
	w.check(err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".phext")
		text, err := os.ReadFile(file)
		w.check(err)
		named, _ := os.ReadFile(filepath.Join(w.dir.Path, name+".names.phext"))
		names := phext.Parse(string(named))
		for s := range phext.Parse(string(text)).All() {
			label, ok := names.Select(s.At)
			if !ok {
				label = s.At.String()
			}
			all[[2]string{name, label}] = s.Text
		}
	}
	return all
}

var times = regexp.MustCompile(`"(modified|timestamp|time)":"[^"]*"|\d{4}-\d\d-\d\dT[0-9:.]*Z|Connection ID: \d+`)

// TestScopes sends random requests with a key to two worlds, which differ in what is out
// of its scope alone. The answers are the same, to the last header, and nothing changes
// but what the key may change.
func TestScopes(t *testing.T) {
	below23 := []string{"2.3.1/1.1.1/1.1.1", "2.3.1/1.1.1/1.1.5", "2.3.zoo"}
	readme := []string{"docs.readme.1", "docs.readme.2"}
	for _, m := range []scopeModel{
		{access: "read", phexts: []string{"notes"}},
		{access: "append", phexts: []string{"log-*"}},
		{access: "read-write", phexts: []string{"notes", ""}},
		{access: "read", prefix: "2.3", below: below23},
		{access: "append", prefix: "docs.readme.1", below: readme},
		{access: "read-write", prefix: "docs.readme.1", below: readme},
		{access: "read-write", phexts: []string{"no*"}, prefix: "2.3", below: below23},
		{access: "append"},
	} {
		for _, memory := range []int64{1 << 20, 0} {
			t.Run(fmt.Sprintf("%s %q %q, %d", m.access, m.phexts, m.prefix, memory), func(t *testing.T) {
				var worlds [2]*world
				began := time.Now()
				moments := [2][]time.Time{{began}, {began}}
				for i := range worlds {
					worlds[i] = newWorld(t, options{readMemory: memory, tenant: map[string]any{"keys": []any{guest(m.access, m.phexts, m.prefix)}, "quota_mb": 1, "allow_delimiters": true}})
					worlds[i].KeyLimit = keylimit.PerMinute(1<<20, time.Now)
					m.fill(worlds[i], i+1)
				}
				rapid.Check(t, func(rt *rapid.T) { m.try(rt, worlds, &moments) })
			})
		}
	}
}

// try sends one request. moments are the times between requests, in each world.
func (m scopeModel) try(rt *rapid.T, worlds [2]*world, moments *[2][]time.Time) {
	op := rapid.SampledFrom([]string{"select", "read", "toc", "get", "json-export", "delta", "checksum", "status", "load", "list", "search", "query", "where",
		"insert", "update", "write", "delete", "insert", "update", "write", "batch", "batch", "usage", "history", "history", "restore", "restore", "restore"}).Draw(rt, "op")
	method := rapid.SampledFrom([]string{"GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE"}).Draw(rt, "method")
	name := rapid.SampledFrom([]string{"notes", "notes", "log-1", "secret", "", "notes.names", "secret.names", "none", "*"}).Draw(rt, "phext")
	at := rapid.SampledFrom(append(labels, "999.1.1/1.1.1/1.1.1", "999.1.1/1.1.1/1.1.4", "docs.readme.9", "2.3.9", "5")).Draw(rt, "coordinate")
	other := rapid.SampledFrom(append(labels, "999.999.999/999.999.999/999.999.999")).Draw(rt, "other")
	text := rapid.SampledFrom([]string{"", "new", "text of 2.3.1/1.1.1/1.1.1", "two\x17scrolls", at + "\n" + other, at + ": 0123"}).Draw(rt, "text")
	target, texts := "/api/v2/"+op+"?p="+name, [2]string{text, text}
	switch op {
	case "list":
		target = "/api/v2/list/" + rapid.SampledFrom([]string{"", "2", "docs.readme.1", "docs.1", at}).Draw(rt, "prefix") + "?p=" + name
	case "search":
		target += "&q=" + rapid.SampledFrom([]string{"text", "hidden", "of"}).Draw(rt, "q")
	case "query":
		target += rapid.SampledFrom([]string{"", "&set=" + at, "&from=1.1.1/1.1.1/1.1.1&to=999.999.999/999.999.999/999.999.999", "&from=" + at + "&to=" + other}).Draw(rt, "query")
	case "history":
		target += rapid.SampledFrom([]string{"", "", "&c=" + at, "&limit=3"}).Draw(rt, "of")
	case "restore":
		target, method = "/api/v2/restore", rapid.SampledFrom([]string{"POST", "POST", "POST", "GET"}).Draw(rt, "restore")
		of := rapid.SampledFrom([]string{"", "", `,"c":"` + at + `"`, `,"to":""`, `,"to":"secret"`, `,"to":"log-1"`, `,"to":"notes.names"`}).Draw(rt, "of")
		then := rapid.IntRange(0, len(moments[0])-1).Draw(rt, "moment")
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"phext":%q,"at":%q%s}`, name, moments[i][then].Format(time.RFC3339Nano), of)
		}
	case "batch":
		method, text = "POST", drawBatch(rt)
		texts = [2]string{text, text}
	case "write", "read", "delete":
		target = "/api/v2/" + op + "/" + at + "?p=" + name
	default:
		target += "&c=" + at
	}
	headers := []string{"Idempotency-Key", rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "idempotency")}
	if rapid.Bool().Draw(rt, "without") {
		headers = nil
	}
	var answers [2]string
	m.hide(rt, worlds)
	for i, w := range worlds {
		before := w.scrolls()
		r := w.asGuest(method, target, texts[i], headers...)
		moments[i] = append(moments[i], time.Now())
		h := r.Header()
		if strings.Contains(r.Body.String(), `"modified"`) {
			h.Del("Etag") // it is of that time, too
		}
		answers[i] = fmt.Sprint(r.Code, times.ReplaceAllString(r.Body.String(), ""), h["Etag"], h["X-Sq-Quota-Used"], h["Retry-After"])
		if strings.Contains(r.Body.String(), "hidden text") {
			rt.Fatalf("%s %s shows %s", method, target, r.Body)
		}
		m.mayHaveChanged(rt, before, w.scrolls())
	}
	if m.phexts == nil && m.prefix == "" {
		return // there is nothing that it must not see
	}
	if answers[0] != answers[1] {
		rt.Fatalf("%s %s %q:\n%s\nand\n%s", method, target, text, answers[0], answers[1])
	}
}

// hide has the tenant itself write what the key must not see, now and then: in the second
// world twice.
func (m scopeModel) hide(rt *rapid.T, worlds [2]*world) {
	name, label := rapid.SampledFrom([]string{"notes", "log-1", "secret", ""}).Draw(rt, "hidden phext"), rapid.SampledFrom(labels).Draw(rt, "hidden")
	if m.covers(name, label) || rapid.IntRange(0, 2).Draw(rt, "hide") > 0 {
		return
	}
	for i, w := range worlds {
		for n := range i + 1 {
			if r := w.ask("PUT", "/api/v2/update?p="+name+"&c="+label, strings.Repeat("hidden text ", 1+i+n)); r.Code != 200 {
				rt.Fatalf("%d %s", r.Code, r.Body)
			}
		}
	}
}

// drawBatch draws the body of a batch.
func drawBatch(rt *rapid.T) string {
	var all []string
	for range rapid.IntRange(1, 4).Draw(rt, "operations") {
		op := rapid.SampledFrom([]string{"select", "insert", "update", "delete"}).Draw(rt, "operation")
		at := rapid.SampledFrom(append(labels, "999.1.1/1.1.1/1.1.1", "999.1.1/1.1.1/1.1.4", "docs.readme.9", "2.3.9")).Draw(rt, "at")
		fields := fmt.Sprintf(`"op":%q,"c":%q`, op, at)
		if op == "insert" || op == "update" {
			fields += fmt.Sprintf(`,"s":%q`, rapid.SampledFrom([]string{"", "new", "more"}).Draw(rt, "s"))
		}
		if rapid.IntRange(0, 3).Draw(rt, "precondition") == 0 {
			fields += `,"if_match":"*"`
		}
		all = append(all, "{"+fields+"}")
	}
	return `{"operations":[` + strings.Join(all, ",") + `]}`
}

// mayHaveChanged checks what is different against the key's rights.
func (m scopeModel) mayHaveChanged(rt *rapid.T, before, after map[[2]string]string) {
	for at, text := range after {
		was, there := before[at]
		of := [2]string{strings.TrimSuffix(at[0], ".names"), text}
		switch {
		case there && was == text:
		case strings.HasSuffix(at[0], ".names") && (m.covers(of[0], of[1]) || m.prefix != "" && strings.HasPrefix(text, "docs.readme")) && m.access != "read": // a new name
		case m.access == "read", !m.covers(at[0], at[1]) && !m.isNewBelow(at):
			rt.Fatalf("%q became %q and was %q", at, text, was)
		case m.access == "append" && !strings.HasPrefix(text, was):
			rt.Fatalf("%q was replaced: %q and was %q", at, text, was)
		}
	}
	for at, was := range before {
		if _, there := after[at]; !there && (m.access != "read-write" || !m.covers(at[0], at[1]) && !m.isNewBelow(at) && !strings.HasSuffix(at[0], ".names")) {
			rt.Fatalf("%q is gone, and was %q", at, was)
		}
	}
}

// isNewBelow says whether a scroll is one of those that the requests make, and in scope.
func (m scopeModel) isNewBelow(at [2]string) bool {
	return m.prefix == "docs.readme.1" && at[1] == "docs.readme.9" || m.prefix == "2.3" && at[1] == "2.3.1/1.1.1/1.1.9" && m.covers(at[0], m.below[0])
}

// TestRefusalsOfADeletedTenantAreNotCounted: its series ended when it was deleted.
func TestRefusalsOfADeletedTenantAreNotCounted(t *testing.T) {
	will := map[string]any{"keys": []any{guest("read", nil, "")}}
	w := newWorld(t, options{readMemory: 1 << 20, tenant: will})
	counted := 0
	w.KeyRefused = func(string, *tenants.Key, string) { counted++ }
	for _, deleted := range []bool{false, true} {
		will["archived"], counted = deleted, 0
		w.setTenant(will)
		w.check(w.store.Reload())
		w.wantError(w.asGuest("POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "text"), 403, map[bool]string{false: "forbidden", true: "tenant_disabled"}[deleted])
		if (counted == 0) != deleted {
			t.Errorf("deleted: %v, counted: %d", deleted, counted)
		}
	}
}
