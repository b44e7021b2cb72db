package cluster

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/pace"
)

const piece = 8 << 10

// slowClient sends a piece of a large body, and no more before it is answered.
type slowClient struct {
	*testing.T
	*httptest.ResponseRecorder
	sent     atomic.Bool
	reading  atomic.Bool
	deadline chan bool // gets a value when one is set
	answered chan bool // closed
}

func (c *slowClient) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	if !c.sent.Swap(true) {
		return copy(p, make([]byte, piece)), nil
	}
	select {
	case <-c.deadline:
	case <-c.answered:
		c.Error("the body was read while it was answered")
	}
	return 0, os.ErrDeadlineExceeded
}

func (c *slowClient) SetReadDeadline(t time.Time) error {
	if left := time.Until(t); left <= 0 || left > pace.LeftoverTime {
		c.Errorf("it has %v", left)
	}
	c.deadline <- true
	return nil
}

func (c *slowClient) WriteHeader(status int) {
	if c.reading.Load() {
		c.Error("it was answered while the body was read")
	}
	close(c.answered)
	c.ResponseRecorder.WriteHeader(status)
}

// TestAnAnswerComesBeforeTheWholeBody has the owner refuse a body of which it has seen the
// beginning. The client's connection and its turn are not used by two then.
func TestAnAnswerComesBeforeTheWholeBody(t *testing.T) {
	b := &bucket{owner: "b"}
	a := b.join(t, "a", nil)
	text := strings.Repeat("no ", 1<<20)
	b.join(t, "b", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, piece))
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, text)
	})
	c := &slowClient{T: t, ResponseRecorder: httptest.NewRecorder(), deadline: make(chan bool, 1), answered: make(chan bool)}
	r := httptest.NewRequest("POST", "/u", c)
	r.ContentLength = 100 << 20
	err := a.Serve(c, r, Call{Dir: "d", ID: "0123456789abcdef"})
	if err != nil || c.Code != http.StatusRequestEntityTooLarge || c.Body.String() != text {
		t.Errorf("%d with %d bytes, %v", c.Code, c.Body.Len(), err)
	}
}
