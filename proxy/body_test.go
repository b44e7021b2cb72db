package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/datadir"
)

// bodyGateway is enough of a Gateway to read bodies.
func bodyGateway() *Gateway { return New(Config{Dirs: datadir.New(datadir.Config{MaxBody: 1 << 20})}) }

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
	for _, test := range []struct {
		name   string
		body   io.Reader
		length int64 // that is announced; -1 = none
		size   int
		kind   apierror.Kind // zero: it is read
	}{
		{"empty", strings.NewReader(""), 0, 0, apierror.Kind{}},
		{"short and known", strings.NewReader("abc"), 3, 3, apierror.Kind{}},
		{"as large as may be", strings.NewReader(strings.Repeat("x", 1<<20)), 1 << 20, 1 << 20, apierror.Kind{}},
		{"chunked", strings.NewReader(strings.Repeat("x", 300000)), -1, 300000, apierror.Kind{}},
		{"chunked, as large as may be", strings.NewReader(strings.Repeat("x", 1<<20)), -1, 1 << 20, apierror.Kind{}},
		{"announced too large", strings.NewReader("abc"), 1<<20 + 1, 0, apierror.TooLarge},
		{"chunked and too large", strings.NewReader(strings.Repeat("x", 1<<20+1)), -1, 0, apierror.TooLarge},
		{"stops short", &lyingReader{"abc"}, 10, 0, apierror.BadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			everybodys := memlimit.NewBudget(4 << 20)
			held := memlimit.Reserve(everybodys)
			r := httptest.NewRequest("POST", "/", io.NopCloser(test.body))
			r.ContentLength = test.length
			body, err := bodyGateway().readBody(r, held, 1<<20)
			e := apierror.From(err)
			if test.kind == (apierror.Kind{}) && (err != nil || len(body) != test.size) || test.kind != (apierror.Kind{}) && (e == nil || e.Kind != test.kind) {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			if held.Size() > 3<<20 || test.size > pace.Step && held.Size() < int64(test.size) {
				t.Errorf("%d bytes held", held.Size())
			}
			held.Release()
			if !everybodys.Take(4 << 20) {
				t.Error("memory is left reserved")
			}
		})
	}
	tight := memlimit.Reserve(memlimit.NewBudget(100))
	r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 200000)))
	if _, err := bodyGateway().readBody(r, tight, 1<<20); !errors.Is(err, datadir.ErrBusy) {
		t.Errorf("no room: %v", err)
	}
	r = httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 1000)))
	if body, err := bodyGateway().readBody(r, tight, 1<<20); err != nil || len(body) != 1000 {
		t.Errorf("large bodies have kept a small one out: %v", err)
	}
}

// TestABodyThatIsWaitedForCounts before its memory is taken, also one of less than a step. What
// came with its header does not count.
func TestABodyThatIsWaitedForCounts(t *testing.T) {
	const size = 60_000
	text := strings.Repeat("x", size)
	for name, announced := range map[string]int64{"announced": size, "in chunks": -1} {
		budget := memlimit.NewBudget(2 * size)
		read := func(came bool) (held *memlimit.Reservation, err error) {
			held = memlimit.Reserve(budget)
			r := httptest.NewRequest("POST", "/", io.NopCloser(strings.NewReader(text)))
			r.ContentLength = announced
			handler := func(_ http.ResponseWriter, r *http.Request) { _, err = bodyGateway().readBody(r, held, 1<<20) }
			if came { // as with internal/http1, there is no deadline for more of it
				pace.Bodies(http.HandlerFunc(handler)).ServeHTTP(httptest.NewRecorder(), r)
			} else {
				handler(nil, r)
			}
			return held, err
		}
		first, err := read(false)
		if err != nil || first.Size() < size {
			t.Errorf("%s: %d bytes are counted: %v", name, first.Size(), err)
		}
		if _, err := read(false); !errors.Is(err, datadir.ErrBusy) {
			t.Errorf("%s: one too many: %v", name, err)
		}
		if second, err := read(true); err != nil || second.Size() > 0 {
			t.Errorf("%s: one that came: %d bytes are counted: %v", name, second.Size(), err)
		}
	}
}

// TestListsAreCharged before they are parsed, the manifest of a delta and the set of a
// query, whether they come in the body or in the URL.
func TestListsAreCharged(t *testing.T) {
	g := bodyGateway()
	for _, test := range []struct {
		lines, used int
		want        error
	}{{1000, 0, nil}, {1000, 1 << 20, datadir.ErrBusy}, {10000, 0, errListTooLarge}} {
		manifest, set := strings.Repeat("a: \n", test.lines), strings.Repeat("1.1.1/1.1.1/1.1.1,", test.lines)
		for _, r := range []*http.Request{
			httptest.NewRequest("POST", "/api/v2/delta?p=n", strings.NewReader(manifest)),
			httptest.NewRequest("GET", "/api/v2/delta?p=n&s="+url.QueryEscape(manifest), nil),
			httptest.NewRequest("POST", "/api/v2/query?p=n", strings.NewReader(set)),
			httptest.NewRequest("GET", "/api/v2/query?p=n", strings.NewReader(set)),
			httptest.NewRequest("GET", "/api/v2/query?p=n&set="+url.QueryEscape(set), nil),
			httptest.NewRequest("GET", "/api/v2/query?p=n&content="+set, nil),
		} {
			head, err := rewrite.ParseHead(r.Method, r.URL.Path, r.URL.RawQuery, rewrite.Tenant{ID: "will"})
			if err != nil {
				t.Fatal(err)
			}
			budget := memlimit.NewBudget(1 << 20)
			budget.Take(int64(test.used))
			held := memlimit.Reserve(budget)
			call, err := g.parse(r.WithContext(&requestInfo{Context: r.Context()}), head, held)
			if !errors.Is(err, test.want) || err == nil && len(call.Manifest) != test.lines && len(call.Query.Set) != test.lines {
				t.Errorf("%s %.20s of %d lines, %d bytes used: %v", r.Method, r.URL, test.lines, test.used, err)
			}
			held.Release()
			budget.Give(int64(test.used))
			if !budget.Take(budget.Limit()) {
				t.Error("memory is left reserved")
			}
		}
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

// TestEncodedBodies must not be stored as they are.
func TestEncodedBodies(t *testing.T) {
	w := newWorld(t, options{readMemory: 1 << 20})
	w.wantError(w.ask("POST", "/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1", "x", "Content-Encoding", "gzip"), 415, "unsupported_media_type")
	if answer := w.ask("POST", "/api/v2/where?limit=3", "some text", "Content-Encoding", "identity"); answer.Code != 200 {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	if requests := w.sq.seen(); len(requests) > 0 {
		t.Errorf("SQ was asked for %q", requests)
	}
}
