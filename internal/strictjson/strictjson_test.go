package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\": 1,\n}":                    "line 1, column 8: a comma has nothing behind it",
		"{\"a\": [1, 2,\n\n ]}":            "line 1, column 12: a comma has nothing behind it",
		`{"a": 1,, "b": 2}`:                "line 1, column 8: a comma has nothing behind it",
		"{\n  // note\n  \"a\": 1}":        "line 2, column 3: JSON has no comments",
		"{\"a\": 1 # note\n}":              "line 1, column 9: JSON has no comments",
		"{\"a\": /* x */ 1}":               "line 1, column 7: JSON has no comments",
		"{} // end":                        "line 1, column 4: JSON has no comments",
		"\ufeff{}":                         "line 1, column 1: there is a byte order mark (BOM)",
		"\xff\xfe{\x00}\x00":               "the text is not UTF-8",
		"":                                 "line 1, column 1: the text is empty",
		"{\"ü\": [1,\n":                    "ends before its JSON does",
		"{} {}":                            "line 1, column 4: there is more behind the end",
		`{'a': 1}`:                         "line 1, column 2: single quotes",
		`{"a": 'secret'}`:                  "line 1, column 7: single quotes",
		`{“a”: 1}`:                         "line 1, column 2: typographic quotes",
		`{"ü": ”secret”}`:                  "line 1, column 7: typographic quotes",
		`{a: 1}`:                           "line 1, column 2: a field has no quotes",
		`{"a" 1}`:                          "line 1, column 6: a colon is missing",
		"{\"a\": 1\n\"b\": 2}":             "line 2, column 1: a comma is missing",
		`{"a": [{} {}]}`:                   "line 1, column 11: a comma is missing",
		`{"a": True}`:                      "line 1, column 7: this is no value",
		`{"a": secret}`:                    "line 1, column 7: this is no value",
		`{"a": nul}`:                       "this is no value",
		"{\"a\": \"secret\n\"}":            "line 1, column 14: a text in quotes holds a line end",
		`{"a": "C:\data"}`:                 "a backslash has no meaning",
		`{"a": 1.5.2}`:                     "line 1, column 10: not JSON",
		strings.Repeat("[", 10_001) + "]]": "not JSON",
	} {
		m := Check([]byte(text))
		if m == nil || !strings.Contains(m.Error(), want) || m.Fix == "" || strings.Contains(m.Error(), "secret") {
			t.Errorf("%.40q: %v, want %s", text, m, want)
		}
	}
	for _, text := range []string{`{}`, " [1] \n", `"x"`, `{"a": "// , ] '"}`} {
		if m := Check([]byte(text)); m != nil {
			t.Errorf("%q: %v", text, m)
		}
	}
}

func TestFields(t *testing.T) {
	list, ok := Fields(json.RawMessage(` {"a": 1, "A": {"a": 2}, "a": null} `))
	if !ok || len(list) != 3 || list[1].Name != "A" || string(list[1].Value) != `{"a": 2}` || list[2].Name != "a" {
		t.Errorf("%v %q", ok, list)
	}
	for _, text := range []string{`[]`, `1`, `null`, `"{"`} {
		if list, ok := Fields(json.RawMessage(text)); ok {
			t.Errorf("%s: %v", text, list)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"a": [1,]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := Check(text)
		switch {
		case m == nil && !json.Valid(text), m != nil && m.Line > 0 && json.Valid(text):
			t.Errorf("%q: %v", text, m)
		}
	})
}
