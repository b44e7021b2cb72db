package strictjson

import (
	"encoding/json"
	"io"
)

// WriteLine writes a value as JSON on one line, with a newline behind it. It keeps "<", ">"
// and "&" as they are, of which encoding/json makes six bytes each. The value must have a
// form in JSON, and out must take everything, as a buffer does.
func WriteLine(out io.Writer, v any) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // see above
}
