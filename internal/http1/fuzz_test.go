package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"testing"
)

var requests = []struct {
	text string
	want verdict
}{
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", complete},
	{"GET /api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1 HTTP/1.1\r\nHost: a:1\r\nAuthorization: Bearer k\r\nAccept: */*\r\n\r\n", complete},
	{"GET /x;y?a=b%20c HTTP/1.1\r\nhost:a\r\nX-A: 1 \r\nx-a:  2\r\nConnection: Keep-Alive\r\n\r\n", complete},
	{"POST /a HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\nabc", complete},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", complete},
	{"POST /a HTTP/1.1\r\nHost: a\r\n\r\n", complete},
	{"", incomplete},
	{"GET / HTTP/1.1\r\nHost: a\r\n", incomplete},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", incomplete},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcd", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\nabc", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", unusual},
	{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nabc", unusual},
	{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"get / HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET / HTTP/1.0\r\nHost: a\r\n\r\n", unusual},
	{"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET /%41 HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET //a HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET /? HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET /?a=\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\n\r\n", complete},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n 2\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\n X-A: 1\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\nX-B: 2\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nX-A: \x00\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", unusual},
	{"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", unusual},
	{"GET / HTTP/1.1\nHost: a\n\r\n\r\n", unusual},
	{"GET / HTTP/1.0\n\n", unusual},
	{"\n", unusual},
	{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", unusual},
}

func TestWhatIsPlain(t *testing.T) {
	for _, r := range requests {
		if _, v := parse([]byte(r.text), nil); v != r.want {
			t.Errorf("%q: %v, not %v", r.text, v, r.want)
		}
	}
}

// FuzzPlain shows that what is served here is what net/http would have served,
// to the last byte of it, and nothing else.
func FuzzPlain(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, v := parse(b, nil)
		if v != complete {
			return
		}
		again, v := parse(b, p.head)
		if v != complete || again.head != p.head || again.target != p.target || !bytes.Equal(again.body, p.body) {
			t.Fatalf("with the fields of before it is %v, %+v", v, again)
		}
		got := (&conn{base: &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}}).request(p)
		in := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http does not take it: %v", err)
		}
		gotBody, wantBody := everything(t, got), everything(t, want)
		if in.Buffered() > 0 {
			t.Fatalf("net/http leaves %d bytes", in.Buffered())
		}
		if gotBody != wantBody || got.ContentLength != want.ContentLength || got.Method != want.Method || got.RequestURI != want.RequestURI ||
			got.Host != want.Host || got.Proto != want.Proto || !reflect.DeepEqual(got.URL, want.URL) || !reflect.DeepEqual(got.Header, want.Header) || want.Close {
			t.Fatalf("%+v\n%+v\nbodies %q, %q", got, want, gotBody, wantBody)
		}
	})
}

func everything(t *testing.T, r *http.Request) string {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
