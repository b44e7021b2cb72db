package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"mirrorborn.us/sqgate/rewrite"
)

// withKey is a RoundTripper that sends a key.
type withKey struct {
	key  string
	next http.RoundTripper
}

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+k.key)
	return k.next.RoundTrip(r)
}

// model is a client of the Model Context Protocol.
type model struct {
	*world
	session *sdk.ClientSession
}

// connect is a client at a path, with a key.
func (w *world) connect(path, key string) *model {
	w.Helper()
	server := httptest.NewServer(w.Handler())
	w.Cleanup(server.Close)
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test"}, nil).Connect(w.Context(), &sdk.StreamableClientTransport{
		Endpoint: server.URL + path, HTTPClient: &http.Client{Transport: withKey{key, server.Client().Transport}, Timeout: time.Minute},
	}, nil)
	w.check(err)
	w.Cleanup(func() { w.check(session.Close()) })
	return &model{w, session}
}

func (m *model) tools() (names []string) {
	m.Helper()
	list, err := m.session.ListTools(m.Context(), nil)
	m.check(err)
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	return names
}

// use calls a tool, whose arguments are JSON, and returns its texts.
func (m *model) use(tool, arguments string) (text string, failed bool) {
	m.Helper()
	result, err := m.session.CallTool(m.Context(), &sdk.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
	m.check(err)
	var texts []string
	for _, content := range result.Content {
		texts = append(texts, content.(*sdk.TextContent).Text)
	}
	return strings.Join(texts, "|"), result.IsError
}

// wants calls a tool, and looks at the beginning of its texts.
func (m *model) wants(tool, arguments, beginning string, failed bool) {
	m.Helper()
	if text, wrong := m.use(tool, arguments); !strings.HasPrefix(text, beginning) || wrong != failed || text == "" {
		m.Errorf("%s %s: %q, failed: %v, want %q, failed: %v", tool, arguments, text, wrong, beginning, failed)
	}
}

const one = `"coordinate":"1.1.1/1.1.1/1.1.1"`

// TestMCPTools uses each tool.
func TestMCPTools(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	for _, path := range []string{"/mcp", "/api/v2/mcp", "/will/mcp", "/t/will/api/v2/mcp/", "/k/" + pathKey + "/mcp"} {
		m := w.connect(path, key)
		if tools := m.tools(); len(tools) != 8 {
			t.Errorf("%s: %v", path, tools)
		}
		m.wants("read", `{"phext":"notes","coordinate":"1.1.1/1.1.1/1.1.3"}`, "the scroll|ETag ", false)
	}
	m := w.connect("/will/mcp", key)
	m.wants("write", `{"phext":"n",`+one+`,"content":"héllo"}`, "Updated 6 bytes|ETag ", false)
	m.wants("append", `{"phext":"n",`+one+`,"content":" wörld"}`, "Inserted 7 bytes|ETag ", false)
	m.wants("read", `{"phext":"n",`+one+`}`, "héllo wörld|ETag ", false)
	m.wants("read", `{"phext":"n",`+one+`,"offset":2,"limit":7}`, "llo w|bytes 3 to 8 of 13; read on with offset 8; ETag ", false)
	m.wants("read", `{"phext":"n",`+one+`,"offset":8}`, "örld|bytes 8 to 13 of 13; ETag ", false)
	m.wants("read", `{"phext":"n",`+one+`,"offset":13}`, "the scroll has only 13 bytes", true)
	m.wants("read", `{"phext":"n",`+one+`,"offset":-1,"limit":1}`, "hél|bytes 0 to 4 of 13; read on with offset 4; ETag ", false)
	m.wants("read", `{"phext":"n","coordinate":"9.9.9/9.9.9/9.9.9"}`, "there is no scroll at this coordinate", true)
	m.wants("write", `{"phext":"n","coordinate":"notes.today.1","content":"another day"}`, "Updated 11 bytes", false)
	m.wants("list", `{"phext":"n"}`, `{"prefix":"","count":2,"total":2,`, false)
	m.wants("list", `{"phext":"*","prefix":"notes.today/","limit":1}`, `{"prefix":"notes.today","count":1,"total":1,`, false)
	m.wants("search", `{"phext":"n","query":"DAY"}`, `{"query":"DAY",`, false)
	m.wants("query", `{"phext":"n","from":"1.1.1/1.1.1/1.1.1","to":"1.1.1/1.1.1/1.1.9"}`, `[{"coordinate":"1.1.1/1.1.1/1.1.1","scroll":"h`, false)
	m.wants("query", `{"phext":"n","coordinates":["notes.today.1","2.1.1/1.1.1/1.1.1"]}`, `[{"coordinate":"2.1.1/1.1.1/1.1.1","scroll":""},{"coordinate":"notes.today.1","scroll":"another day"}]`, false)
	m.wants("delete", `{"phext":"n","coordinate":"notes.today.1"}`, "Removed 11 bytes", false)
	m.wants("delete", `{"phext":"n","coordinate":"1.1.1/1.1.1/1.1.9"}`, "Removed 0 bytes", false)
	w.wantAllFree()
}

// TestMCPReadsInParts reads a long scroll, as the notes say, until it has all of it.
func TestMCPReadsInParts(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	text := strings.Repeat("aé€𐍈", 20_000)
	w.put("long.phext", text)
	m, got, parts := w.connect("/mcp", key), "", 0
	for offset := 0; offset < len(text); parts++ {
		all, failed := m.use("read", fmt.Sprintf(`{"phext":"long",%s,"offset":%d,"limit":100000}`, one, offset))
		part, note, _ := strings.Cut(all, "|")
		if got += part; failed || part == "" || len(part) > 64<<10 || !strings.HasPrefix(note, fmt.Sprintf("bytes %d to %d of %d;", offset, len(got), len(text))) {
			t.Fatalf("%d: %d bytes, %q", offset, len(part), note)
		}
		offset = len(got)
	}
	if got != text || parts != 4 {
		t.Errorf("%d bytes in %d parts", len(got), parts)
	}
	m.wants("query", `{"phext":"long","coordinates":["1.1.1/1.1.1/1.1.1"]}`, `[{"coordinate":`, false)
	if all, _ := m.use("query", `{"phext":"long","coordinates":["1.1.1/1.1.1/1.1.1"]}`); len(all) > 66<<10 || !strings.Contains(all, "only a part") {
		t.Errorf("%d bytes, %q", len(all), all[max(0, len(all)-100):])
	}
	w.wantAllFree()
}

// TestMCPErrors has a model read the errors of the API, which change nothing.
func TestMCPErrors(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"lists_per_minute": 1, "quota_mb": 1}})
	w.put("full.phext", strings.Repeat("x", 1<<20))
	w.Admin = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a tool reaches the management API") })
	m := w.connect("/api/v2/mcp", key)
	for _, test := range []struct{ tool, arguments, says string }{
		{"list", `"prefix":"../admin/tenants"`, "(403 forbidden)"},
		{"list", `"prefix":"../../../api/v2/metrics"`, "(403 forbidden)"},
		{"write", one + `,"content":"x","if_match":"abc"`, "(412 precondition_failed)"},
		{"write", one + `,"content":""`, ""},
		{"write", one + `,"content":"\u0001"`, "(400 scroll_has_delimiters)"},
		{"append", `"phext":"full",` + one + `,"content":"x"`, "(507 quota_exceeded)"},
		{"write", `"coordinate":"1.1.1/1.1.1/1.1.5","content":"x","if_match":"W/a\r\nX: y"`, "no ETag"},
		{"read", one + `,"phext":"../x"`, "(403 forbidden)"},
		{"read", `"coordinate":"no.such.name"`, "(404 not_found)"},
		{"read", `"coordinate":"1.1.1/"`, "(400 bad_coordinate)"},
		{"read", ``, "required"},
		{"read", one + `,"scroll":"x"`, "additional properties"},
		{"delete", `"coordinate":""`, "(400 bad_coordinate)"},
		{"delete", `"coordinate":"/"`, "(400 bad_coordinate)"},
		{"query", ``, "query needs a range"},
		{"list", `"prefix":"999.1/"`, ""},
		{"list", ``, "(429 RATE_LIMIT_EXCEEDED); try again in "},
	} {
		text, failed := m.use(test.tool, `{`+test.arguments+`}`)
		if !strings.Contains(text, test.says) || failed != (test.says != "") {
			t.Errorf("%s %.80s: %q, failed: %v, want %q", test.tool, test.arguments, text, failed, test.says)
		}
	}
	if _, err := m.session.CallTool(t.Context(), &sdk.CallToolParams{Name: "drop"}); err == nil {
		t.Error("there is a tool that is none")
	}
	w.wantAllFree()
}

