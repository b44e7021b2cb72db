package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/cache"
)

// reader asks a gateway with a phext "notes" of its own.
type reader struct {
	*testing.T
	g    *Gateway
	data string
}

func newReader(t *testing.T) *reader {
	g := benchGateway(t)
	will, _ := g.config.Tenants.Current().ByID("will")
	return &reader{t, g, will.DataDir}
}

func (r *reader) path(file string) string { return filepath.Join(r.g.dir(r.data).path, file) }

func (r *reader) put(file, text string) {
	r.Helper()
	if err := os.WriteFile(r.path(file), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *reader) page(file string) *cache.Version {
	r.Helper()
	p, err := r.g.page(r.path(file))
	if err != nil {
		r.Fatal(err)
	}
	return p
}

func (r *reader) ask(op, tag string) *httptest.ResponseRecorder {
	request := httptest.NewRequest("GET", "/api/v2/"+op+"?p=notes", nil)
	request.Header.Set("Authorization", "Bearer "+benchKey)
	request.Header.Set("If-None-Match", tag)
	w := httptest.NewRecorder()
	r.g.Handler().ServeHTTP(w, request)
	return w
}

// want asks twice: an answer that was kept is no other than the first.
func (r *reader) want(op, text string) {
	r.Helper()
	for _, which := range []string{"first", "second"} {
		if w := r.ask(op, ""); w.Code != 200 || w.Body.String() != text || w.Header().Get("ETag") != tagOf(text) {
			r.Errorf("the %s %s: %d, %s, %q, want %q", which, op, w.Code, w.Header().Get("ETag"), w.Body, text)
		}
	}
}

func TestKeptAnswersAreThoseOfNow(t *testing.T) {
	r := newReader(t)
	r.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	r.want("get", "\x17\x17the scroll")
	r.want("checksum", phext.Checksum("\x17\x17the scroll"))
	r.want("json-export", "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n")

	// As a mutation does it: readers see the file as it was, until it is done.
	before := r.page("notes.phext")
	after := before.With(phext.Origin(), "new\nline")
	hold := r.g.pages.Freeze(map[string]*cache.Version{r.path("notes.phext"): before})
	r.put("notes.phext", after.Text())
	r.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	id, err := fsutil.Identify(r.path("notes.phext"))
	if err != nil {
		t.Fatal(err)
	}
	hold.Publish(map[string]*cache.Version{r.path("notes.phext"): after.WithID(id)})
	r.want("toc", "* 1.1.1/1.1.1/1.1.1: new...\n* 1.1.1/1.1.1/1.1.3: the scroll\n")
	r.want("get", "new\nline\x17\x17the scroll")
	r.want("checksum", phext.Checksum("new\nline\x17\x17the scroll"))

	r.put("notes.phext", "by another's hand")
	r.want("toc", "* 1.1.1/1.1.1/1.1.1: by another's hand\n")
	if err := os.Remove(r.path("notes.phext")); err != nil {
		t.Fatal(err)
	}
	r.want("toc", "* 1.1.1/1.1.1/1.1.1: \n")
}

func TestKeptAnswersShowTheNamesOfNow(t *testing.T) {
	r := newReader(t)
	page := r.page("notes.phext")
	r.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	for _, name := range []string{"a.name", "another.name", `"a".name`} {
		r.put("notes.names.phext", "\x17\x17"+name)
		r.want("toc", "* "+name+": the scroll\n")
	}
	r.want("json-export", "[\n   { \"coord\": \"\\\"a\\\".name\", \"scroll\": \"the scroll\" }\n]\n")
	if err := os.Remove(r.path("notes.names.phext")); err != nil {
		t.Fatal(err)
	}
	r.want("toc", "* 1.1.1/1.1.1/1.1.3: the scroll\n")
	r.want("json-export", "[\n   { \"coord\": \"1.1.1/1.1.1/1.1.3\", \"scroll\": \"the scroll\" }\n]\n")
	if r.page("notes.phext") != page {
		t.Error("the phext was read again, and this has shown nothing")
	}
}

// manyScrolls makes a toc of 200 KB.
func manyScrolls() string {
	return strings.Repeat(strings.Repeat("a line of text\x17", 500)+"\x18", 10)
}

func TestKeptAnswersAreInTheReadMemory(t *testing.T) {
	r := newReader(t)
	r.put("notes.phext", manyScrolls())
	page := r.page("notes.phext")
	before := r.g.pages.Stats().Bytes
	toc := r.ask("toc", "").Body.Len()
	if grown := r.g.pages.Stats().Bytes - before; grown < int64(toc) || grown > int64(toc)+1024 {
		t.Errorf("a toc of %d bytes counts for %d", toc, grown)
	}
	for i := range 20 {
		other := fmt.Sprintf("other%d.phext", i)
		r.put(other, strings.Repeat("x", 100<<10))
		r.page(other)
	}
	if s := r.g.pages.Stats(); s.Bytes > r.g.config.ReadMemory || s.Outs == 0 {
		t.Errorf("%+v", s)
	}
	if r.page("notes.phext") == page {
		t.Error("the page that was read least recently has stayed")
	}
}

// discarder takes an answer as it is, without a copy.
type discarder struct {
	benchWriter
	bytes int
}

func (w *discarder) Write(b []byte) (int, error)       { w.bytes += len(b); return len(b), nil }
func (w *discarder) WriteString(s string) (int, error) { w.bytes += len(s); return len(s), nil }

// TestKeptAnswersCostNoMemory also asks for those that are not sent.
func TestKeptAnswersCostNoMemory(t *testing.T) {
	r := newReader(t)
	r.put("notes.phext", manyScrolls())
	h := r.g.Handler()
	for _, op := range []string{"toc", "get", "checksum"} {
		first := r.ask(op, "")
		for tag, status := range map[string]int{"": 0, first.Header().Get("ETag"): http.StatusNotModified} {
			request := httptest.NewRequest("GET", "/api/v2/"+op+"?p=notes", nil)
			request.Header.Set("Authorization", "Bearer "+benchKey)
			request.Header.Set("If-None-Match", tag)
			const times = 20
			w := &discarder{benchWriter: benchWriter{header: http.Header{}}}
			took := allocated(func() {
				for range times {
					clear(w.header)
					h.ServeHTTP(w, request)
				}
			})
			want := times * first.Body.Len()
			if status == http.StatusNotModified {
				want = 0
			}
			if w.status != status || w.bytes != want {
				t.Errorf("%s, If-None-Match %q: status %d, %d bytes", op, tag, w.status, w.bytes)
			}
			if most := uint64(r.page("notes.phext").Size()) / 10; took/times > most {
				t.Errorf("%s, If-None-Match %q: takes %d bytes, of a phext of %d", op, tag, took/times, 10*most)
			}
		}
	}
	if used := r.g.answers.used.Load(); used != 0 {
		t.Errorf("%d bytes are still taken for answers", used)
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
