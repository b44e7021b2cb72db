package rewrite

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLongTexts takes the long strings out of messages and puts them back. What is no JSON
// stays none.
func TestLongTexts(t *testing.T) {
	texts := rapid.OneOf(rapid.StringN(0, 100, 100), rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.SampledFrom([]string{"a", "é\x02", "\"\\", "\U0001F600", "\u2028<"}).Draw(t, "part"), rapid.IntRange(1, 5000).Draw(t, "times"))
	}))
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.MapOf(texts, rapid.OneOf(texts.AsAny(), rapid.SliceOf(texts).AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Just(any(nil)))).Draw(t, "fields")
		fields["padding"] = strings.Repeat("x", smallMessage)
		message, err := json.MarshalIndent(fields, "", " \t")
		if err != nil {
			t.Fatal(err)
		}
		l := &LongTexts{}
		short, ok := l.takeOut(message, nil)
		if !ok || len(short) > len(message) {
			t.Fatalf("%v: %d bytes of %d", ok, len(short), len(message))
		}
		var want, got any
		if err := json.Unmarshal(message, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(l.PutBack(short, nil), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v: %.200q", err, short)
		}
		at := rapid.IntRange(0, len(message)-1).Draw(t, "at")
		message[at] = rapid.SampledFrom([]byte("\"\\{}[],: 1nx\x01")).Draw(t, "instead")
		l = &LongTexts{}
		short, ok = l.takeOut(message, nil)
		if valid := ok && json.Valid(short); valid != json.Valid(message) {
			t.Fatalf("valid: %v, at %d of %q", valid, at, message)
		}
	})
}

// TestLongTextsAreShortForTheLibrary whatever a message is made of.
func TestLongTextsAreShortForTheLibrary(t *testing.T) {
	for name, message := range map[string]string{
		"one text":    `{"a":"` + strings.Repeat("x", largestMessage) + `"}`,
		"white space": `{` + strings.Repeat(" \n", largestMessage/2) + `}`,
		"many texts":  `{` + strings.Repeat(`"`+strings.Repeat("k", 200)+`":"`+strings.Repeat("x", 300)+`",`, 500) + `"a":1}`,
	} {
		if short, ok := new(LongTexts).takeOut([]byte(message), nil); !ok || len(short) > 64<<10 {
			t.Errorf("%s: %v, %d bytes", name, ok, len(short))
		}
	}
	for _, message := range []string{`{"a":` + strings.Repeat("1", largestMessage) + `}`, `{"a":1 2` + strings.Repeat(" ", smallMessage) + `}`} {
		if _, ok := new(LongTexts).takeOut([]byte(message), nil); ok {
			t.Errorf("%.20s is taken", message)
		}
	}
}

// TestNamesOfLongTexts are in no answer, also within another string: there, a beginning of
// the text is instead.
func TestNamesOfLongTexts(t *testing.T) {
	l := &LongTexts{}
	long := strings.Repeat("é\"", 100)
	name := l.Keep(long)
	if name == long || l.Text(name) != long || l.Text(name+"1") != name+"1" || l.Keep("short") != "short" {
		t.Error(name)
	}
	other := l.Keep(strings.Repeat("\t", 100))
	answer, err := json.Marshal(map[string]string{"whole": name, "within": "the name \"" + name + "\" is bad", "begins": other + " is bad", "ends": "bad: " + other, "other": l.prefix + "7", "unended": l.prefix})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(l.PutBack(answer, nil), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"whole": long, "within": "the name \"" + strings.Repeat("é\"", 85) + "…\" is bad", "begins": strings.Repeat("\t", 100) + " is bad", "ends": "bad: " + strings.Repeat("\t", 100), "other": l.prefix + "7", "unended": l.prefix}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	cut := []byte(`{"a":"` + l.prefix)
	if back := string(l.PutBack(cut, nil)); back != string(cut) {
		t.Errorf("%q", back)
	}
}
