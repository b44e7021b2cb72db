package sqclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
)

// errAny stands for every error but a StatusError and a lack of memory.
var errAny = errors.New("an error")

func isError(err, want error) bool {
	var status StatusError
	if want == errAny {
		return err != nil && !errors.As(err, &status) && !errors.Is(err, errNoMemory)
	}
	return errors.Is(err, want)
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 200000)
	for _, test := range []struct {
		name, answer string
		body         string
		err          error // nil: it is understood
	}{
		{"as SQ answers", "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nhi", "hi", nil},
		{"an empty body", empty, "", nil},
		{"a body larger than the buffer", "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + long, long, nil},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", nil},
		{"more than was announced", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and then some", "hi", nil},
		{"a head of 60 KiB", "HTTP/1.1 200 OK\r\nX: " + long[:60000] + "\r\nContent-Length: 2\r\n\r\nhi", "hi", nil},
		{"a head of 70 KiB", "HTTP/1.1 200 OK\r\nX: " + long[:70000] + "\r\nContent-Length: 2\r\n\r\nhi", "", errAny},
		{"nothing", "", "", io.ErrUnexpectedEOF},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", "", errAny},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "", io.ErrUnexpectedEOF},
		{"no Content-Length", "HTTP/1.1 200 OK\r\n\r\nhi", "", errGarbled},
		{"two that differ", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\nhi", "", errAny},
		{"two that are one", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "hi", nil},
		{"a negative one", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", "", errAny},
		{"a list as one", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", "", errAny},
		{"one with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", "", errAny},
		{"one past what a number can be", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhi", "", errAny},
		{"one past all memory", "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\nhi", "", errNoMemory},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", "", errGarbled},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", "", errAny},
		{"no header", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", "", errAny},
		{"an interim answer", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
		{"another interim answer", "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
		{"another protocol on the connection", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "", errGarbled},
		{"another protocol", "SSH-2.0-OpenSSH\r\n\r\n", "", errAny},
		{"another version", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "", errGarbled},
		{"a status that is none", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", "", errAny},
		{"success of another kind", "HTTP/1.1 204 No Content\r\n\r\n", "", StatusError(204)},
		{"a refusal", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found", "", StatusError(404)},
		{"a failure", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nno", "", StatusError(500)},
	} {
		t.Run(test.name, func(t *testing.T) {
			child := childAt(t, backend(t, answering(test.answer)))
			body, err := do(t.Context(), child, get())
			if !isError(err, test.err) || err == nil && body != test.body {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			wantAllFree(t, child.client)
		})
	}
}

// TestAnswersThatAreCut cuts SQ's answer after each of its bytes.
func TestAnswersThatAreCut(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
	cut := make(chan int, 1)
	child := childAt(t, backend(t, func(c *net.TCPConn) { answering(answer[:<-cut])(c) }))
	for n := range len(answer) {
		cut <- n
		if body, err := do(t.Context(), child, get()); !isError(err, errAny) {
			t.Errorf("after %d bytes: %q, %v", n, body, err)
		}
	}
	cut <- len(answer)
	if body, err := do(t.Context(), child, get()); body != "hello" || err != nil {
		t.Errorf("the whole: %q, %v", body, err)
	}
}

// TestAHeadWithoutEnd is given up when it is too large, although SQ would go on.
func TestAHeadWithoutEnd(t *testing.T) {
	for name, piece := range map[string]string{"one header": "x", "many headers": "X: y\r\n", "no status": "HTTP/1.1 2"} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			addr := backend(t, func(c *net.TCPConn) {
				start := "HTTP/1.1 200 OK\r\nX: "
				if name == "no status" {
					start = ""
				}
				answering(start)(c)
				piece, total := strings.Repeat(piece, 100), 0
				for {
					n, err := io.WriteString(c, piece)
					if total += n; err != nil {
						sent <- total
						return
					}
				}
			})
			if body, err := do(t.Context(), childAt(t, addr), get()); err == nil {
				t.Errorf("%q", body)
			}
			<-sent // the connection was closed
		})
	}
}

// TestAnEarlyAnswer comes before SQ has read the request, and SQ closes behind
// it. It is believed only if it is an error.
func TestAnEarlyAnswer(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		status       int // 0 = another error
	}{
		{"SQ is full", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfull", 503},
		{"SQ says that it is done", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfull", 0},
		{"SQ says nothing", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := backend(t, func(conn *net.TCPConn) {
				_, _ = io.WriteString(conn, test.answer)
				_, _ = conn.Read(make([]byte, 1)) // the rest stays unread, so that closing is a reset
			})
			child := childAt(t, addr)
			check := func(err error) {
				t.Helper()
				if test.status != 0 && !isStatus(err, test.status) || test.status == 0 && !hungUp(err) {
					t.Errorf("%v", err)
				}
			}
			_, err := do(t.Context(), child, post(make([]byte, 32<<20)))
			check(err)

			// The same with a last byte that is never sent.
			conn, err := child.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := errors.Join(conn.SendHeld(post(make([]byte, 32<<20))), conn.SendRest()); err != nil {
				t.Fatal(err)
			}
			held := child.client.Hold("/data")
			defer held.Release()
			_, err = conn.Receive(held)
			check(err)
		})
	}
}

// TestAnExchangeEndsWithItsContext wherever SQ hangs. SQ sees a reset: the end
// of the stream would mean to it that a short body is whole.
func TestAnExchangeEndsWithItsContext(t *testing.T) {
	for name, test := range map[string]struct {
		text string // that SQ answers before it hangs
		out  rewrite.Outgoing
	}{
		"before the answer":        {"", get()},
		"in the body":              {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi", get()},
		"before the body":          {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", get()},
		"after the start of write": {"", post(make([]byte, 1<<20))},
	} {
		t.Run(name, func(t *testing.T) {
			addr, began, ended := silent(t, test.text)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-began; cancel() }()
			child := childAt(t, addr)
			if _, err := do(ctx, child, test.out); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("SQ saw %v", err)
			}
			wantAllFree(t, child.client)
		})
		t.Run(name+", with a deadline", func(t *testing.T) {
			addr, _, ended := silent(t, test.text)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := do(ctx, childAt(t, addr), test.out); !errors.Is(err, context.DeadlineExceeded) || !apierror.IsTimeout(err) {
				t.Errorf("%v", err)
			}
			<-ended
		})
	}
}

// TestAWriteThatNobodyReads ends with its context too.
func TestAWriteThatNobodyReads(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	addr := backend(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		close(began)
		<-end
	})
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := do(ctx, childAt(t, addr), post(make([]byte, 64<<20))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestAHeldWriteIsResetWhenItIsGivenUp looks from SQ's side.
func TestAHeldWriteIsResetWhenItIsGivenUp(t *testing.T) {
	addr, began, ended := silent(t, "")
	conn, err := childAt(t, addr).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SendHeld(post([]byte("text"))); err != nil {
		t.Fatal(err)
	}
	<-began
	conn.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("SQ saw %v", err)
	}
}

// TestBuffersAreNotShared has many exchanges at once, each with a text of its own.
func TestBuffersAreNotShared(t *testing.T) {
	addr := backend(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			t.Error(err)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	child := childAt(t, addr)
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for j := range 50 {
				text := strings.Repeat(strconv.Itoa(i), 1+997*j)
				body, err := do(t.Context(), child, post([]byte(text)))
				if err != nil || body != text {
					t.Errorf("%d, %d: %d bytes, %v", i, j, len(body), err)
				}
			}
		})
	}
	workers.Wait()
}

// TestAnswersAreHeldInMemory counts each answer while it is held, and refuses
// the one for which there is no room.
func TestAnswersAreHeldInMemory(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + strings.Repeat("x", 400000)
	c, l := client(backend(t, answering(answer)))
	child, err := c.Lease(t.Context(), "/data")
	if err != nil {
		t.Fatal(err)
	}
	mine, others := c.Hold("/data"), c.Hold("/data")
	for i := range 2 {
		if _, err := child.Do(t.Context(), get(), mine); err != nil || mine.Size() != int64(i+1)*400000 {
			t.Fatalf("%d bytes are held, %v", mine.Size(), err)
		}
	}
	for _, held := range []*memlimit.Reservation{mine, others} {
		before := held.Size()
		_, err := child.Do(t.Context(), get(), held)
		if e := apierror.From(err); e == nil || e.Kind != apierror.Unavailable || e.RetryAfter != time.Second || held.Size() != before {
			t.Errorf("no room: %v, %d bytes are held", err, held.Size())
		}
	}
	child.End(errNoMemory)
	mine.Release()
	if _, err := child.Do(t.Context(), get(), others); err != nil || others.Size() != 400000 {
		t.Errorf("%d bytes are held, %v", others.Size(), err)
	}
	others.Release()
	wantAllFree(t, c)
	if l.ends() != released {
		t.Errorf("the child was %s", l.ends())
	}
}

// BenchmarkDo compares Do with http.Transport, set as it has to be for SQ, in
// front of the stand-in.
func BenchmarkDo(b *testing.B) {
	addr := standIn(b, nil)
	child := childAt(b, addr)
	out := rewrite.Outgoing{Method: "GET", Path: "/api/v2/select", Query: "p=n&c=1.1.1/1.1.1/1.1.1"}
	plain := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	for _, side := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"sqclient", func(ctx context.Context) error { _, err := do(ctx, child, out); return err }},
		{"net/http", func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, out.Method, "http://"+addr+out.Path+"?"+out.Query, bytes.NewReader(nil))
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+childKey)
			resp, err := plain.RoundTrip(r)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			return errors.Join(err, resp.Body.Close())
		}},
	} {
		b.Run(side.name, func(b *testing.B) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if err := side.do(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