// TestMCPRights shows each key its tools alone. What a tool does beyond its key's rights is
// refused as anywhere else.
func TestMCPRights(t *testing.T) {
	const reading, inScope, below = "history list query read search", `"phext":"notes","coordinate":"2.3.5/1.1.1/1.1.7"`, `"coordinate":"2.3.5/1.1.1/1.1.7"`
	for access, tools := range map[string]string{"read": reading, "append": "append " + reading + " write", "read-write": "append delete " + reading + " write"} {
		t.Run(access, func(t *testing.T) {
			w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"keys": []any{guest(access, []string{"notes"}, "2.3.5")}}})
			w.put("diary.phext", "secret")
			w.put("notes.phext", "secret")
			m := w.connect("/mcp", guestKey)
			want := strings.Fields(tools)
			slices.Sort(want)
			if got := m.tools(); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			for _, test := range []struct{ tool, arguments, says string }{
				{"read", `"phext":"notes",` + one, "(403 forbidden)"},
				{"read", `"phext":"diary",` + below, "(403 forbidden)"},
				{"list", `"phext":"*"`, `"count":0`},
				{"search", `"phext":"*","query":"ecre"`, `"total":0,"results":[]`},
				{"query", `"phext":"notes","from":"1.1.1/1.1.1/1.1.1","to":"9.1.1/1.1.1/1.1.1"`, "[]"},
				{"write", `"content":"x","phext":"notes",` + one, "(403 forbidden)"},
				{"write", `"content":"x",` + inScope, "Updated 1 bytes"},
				{"append", `"content":"y",` + inScope, "Inserted 1 bytes"},
				{"append", `"content":"y","phext":"diary",` + below, "(403 forbidden)"},
				{"write", `"content":"z",` + inScope, map[string]string{"append": "(403 forbidden)", "read-write": "Updated 1 bytes"}[access]},
				{"delete", `"phext":"notes",` + one, "(403 forbidden)"},
				{"delete", inScope, "Removed 1 bytes"},
			} {
				if !slices.Contains(want, test.tool) {
					if _, err := m.session.CallTool(t.Context(), &sdk.CallToolParams{Name: test.tool, Arguments: json.RawMessage("{" + test.arguments + "}")}); err == nil {
						t.Errorf("%s has no error", test.tool)
					}
				} else if text, _ := m.use(test.tool, "{"+test.arguments+"}"); !strings.Contains(text, test.says) || strings.Contains(text, "secret") {
					t.Errorf("%s %s: %q, want %q", test.tool, test.arguments, text, test.says)
				}
			}
		})
	}
}

