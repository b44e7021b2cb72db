package rewrite

import (
	"strings"
	"testing"
)

func TestMessages(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		values int
		says   string // of the error, or ""
	}{
		"a call":        {`{"jsonrpc":"2.0","id":1,"params":{"a":["x,y","[{\"",",\\"]}}`, 7, ""},
		"many":          {`{"a":[` + strings.Repeat("1,", mostValues-2) + "1]}", mostValues, ""},
		"too many":      {`{"a":[` + strings.Repeat("1,", mostValues-1) + "1]}", mostValues + 1, "values"},
		"a list":        {`[{}]`, 2, "one JSON-RPC message"},
		"a text":        {`"x"`, 0, "one JSON-RPC message"},
		"not complete":  {`{"a":"\`, 1, "one JSON-RPC message"},
		"nested deeply": {strings.Repeat(`{"a":`, 20_000), 20_000, "values"},
		"nothing":       {"", 0, "one JSON-RPC message"},
	} {
		t.Run(name, func(t *testing.T) {
			head, err := ParseHead("POST", "/will/mcp", "", Tenant{ID: "will"})
			if err != nil {
				t.Fatal(err)
			}
			if n := valuesIn([]byte(test.text)); n != test.values {
				t.Errorf("%d values, want %d", n, test.values)
			}
			if got, want := head.ParsedMemory([]byte(test.text), ""), int64(copiesOfMessage*len(test.text)+valueMemory*min(test.values, mostValues)); got != want {
				t.Errorf("%d bytes, want %d", got, want)
			}
			call, err := head.Call([]byte(test.text))
			switch {
			case test.says == "" && (err != nil || string(call.Scroll) != test.text):
				t.Errorf("%v, %v", call, err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}
