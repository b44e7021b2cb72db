package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShareOfTwoBudgets(t *testing.T) {
	everybodys, tenants := newBudget(100), newBudget(60)
	one, other := &share{of: []*budget{everybodys, tenants}}, &share{of: []*budget{everybodys, newBudget(60)}}
	if !one.grow(50) || !one.grow(60) || one.grow(61) || one.held != 60 {
		t.Errorf("a tenant's part: %d held", one.held)
	}
	if !other.grow(40) || other.grow(41) || everybodys.used.Load() != 100 {
		t.Errorf("everybody's: %d used", everybodys.used.Load())
	}
	one.release()
	one.release()
	other.release()
	if everybodys.used.Load() != 0 || tenants.used.Load() != 0 {
		t.Errorf("after release: %d and %d", everybodys.used.Load(), tenants.used.Load())
	}
}

func TestBudgetUnderContention(t *testing.T) {
	b := newBudget(10)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for range 1000 {
				if b.take(3) {
					if used := b.used.Load(); used < 3 {
						t.Errorf("%d used while 3 are held", used)
					}
					b.give(3)
				}
			}
		})
	}
	workers.Wait()
	if b.used.Load() != 0 {
		t.Errorf("%d left", b.used.Load())
	}
}

func TestHeaderKey(t *testing.T) {
	for _, c := range []struct {
		header http.Header
		key    string
		given  bool
	}{
		{http.Header{}, "", false},
		{http.Header{"Authorization": {"Bearer  abc "}}, "abc", true},
		{http.Header{"Authorization": {"BEARER abc"}}, "abc", true},
		{http.Header{"Authorization": {"abc"}}, "abc", true},
		{http.Header{"Authorization": {"Basic OmFiYw=="}}, "abc", true},
		{http.Header{"Authorization": {"Basic dXNlcjpabw=="}}, "Zo", true},
		{http.Header{"Authorization": {"Basic %%%"}}, "", true},
		{http.Header{"Authorization": {""}, "X-Sq-Api-Key": {"abc"}}, "", true},
		{http.Header{"X-Sq-Api-Key": {" abc"}}, "abc", true},
		{http.Header{"X-Sq-Api-Key": {"abc", "def"}}, "", true},
		{http.Header{"Authorization": {"Digest abc"}}, "Digest abc", true},
	} {
		if key, given := headerKey(c.header); key != c.key || given != c.given {
			t.Errorf("%v: %q, %v", c.header, key, given)
		}
	}
}

// lyingReader ends as net/http's body does when less came than was announced.
type lyingReader struct{ text string }

func (r *lyingReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

func TestReadBody(t *testing.T) {
	g := &Gateway{config: Config{MaxBody: 1 << 20}, now: time.Now}
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		code   string
	}{
		{"empty", strings.NewReader(""), 0, ""},
		{"short and known", strings.NewReader("abc"), 3, ""},
		{"as large as may be", strings.NewReader(strings.Repeat("x", 1<<20)), 1 << 20, ""},
		{"chunked", strings.NewReader(strings.Repeat("x", 300000)), -1, ""},
		{"announced too large", strings.NewReader("abc"), 1<<20 + 1, "too_large"},
		{"chunked and too large", strings.NewReader(strings.Repeat("x", 1<<20+1)), -1, "too_large"},
		{"stops short", &lyingReader{"abc"}, 10, "bad_request"},
	} {
		everybodys := newBudget(4 << 20)
		held := &share{of: []*budget{everybodys}}
		r := httptest.NewRequest("POST", "/", io.NopCloser(c.body))
		r.ContentLength = c.length
		body, err := g.readBody(httptest.NewRecorder(), r, held)
		var a *answer
		if c.code == "" && (err != nil || c.length >= 0 && int64(len(body)) != c.length) || c.code != "" && (!errors.As(err, &a) || a.code != c.code) {
			t.Errorf("%s: %d bytes, %v", c.name, len(body), err)
		}
		if held.held > 3<<20 {
			t.Errorf("%s: %d bytes held", c.name, held.held)
		}
		held.release()
		if everybodys.used.Load() != 0 {
			t.Errorf("%s: %d bytes left", c.name, everybodys.used.Load())
		}
	}
	tight := &share{of: []*budget{newBudget(100)}}
	r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 200000)))
	if _, err := g.readBody(httptest.NewRecorder(), r, tight); !errors.Is(err, errBusy) {
		t.Errorf("no room: %v", err)
	}
}

func TestWhatMayBeFedToSQ(t *testing.T) {
	f, dir := newFiles(), t.TempDir()
	path := filepath.Join(dir, "n.phext")
	if state, err := f.check(path); state != fileMissing || err != nil {
		t.Errorf("no file: %v %v", state, err)
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("text")
	for i, want := range []fileState{fileNew, fileKnown} {
		if state, err := f.check(path); state != want || err != nil {
			t.Errorf("look %d: %v %v", i, state, err)
		}
	}
	put("other")
	if state, err := f.check(path); state != fileNew || err != nil {
		t.Errorf("changed: %v %v", state, err)
	}
	put("caf\xe9")
	if _, err := f.check(path); err == nil {
		t.Error("a file that is not UTF-8 was let through")
	}
	put("mine")
	id, err := fsutil.Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	f.wrote(path, id, false)
	if state, err := f.check(path); state != fileKnown || err != nil {
		t.Errorf("as we left it: %v %v", state, err)
	}
	f.wrote(path, id, true)
	if state, err := f.check(path); state != fileNew || err != nil {
		t.Errorf("with delimiters, which SQ does not take apart: %v %v", state, err)
	}
	if err := os.Truncate(path, cache.Largest+1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.check(path); err == nil {
		t.Error("a file that SQ would cut off was let through")
	}
	if _, err := f.check(dir); err == nil {
		t.Error("a directory was let through")
	}
}