// post sends a message as it is.
func (w *world) post(path, text string, headers ...string) *httptest.ResponseRecorder {
	return w.ask("POST", path, text, append([]string{"Mcp-Protocol-Version", "2025-11-25"}, headers...)...)
}

// toolCall is a message that calls a tool.
func toolCall(tool, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{` + arguments + `}}}`
}

const listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

// TestMCPRefused has requests that are no message, or not from a client with a key.
func TestMCPRefused(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"public": map[string]any{"phexts": []string{"notes"}}},
		others: []map[string]any{{"id": "eve", "api_key": "key-of-eve-is-long", "data_dir": t.TempDir()}}})
	for name, test := range map[string]struct {
		method, path, text string
		headers            []string
		status             int
		code               string
	}{
		"no key":             {"POST", "/will/mcp", listTools, []string{"Authorization", ""}, 401, "unauthorized"},
		"wrong key":          {"POST", "/mcp", listTools, []string{"Authorization", "Bearer wrong-and-long"}, 401, "unauthorized"},
		"no key, no message": {"GET", "/will/mcp", "", []string{"Authorization", ""}, 401, "unauthorized"},
		"nobody's id":        {"POST", "/nobody/mcp", listTools, nil, 403, "forbidden"},
		"another's id":       {"POST", "/eve/mcp", listTools, nil, 403, "forbidden"},
		"stream":             {"GET", "/mcp", "", nil, 405, "method_not_allowed"},
		"end of a session":   {"DELETE", "/mcp", "", nil, 405, "method_not_allowed"},
		"nothing":            {"POST", "/mcp", "", nil, 400, "bad_request"},
		"list":               {"POST", "/mcp", "[" + listTools + "," + listTools + "]", nil, 400, "bad_request"},
		"broken":             {"POST", "/mcp", listTools[:20], nil, 400, "bad_request"},
		"deep":               {"POST", "/mcp", toolCall("read", `"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)), nil, 400, "bad_request"},
		"many values":        {"POST", "/mcp", toolCall("query", `"coordinates":["1.1.1"`+strings.Repeat(`,"1.1.1"`, 1024)+"]"), nil, 400, "bad_request"},
		"no method":          {"POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"nothing"}`, nil, 400, "bad_request"},
		"old version":        {"POST", "/mcp", listTools, []string{"Mcp-Protocol-Version", "1999-01-01"}, 400, "bad_request"},
		"large":              {"POST", "/mcp", toolCall("write", `"content":"`+strings.Repeat("x", 256<<10)+`"`), nil, 413, "too_large"},
		"compressed":         {"POST", "/mcp", listTools, []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := w.ask(test.method, test.path, test.text, append([]string{"Mcp-Protocol-Version", "2025-11-25"}, test.headers...)...)
			w.wantError(answer, test.status, test.code)
			if allow := answer.Header().Get("Allow"); test.status == 405 && allow != "POST" {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
	w.wantAllFree()
}

// TestMCPIsOneCall counts a tool as the operation that it does, and any other message as a
// call. Both have a line in the log, with the same id.
func TestMCPIsOneCall(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20, tenant: map[string]any{"calls_per_day": 4}})
	for _, test := range []struct {
		text, says string
		status     int
	}{
		{listTools, `"name":"append"`, 200},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "", 202},
		{toolCall("read", `"phext":"notes","coordinate":"1.1.1/1.1.1/1.1.3"`), "the scroll", 200},
		{toolCall("nothing", ""), "unknown tool", 200},
		{toolCall("read", one), "429 rate_limited", 200},
		{listTools, `"code":"rate_limited"`, 429},
	} {
		answer := w.post("/mcp", test.text)
		if answer.Code != test.status || !strings.Contains(answer.Body.String(), test.says) {
			t.Errorf("%s: %d %s, want %d %q", test.text, answer.Code, answer.Body, test.status, test.says)
		}
		if id := answer.Header().Get("X-Request-Id"); strings.Contains(test.text, "1.1.3") {
			for _, op := range []string{"mcp", "select"} {
				if line := regexp.MustCompile(`.*request=` + id + `.* status=200 .* tenant=will op=` + op + `\n`); !line.MatchString(w.log.String()) {
					t.Errorf("the log has no line %v:\n%s", line, w.log)
				}
			}
		}
	}
	for _, text := range []string{key, "Bearer", "1.1.3"} {
		if strings.Contains(w.log.String(), text) {
			t.Errorf("the log has %q", text)
		}
	}
}

