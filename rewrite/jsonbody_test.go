package rewrite

import (
	"encoding/json"
	"strings"
	"testing"
)

// A JSON object is read as encoding/json would, also where a piece of it ends in the
// middle of a character or of an escape.
func TestJSONIsReadAsUsual(t *testing.T) {
	for _, body := range []string{
		`{}`, ` { } `, `{"s":"x"}`, `{"s":"x","s":"y"}`, `{"s":1.5e3,"x":[1,{"a":null}]}`, `{"x":{"s":[[],{}]},"s":""}`,
		`{"s":"\u0041\n\"\\\/"}`, `{"\u0073":"x"}`, `{"s":"\ud83d\ude00 \ud83d \ude00"}`, "{\"s\":\"\xff\xc3\"}",
		`{`, `{"`, `{"s"`, `{"s":`, `{"s":"x`, `{"s":"x"`, `{"s":"x",}`, `{"s":"x",,"c":"1"}`, `{,}`, `{"s" "x"}`, `{s:"x"}`, `{"s":"x"}}`, `{"s":"x"} x`,
		`{"s":"\x"}`, `{"s":"\u00g0"}`, `{"s":"\u00`, "{\"s\":\"a\nb\"}", `{"s":nul}`, `{"s":1.}`, `{"s":[1,}`, `{"s":01}`, `{"s":tru"x"}`, `{"s":"x":"y"}`, `{"s":1 2}`,
	} {
		checkJSON(t, body)
	}
	for shift := range 16 {
		for _, around := range []string{"é日\U0001f600", `\u0041\n\\`, `\ud83d\ude00`, "\x80\x80\x80\x80\x80\x80\x80\x80", `\ud800é`, `\ud800€`, "\\ud800\U0001f600", `\ud800\ud800\udc00`, `\udc00\ud800x`} {
			checkJSON(t, `{"s":"`+strings.Repeat("y", pieceSize-14+shift)+around+`z"}`)
		}
	}
}

// TestPiecesOfJSONEnd, whatever stands at their ends.
func TestPiecesOfJSONEnd(t *testing.T) {
	for _, one := range []string{`\ud800`, "\x80", `\ud83d\ude00`, `\n`} {
		if n := firstCharacters([]byte(strings.Repeat(one, pieceSize))); n < pieceSize || n > pieceSize+16 {
			t.Errorf("a piece of %q has %d bytes", one, n)
		}
	}
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"s":"\ud83d\ude00","x":[1,{"s":null}]} `)
	f.Fuzz(func(t *testing.T, body string) { checkJSON(t, body) })
}

func checkJSON(t *testing.T, body string) {
	t.Helper()
	b, ok := jsonBody([]byte(body), nil)
	if !ok || b.problem == errManyFields.Error() {
		return
	}
	all := map[string]json.RawMessage{}
	err := json.Unmarshal([]byte(strings.TrimPrefix(body, "\ufeff")), &all)
	if (err == nil) != (b.problem == "") {
		t.Fatalf("%.100q: %q, and encoding/json says %v", body, b.problem, err)
	}
	var want string
	if err != nil || json.Unmarshal(all["s"], &want) != nil {
		return
	}
	got := ""
	for _, f := range b.fields {
		if f.name == "s" {
			got = f.value // the last one counts
		}
	}
	if got != want {
		t.Errorf("%.100q: the text has %d bytes, and is to have %d", body, len(got), len(want))
	}
}

// A coordinate is never as long as a body may be.
func TestALongCoordinateIsRefused(t *testing.T) {
	digits := strings.Repeat("1.", longestOther)
	for _, body := range []string{`{"c":"` + digits + `1","s":"x"}`, "c=" + digits + "1&s=x", `{"p":"` + digits + `","c":"1.1.1","s":"x"}`} {
		_, err := understand("POST", "/update", body, Tenant{ID: "will"})
		if err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%.20q: %v", body, err)
		}
	}
}
