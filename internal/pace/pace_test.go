package pace

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/internal/fairqueue"
)

// inMemory is a listener whose connections are pipes, so that a bubble's clock
// runs their deadlines.
type inMemory struct {
	conns chan net.Conn
	over  chan struct{}
}

func (l *inMemory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *inMemory) Close() error   { close(l.over); return nil }
func (l *inMemory) Addr() net.Addr { return &net.TCPAddr{} }

func ignore(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }

func readAll(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
	}
}

// TestNoBodyHoldsItsConnection sends each kind of body that does not come, or
// that nobody wants. The client is told, and the connection ends in time, unless
// it is fit for the next request.
func TestNoBodyHoldsItsConnection(t *testing.T) {
	large := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 100<<10)) }
	slow := func(w http.ResponseWriter, r *http.Request) {
		readAll(w, r)
		select {
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		case <-time.After(2 * Patience):
		}
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		head    string
		pieces  int // of the body, a byte or size each
		size    int
		every   time.Duration
		status  int
		took    time.Duration // until the answer; at least, and less than a second more
		kept    bool
	}{
		{"one byte of a body that nobody reads", ignore, "Content-Length: 5000", 1, 1, 0, 401, LeftoverTime, false},
		{"a body that nobody reads, dripping", ignore, "Content-Length: 5000", 4999, 1, time.Second, 401, LeftoverTime, false},
		{"chunks that nobody reads, dripping", ignore, "Transfer-Encoding: chunked", 4999, 1, time.Second, 401, LeftoverTime, false},
		{"a large body that nobody reads", ignore, "Content-Length: 5000000", 5, 1e6, 0, 401, 0, true},
		{"more than is read of one", ignore, "Content-Length: 200000000", 200, 1e6, 0, 401, 0, false},
		{"a body that waits to be invited", ignore, "Content-Length: 5000\r\nExpect: 100-continue", 0, 0, 0, 401, 0, false},
		{"a long answer to it", large, "Content-Length: 5000", 1, 1, 0, 200, LeftoverTime, false},
		{"a body that stops", readAll, "Content-Length: 5000", 1, 1, 0, 408, Patience, false},
		{"a body that drips", readAll, "Content-Length: 5000", 4999, 1, time.Second, 408, Patience, false},
		{"a body that is slow, but comes", readAll, "Content-Length: 655360", 10, Step, 20 * time.Second, 200, 200 * time.Second, true},
		{"a body that came, and a slow answer", slow, "Content-Length: 10", 1, 10, 0, 200, 2 * Patience, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &inMemory{make(chan net.Conn), make(chan struct{})}
				s := http.Server{Handler: Bodies(test.handler)}
				go func() { _ = s.Serve(l) }()
				defer s.Close()
				client, server := net.Pipe()
				l.conns <- server
				began := time.Now()
				sent := make(chan struct{})
				defer func() { <-sent }()
				defer client.Close()
				go func() {
					defer close(sent)
					b := []byte("POST / HTTP/1.1\r\nHost: x\r\n" + test.head + "\r\n\r\n")
					for piece := strings.Repeat("x", test.size); test.pieces >= 0; test.pieces-- {
						if _, err := client.Write(b); err != nil {
							return
						}
						time.Sleep(test.every)
						if b = []byte(piece); strings.Contains(test.head, "chunked") {
							b = []byte("1\r\nx\r\n")
						}
					}
				}()
				in := bufio.NewReader(client)
				answer, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if _, err := io.Copy(io.Discard, answer.Body); err != nil {
					t.Error(err)
				}
				if answer.StatusCode != test.status || answer.Close == test.kept || took < test.took || took >= test.took+time.Second {
					t.Errorf("%s, close: %v, after %v; want %d after %v", answer.Status, answer.Close, took, test.status, test.took)
				}
				if test.kept {
					_, err = client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
				} else if _, err := in.ReadByte(); err != io.EOF {
					t.Errorf("the connection goes on: %v", err)
				}
				if took := time.Since(began); err != nil || took > test.took+2*time.Second {
					t.Errorf("%v, %v", err, took)
				}
			})
		})
	}
}

// TestTheTurnIsGivenBack while the body is read that nobody wanted, whether the answer
// is short or too long to wait in net/http's buffer.
func TestTheTurnIsGivenBack(t *testing.T) {
	for name, size := range map[string]int{"short": 10, "long": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			turns, err := fairqueue.New(1)
			if err != nil {
				t.Fatal(err)
			}
			defer turns.Close()
			taken := make(chan struct{})
			handler := Bodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := fairqueue.FromContext(r.Context()).Take(r.Context()); err != nil {
					t.Error(err)
				}
				close(taken)
				_, _ = io.WriteString(w, strings.Repeat("x", size))
			}))
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				turn := turns.Turn("slow")
				defer turn.Give()
				handler.ServeHTTP(w, r.WithContext(fairqueue.WithTurn(r.Context(), turn)))
			}))
			defer s.Close()
			client, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nx"); err != nil {
				t.Fatal(err)
			}
			<-taken
			ctx, cancel := context.WithTimeout(t.Context(), LeftoverTime/2)
			defer cancel()
			other := turns.Turn("other")
			if err := other.Take(ctx); err != nil {
				t.Errorf("another waits for the client's body: %v", err)
			}
			other.Give()
		})
	}
}