// TestMCPTakesItsAnswer counts a long answer as soon as its tool has it, and until it is sent.
func TestMCPTakesItsAnswer(t *testing.T) {
	w := newWorld(t, options{readMemory: 64 << 20})
	w.put("notes.phext", strings.Repeat("\x02", 65536))
	read := toolCall("read", `"phext":"notes","limit":65536,`+one)
	if answer := w.post("/mcp", read); answer.Code != 200 || answer.Body.Len() < 6*65536 {
		t.Fatalf("%d, %d bytes", answer.Code, answer.Body.Len())
	}
	release, ok := w.dir.Send(rewrite.Recipient{}, t, w.Dirs.Answers.Limit()/8-(600<<10)) // the part of this directory, with room for the scroll as JSON once
	if !ok {
		t.Fatal("something is reserved")
	}
	if answer := w.post("/mcp", read); answer.Code != 200 || !strings.Contains(answer.Body.String(), "isError") || !strings.Contains(answer.Body.String(), "(503 unavailable)") {
		t.Errorf("%d %.200s, though this tenant has all that it may", answer.Code, answer.Body)
	}
	if answer := w.post("/mcp", toolCall("write", `"phext":"notes","content":"x",`+one)); answer.Code != 200 || !strings.Contains(answer.Body.String(), "Updated") {
		t.Errorf("a write: %d %s", answer.Code, answer.Body)
	}
	release()
	w.wantAllFree()
}

