package etag

import "testing"

func TestMatches(t *testing.T) {
	tag := Of("a text")
	hash := tag[1 : len(tag)-1]
	for header, want := range map[string]bool{
		tag: true, "W/" + tag: true, "*": true, " " + tag + " ": true,
		`"` + hash + `-gzip"`: true, `W/"` + hash + `-br"`: true, // as Caddy and Apache send it
		`"other", ` + tag: true, `"other",W/` + tag: true,
		"": false, `"other"`: false, hash: false, `"` + hash: false, `"` + hash + "-gzip": false,
		`"-gzip"`: false, "w/" + tag: false, Of("another"): false,
	} {
		for _, tag := range []string{tag, Encoded(tag, "gzip")} {
			if Matches([]string{"", header}, tag) != want {
				t.Errorf("%s, %s: %v, want %v", tag, header, !want, want)
			}
		}
	}
}
