package mcp

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/rewrite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func call(tool, arguments string) []byte {
	return []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{` + arguments + `}}}`)
}

// TestRequests has what each tool asks the API.
func TestRequests(t *testing.T) {
	const at = `"coordinate":"1.1.1/a b"`
	for _, test := range []struct{ tool, arguments, want string }{
		{"read", at, "GET select?c=1.1.1%2Fa+b&p= "},
		{"write", at + `,"phext":"n&p=x","content":"te?xt","if_match":"0f"`, `POST update?c=1.1.1%2Fa+b&p=n%26p%3Dx "0f" te?xt`},
		{"write", at + `,"content":"","if_match":"\"0f\""`, `POST update?c=1.1.1%2Fa+b&p= "0f" `},
		{"append", at + `,"content":"x"`, "POST insert?c=1.1.1%2Fa+b&p=  x"},
		{"delete", at, "DELETE delete?c=1.1.1%2Fa+b&p=  "},
		{"delete", `"coordinate":""`, "DELETE delete?c=&p=  "},
		{"list", `"prefix":"/a b/?p=x/"`, "GET list/a%20b/%3Fp=x?limit=100&p=&page=1  "},
		{"list", `"prefix":"/","phext":"*","limit":-1,"page":2`, "GET list?limit=-1&p=%2A&page=2  "},
		{"search", `"query":"\"a b\" c","prefix":"1.1"`, "GET search?limit=10&namespace=1.1&p=&page=1&q=%22a+b%22+c  "},
		{"query", `"from":"1.1.1","to":"2.1.1"`, "POST query?from=1.1.1&limit=20&p=&to=2.1.1  "},
		{"query", `"coordinates":["1.1.1","a.b"],"limit":1`, "POST query?from=&limit=1&p=&to=  1.1.1\na.b"},
		{"history", `"phext":"n","after":"2h"`, "GET history?after=2h&limit=100&p=n  "},
		{"history", ``, "GET history?limit=100  "},
	} {
		got := ""
		a := New("1").Serve(t.Context(), rewrite.WriteAccess, http.Header{}, call(test.tool, test.arguments), nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) != int(r.ContentLength) {
				t.Errorf("%v", err)
			}
			got = r.Method + " " + r.URL.String() + " " + r.Header.Get("If-Match") + " " + string(body)
			_, _ = io.WriteString(w, "all right")
		}))
		if strings.TrimSpace(got) != strings.TrimSpace(test.want) || !strings.Contains(string(a.Body), "all right") {
			t.Errorf("%s %s: %q, want %q: %s", test.tool, test.arguments, got, test.want, a.Body)
		}
	}
}

// TestTools looks at what a model is told of each tool.
func TestTools(t *testing.T) {
	a := New("1").Serve(t.Context(), rewrite.WriteAccess, http.Header{}, []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), nil, nil)
	var answer struct {
		Result struct {
			CacheScope string // the tools depend on the key
			Tools      []struct {
				Name, Title, Description string
				InputSchema              struct {
					AdditionalProperties any
					Properties           map[string]struct{ Description string }
				}
				Annotations map[string]any
			}
		}
	}
	if err := json.Unmarshal(a.Body, &answer); err != nil || len(answer.Result.Tools) != 8 || len(a.Body) > 10_000 {
		t.Fatalf("%v %s", err, a.Body)
	}
	if answer.Result.CacheScope != "private" {
		t.Errorf("others may have the list: %s", answer.Result.CacheScope)
	}
	for _, tool := range answer.Result.Tools {
		hints := tool.Annotations
		reads := tool.Name != "write" && tool.Name != "append" && tool.Name != "delete"
		destroys := tool.Name == "write" || tool.Name == "delete"
		if hints["readOnlyHint"] != reads || !reads && (hints["destructiveHint"] != false) != destroys || hints["idempotentHint"] != (tool.Name != "append") || hints["openWorldHint"] != false {
			t.Errorf("%s: %v", tool.Name, hints)
		}
		if tool.Title == "" || tool.Description == "" || len(tool.InputSchema.Properties) == 0 {
			t.Errorf("%+v", tool)
		}
		for name, property := range tool.InputSchema.Properties {
			if property.Description == "" {
				t.Errorf("%s: %s has no description", tool.Name, name)
			}
		}
	}
}

// TestNobodyListens: a message that waited for changes would keep its turn for ever.
func TestNobodyListens(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		about := `"_meta":{"io.modelcontextprotocol/protocolVersion":"` + version + `","io.modelcontextprotocol/clientInfo":{"name":"a","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
		for _, wanted := range []string{`"toolsListChanged":true`, `"promptsListChanged":true`, `"resourcesListChanged":true`, `"resourceSubscriptions":["a"]`} {
			text := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{` + wanted + `},` + about + `}}`
			header := http.Header{"Mcp-Protocol-Version": {version}, "Mcp-Method": {"subscriptions/listen"}}
			ctx, leave := context.WithTimeout(t.Context(), 10*time.Second)
			a := New("1").Serve(ctx, rewrite.WriteAccess, header, []byte(text), nil, nil)
			if ctx.Err() != nil || !strings.Contains(string(a.Body), `"id":1`) {
				t.Errorf("%s: %s is waited for: %d %s", version, wanted, a.Status, a.Body)
			}
			leave()
		}
	}
}

// TestMemory holds what a message takes to what rewrite counts for it: 16 times its size, and
// 600 bytes for each of 1,024 values. What was let go of meanwhile does not count there, but here.
func TestMemory(t *testing.T) {
	h := New("1")
	for name, list := range map[string]string{
		"one text": `"` + strings.Repeat("x", 250_000) + `"`, "lists": strings.Repeat("[],", 1000) + "0", "objects": strings.Repeat(`{},`, 1000) + "0", "numbers": strings.Repeat("0,", 1000) + "0",
	} {
		text := call("read", `"x":[`+list+`]`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a := h.Serve(t.Context(), rewrite.ReadAccess, http.Header{}, text, nil, nil)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 2*uint64(16*len(text)+600*1024) || a.Status != http.StatusOK {
			t.Errorf("%s: %d bytes for one of %d: %d %s", name, taken, len(text), a.Status, a.Body)
		}
	}
}