// TestMCPLongTexts come to the tools and to the client as they are, whatever they are.
func TestMCPLongTexts(t *testing.T) {
	w := newWorld(t, options{readMemory: 64 << 20})
	long := strings.Repeat("a \"quoted\" \u00e9 \U0001F600\n", 2000)
	quoted, err := json.Marshal(long)
	w.check(err)
	id := strings.Repeat("id", 3000)
	message := `{"jsonrpc":"2.0","id":"` + id + `","method":"tools/call","params":{"name":"write","arguments":{"phext":"notes","content":` + string(quoted) + `,` + one + `}}}`
	answer := w.post("/mcp", message)
	var said struct{ ID string }
	if err := json.Unmarshal(answer.Body.Bytes(), &said); err != nil || answer.Code != 200 || said.ID != id || !strings.Contains(answer.Body.String(), "Updated") {
		t.Errorf("written: %d %v %.300s", answer.Code, err, answer.Body)
	}
	var read struct {
		Result struct{ Content []struct{ Text string } }
	}
	answer = w.post("/mcp", toolCall("read", `"phext":"notes","limit":65536,`+one))
	if err := json.Unmarshal(answer.Body.Bytes(), &read); err != nil || len(read.Result.Content) == 0 || read.Result.Content[0].Text != long {
		t.Errorf("read: %v %.300s", err, answer.Body)
	}
	for what, call := range map[string]string{
		"the name of a phext": toolCall("write", `"phext":"`+strings.Repeat("n", 9000)+`","content":"x",`+one),
		"a coordinate":        toolCall("write", `"phext":"notes","content":"x","coordinate":"`+strings.Repeat("1", 9000)+`"`),
		"an ETag":             toolCall("write", `"phext":"notes","content":"x","if_match":"`+strings.Repeat("e", 9000)+`",`+one),
	} {
		if answer := w.post("/mcp", call); answer.Code != 200 || !strings.Contains(answer.Body.String(), `"isError":true`) {
			t.Errorf("%s: %d %.300s", what, answer.Code, answer.Body)
		}
	}
	name := "a." + strings.Repeat("long", 30)
	if answer := w.post("/mcp", toolCall("write", `"phext":"notes","content":"under a long name","coordinate":"`+name+`"`)); !strings.Contains(answer.Body.String(), "Updated") {
		t.Errorf("%d %.300s", answer.Code, answer.Body)
	}
	if answer := w.post("/mcp", toolCall("query", `"phext":"notes","coordinates":["`+name+`","1.1.1/1.1.1/9.9.9"]`+strings.Repeat(" ", 9000))); !strings.Contains(answer.Body.String(), "under a long name") {
		t.Errorf("a query: %d %.300s", answer.Code, answer.Body)
	}
	if names, err := os.ReadDir(w.dir.Path); err != nil || len(names) != 2 { // with the names
		t.Errorf("%v, %v", names, err)
	}
	w.wantAllFree()
}

