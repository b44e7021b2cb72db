package s3test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cut is the status of a request whose connection is closed instead.
const Cut = -1

// Fault is what goes wrong with one request. The zero Fault is nothing.
type Fault struct {
	Before time.Duration // the server gets the request so much later, also if the client has left
	Refuse int           // this is the answer, and the server does not get the request; 0 = it does
	Lose   int           // the server does what was asked, and this is the answer; 0 = the server's
	After  time.Duration // the client gets the answer so much later
	Late   time.Duration // the connection is closed, and the server gets the request so much later all the same
}

// Proxy is a way to a Server on which requests go wrong as they do in networks and on
// busy servers.
type Proxy struct {
	URL string // of the bucket, as --bucket has it

	server *Server
	fault  atomic.Pointer[func(*http.Request) Fault]
	client http.Client
	local  *httptest.Server
	late   sync.WaitGroup
}

// NewProxy starts a proxy, which ends with the test of the server.
func NewProxy(s *Server) *Proxy {
	p := &Proxy{server: s, client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
	p.local = httptest.NewServer(p)
	p.URL = strings.Replace(s.URL, "http://"+s.addr, p.local.URL, 1)
	s.t.Cleanup(func() {
		p.SetFault(nil)
		p.local.CloseClientConnections()
		p.local.Close()
		p.late.Wait()
		p.client.CloseIdleConnections()
	})
	return p
}

// SetFault has a function decide about each request from now on; nil = nothing goes
// wrong. Many may call it at a time.
func (p *Proxy) SetFault(fault func(*http.Request) Fault) {
	if fault == nil {
		fault = func(*http.Request) Fault { return Fault{} }
	}
	p.fault.Store(&fault)
}

// ServeHTTP is a method of http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if fault := p.fault.Load(); fault != nil {
		f = (*fault)(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.Late > 0 {
		p.late.Go(func() {
			time.Sleep(f.Late)
			_, _, _, _ = p.ask(r, body) // nobody hears of it
		})
		panic(http.ErrAbortHandler)
	}
	time.Sleep(f.Before)
	if f.Refuse != 0 {
		fail(w, f.Refuse)
		return
	}
	status, header, text, err := p.ask(r, body)
	time.Sleep(f.After)
	switch {
	case err != nil: // the server was killed
		panic(http.ErrAbortHandler)
	case f.Lose != 0:
		fail(w, f.Lose)
		return
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have left
}

// ask asks the server. The signature names the host that the client has asked.
func (p *Proxy) ask(r *http.Request, body []byte) (status int, header http.Header, text []byte, err error) {
	out := r.Clone(context.WithoutCancel(r.Context()))
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.server.addr, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := p.client.Do(out)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header, text, err
}

// fail answers as S3 does, or closes the connection.
func fail(w http.ResponseWriter, status int) {
	if status == Cut {
		panic(http.ErrAbortHandler)
	}
	code := map[int]string{http.StatusServiceUnavailable: "SlowDown", http.StatusInternalServerError: "InternalError"}[status]
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>a test's fault</Message></Error>", code)
}
