package proxy

import (
	"net/http"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
)

// TestAnObjectTakesItsSize asks for large texts in objects. They are counted, as a
// part of what the tenant may have in memory, and are made in one piece.
func TestAnObjectTakesItsSize(t *testing.T) {
	w := newWorld(t, options{readMemory: 64 << 20})
	text := strings.Repeat("\x02 word", 1<<19)
	w.put("notes.phext", text)
	size := phext.QuotedLen(text, nil)
	for _, target := range []string{"/api/v2/read?c=1.1.1/1.1.1/1.1.1&p=notes", "/api/v2/search?q=word&p=notes"} {
		ask := func() (status, bytes int) {
			r, _ := http.NewRequest("GET", target, nil)
			r.Header.Set("Authorization", "Bearer "+key)
			out := &discarder{benchWriter: benchWriter{header: http.Header{}}}
			w.Handler().ServeHTTP(out, r)
			return out.status, out.bytes
		}
		ask() // the phext is in memory now
		var status, bytes int
		took := int(allocated(func() { status, bytes = ask() }))
		if status >= 400 || bytes < size || took > size+2*len(text) {
			t.Errorf("%s: %d, %d bytes took %d", target, status, bytes, took)
		}
		dir := w.dir
		all := w.Dirs.Answers.Limit()
		release, ok := dir.Send(rewrite.Recipient{}, t, all) // the part of this directory
		if !ok {
			t.Fatal("something is reserved")
		}
		if status, _ := ask(); status != 503 {
			t.Errorf("%s: %d, though this tenant has all that it may", target, status)
		}
		release()
	}
	w.wantAllFree()
}
