package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/internal/pace"
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
			body, err := bodyGateway().readBody(httptest.NewRecorder(), r, held)
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
	if _, err := bodyGateway().readBody(httptest.NewRecorder(), r, tight); !errors.Is(err, datadir.ErrBusy) {
		t.Errorf("no room: %v", err)
	}
	r = httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 1000)))
	if body, err := bodyGateway().readBody(httptest.NewRecorder(), r, tight); err != nil || len(body) != 1000 {
		t.Errorf("large bodies have kept a small one out: %v", err)
	}
}

// slowBody comes in pieces, one every interval.
type slowBody struct {
	pieces   int
	size     int
	interval time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.pieces == 0 {
		return 0, io.EOF
	}
	time.Sleep(b.interval) // of a bubble's clock
	b.pieces--
	return min(b.size, len(p)), nil
}

// clocked notes the read deadlines that are set on a connection.
type clocked struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (c *clocked) SetReadDeadline(at time.Time) error {
	c.deadlines = append(c.deadlines, at)
	return nil
}

// TestABodyHasTime for each step that comes, and none that outlives it.
func TestABodyHasTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, c := time.Now(), &clocked{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/", &slowBody{pieces: 5, size: pace.Step / 2, interval: 10 * time.Second})
		r.ContentLength = -1
		body, err := bodyGateway().readBody(c, r, memlimit.Reserve())
		if err != nil || len(body) != 5*pace.Step/2 {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		want := []time.Time{
			began.Add(pace.Patience),
			began.Add(20*time.Second + pace.Patience), // a step has come
			began.Add(40*time.Second + pace.Patience), // and another
			{},
		}
		if len(c.deadlines) != len(want) {
			t.Fatalf("%v", c.deadlines)
		}
		for i := range want {
			if !c.deadlines[i].Equal(want[i]) {
				t.Errorf("deadline %d is %v, want %v", i, c.deadlines[i].Sub(began), want[i].Sub(began))
			}
		}
	})
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