// TestMCPPanics ends the request, and not the process.
func TestMCPPanics(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.Observe = func(_, op string, _ int, _ string, _ time.Duration) {
		if op == "select" {
			panic("at the disco")
		}
	}
	defer func() {
		if v, _ := recover().(string); !strings.HasPrefix(v, "at the disco\n") || !strings.Contains(v, "mcp_test.go") {
			t.Errorf("the panic was %q", v)
		}
		w.wantAllFree()
	}()
	t.Errorf("it is answered %v", w.post("/mcp", toolCall("read", one)))
}

// TestMCPAtAnyHost has messages at both hosts, of which one has the phexts.
func TestMCPAtAnyHost(t *testing.T) {
	p, a, b, atA := twoHosts(t, options{readMemory: 1 << 20, tenant: map[string]any{"calls_per_day": 7}})
	read := toolCall("read", `"phext":"notes","coordinate":"1.1.1/1.1.1/1.1.3"`)
	for _, w := range []*world{a, b} {
		for _, test := range []struct{ text, says string }{
			{listTools, `"name":"append"`},
			{read, "at b"},
			{toolCall("write", `"content":"`+strings.Repeat("x", 60_000)+`","phext":"long",`+one), "Updated 60000 bytes"},
		} {
			if r := w.post("/will/mcp", test.text); r.Code != 200 || !strings.Contains(r.Body.String(), test.says) {
				t.Errorf("%.80s: %d %s", test.text, r.Code, r.Body)
			}
		}
	}
	for _, says := range []string{"at b", "429 rate_limited"} { // the owner counts, and each tool once
		if r := a.post("/mcp", read); !strings.Contains(r.Body.String(), says) {
			t.Errorf("%d %s, want %s", r.Code, r.Body, says)
		}
	}
	atA.remembered = "b"
	p.set("a")
	if r := a.post("/mcp", read); !strings.Contains(r.Body.String(), "at a") {
		t.Errorf("after a move: %d %s", r.Code, r.Body)
	}
}

// TestMCPCountsWhatIsRefused counts a message as a call, too, if it is refused before it is
// known whether it has a tool.
func TestMCPCountsWhatIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		headers []string
		status  int
	}{
		"no message": {"[]", nil, 400},
		"nothing":    {"", nil, 400},
		"large":      {strings.Repeat(" ", 1<<20+1), nil, 413},
		"compressed": {listTools, []string{"Content-Encoding", "gzip"}, 415},
		"counted":    {listTools, nil, 200},
		"tool":       {toolCall("read", one), nil, 200},
		"no tool":    {toolCall("list", `"prefix":"../../../api/v2/admin/tenants"`), nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{readMemory: 1 << 20})
			if r := w.post("/mcp", test.text, test.headers...); r.Code != test.status {
				t.Errorf("%d %s, want %d", r.Code, r.Body, test.status)
			}
			if n := w.Calls.Of(w.tenantNamed("will"), time.Now()).Today; n != 1 {
				t.Errorf("it counts as %d calls", n)
			}
		})
	}
}

// TestMCPTakesOnePlace of those in a directory, so that many messages at once do not keep
// their own tools out.
func TestMCPTakesOnePlace(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	var places []func()
	for {
		leave, err := w.dir.Enter("")
		if err != nil {
			break
		}
		places = append(places, leave)
	}
	read := toolCall("read", `"phext":"notes","coordinate":"1.1.1/1.1.1/1.1.3"`)
	w.wantError(w.post("/mcp", read), 503, "unavailable")
	places[0]()
	if r := w.post("/mcp", read); !strings.Contains(r.Body.String(), "the scroll") {
		t.Errorf("with one place: %d %s", r.Code, r.Body)
	}
	for _, leave := range places[1:] {
		leave()
	}
	w.wantAllFree()
}
