package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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

// connect is a client of the Model Context Protocol at a path, with a key.
func (g *gate) connect(t *testing.T, path, key string) (*mcp.ClientSession, error) {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: g.base() + path, HTTPClient: &http.Client{Transport: withKey{key, http.DefaultTransport}, Timeout: waitTimeout},
	}, nil)
	if err == nil {
		t.Cleanup(func() { _ = session.Close() }) // it tells nobody
	}
	return session, err
}

// useTool calls a tool, whose arguments are JSON, and returns its first text.
func useTool(t *testing.T, s *mcp.ClientSession, tool, arguments string) (text string, failed bool) {
	t.Helper()
	result, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
	if err != nil {
		t.Fatalf("%s %s: %v", tool, arguments, err)
	}
	return result.Content[0].(*mcp.TextContent).Text, result.IsError
}

// TestMCP has a model use each tool, with a tenant's own key and with others.
func TestMCP(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will", "eve")
		g.must("will", "POST", at("update", "diary", origin), "secret", 200)
		keys := map[string]string{"own": g.key("will")}
		for id, fields := range map[string]string{"reader": `"access": "read", "phexts": ["notes"]`, "below": `"access": "read-write", "phexts": ["notes"], "prefix": "2.3.5"`} {
			keys[id], _ = g.manage("POST", "tenants/will/keys", `{"id": "`+id+`", `+fields+`}`, 201)["api_key"].(string)
		}
		sessions := map[string]*mcp.ClientSession{}
		for id, key := range keys {
			var err error
			if sessions[id], err = g.connect(t, "/will/mcp", key); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct{ key, tool, arguments, says string }{
			{"own", "write", `,"coordinate":"1.1.1/1.1.1/1.1.1","content":"a note"`, "Updated 6 bytes"},
			{"own", "append", `,"coordinate":"1.1.1/1.1.1/1.1.1","content":"!"`, "Inserted 1 bytes"},
			{"own", "read", `,"coordinate":"1.1.1/1.1.1/1.1.1"`, "a note!"},
			{"own", "write", `,"coordinate":"1.1.1/1.1.1/1.1.1","content":"x","if_match":"0123"`, "(412 precondition_failed)"},
			{"own", "write", `,"coordinate":"notes.today.1","content":"named"`, "Updated 5 bytes"},
			{"own", "list", `,"prefix":"notes.today"`, `"total":1,`},
			{"own", "search", `,"query":"NOTE"`, `"total":1,`},
			{"own", "query", `,"coordinates":["notes.today.1"]`, `[{"coordinate":"notes.today.1","scroll":"named"}]`},
			{"reader", "read", `,"coordinate":"1.1.1/1.1.1/1.1.1"`, "a note!"},
			{"reader", "list", ``, `"total":2,`},
			{"below", "write", `,"coordinate":"2.3.5/1.1.1/1.1.7","content":"mine"`, "Updated 4 bytes"},
			{"below", "read", `,"coordinate":"1.1.1/1.1.1/1.1.1"`, "(403 forbidden)"},
			{"below", "search", `,"query":"note"`, `"total":0,`},
			{"below", "delete", `,"coordinate":"notes.today.1"`, "(403 forbidden)"},
			{"own", "delete", `,"coordinate":"notes.today.1"`, "Removed 5 bytes"},
		} {
			if text, _ := useTool(t, sessions[test.key], test.tool, `{"phext":"notes"`+test.arguments+`}`); !strings.Contains(text, test.says) {
				t.Errorf("%s: %s %s: %q, want %q", test.key, test.tool, test.arguments, text, test.says)
			}
		}
		if text, failed := useTool(t, sessions["reader"], "search", `{"phext":"*","query":"ecre"}`); failed || !strings.Contains(text, `"total":0,`) {
			t.Errorf("the reader finds %s", text)
		}
		if text, failed := useTool(t, sessions["own"], "history", `{"phext":"notes"}`); failed || !strings.Contains(text, `"op":"delete"`) {
			t.Errorf("the history is %s", text)
		}
		tools, err := sessions["reader"].ListTools(t.Context(), nil)
		if err != nil || slices.ContainsFunc(tools.Tools, func(tool *mcp.Tool) bool { return !tool.Annotations.ReadOnlyHint }) {
			t.Errorf("the reader has %v, %v", tools, err)
		}
		// Another tenant's id, a revoked key, and no key at all.
		if _, err := g.connect(t, "/eve/mcp", keys["own"]); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("will connects as eve: %v", err)
		}
		g.manage("DELETE", "tenants/will/keys/reader", "", 200)
		if _, err := sessions["reader"].CallTool(t.Context(), &mcp.CallToolParams{Name: "read"}); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
			t.Errorf("a revoked key: %v", err)
		}
		const listTools = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		g.must("will", "POST", "/will/mcp", listTools, 200)
		g.must("will", "POST", "/will/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 202)
		g.must("will", "POST", "/will/mcp", "["+listTools+"]", 400)
		g.must("will", "POST", "/eve/mcp", listTools, 403)
		g.must("will", "GET", "/will/mcp", "", 405)
		if r := g.must("", "POST", "/will/mcp", listTools, 401); r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%v", r.header)
		}
		if t.Failed() {
			t.Log(g.log)
		}
	})
}

// TestMCPWithPython has the protocol's own client for Python use the tools. SQTEST_MCP is a
// Python that has it (.ci/mcp).
func TestMCPWithPython(t *testing.T) {
	python := os.Getenv("SQTEST_MCP")
	if python == "" {
		t.Skip("SQTEST_MCP is not set")
	}
	forEachSQ(t, func(t *testing.T, sq string) {
		g := startGate(t, sq, "will")
		reader, _ := g.manage("POST", "tenants/will/keys", `{"id": "reader", "access": "read"}`, 201)["api_key"].(string)
		out, err := exec.CommandContext(t.Context(), python, "testdata/mcp_client.py", g.base()+"/will/mcp", g.key("will"), reader).CombinedOutput()
		if err != nil || string(out) != "all is well\n" {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
