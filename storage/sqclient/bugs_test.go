package sqclient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/memlimit"
)

// TestAnnouncedForEver is an answer whose length no memory has, while another
// answer is in memory.
func TestAnnouncedForEver(t *testing.T) {
	child := childAt(t, backend(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhi", int64(math.MaxInt64)))))
	other := child.client.Hold("/data")
	if !other.Grow(1) {
		t.Fatal("there is no room at all")
	}
	defer other.Release()
	for name, held := range map[string]*memlimit.Reservation{"of another": child.client.Hold("/data"), "of the same": other} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: it panics: %v", name, r)
				}
			}()
			if _, err := child.Do(t.Context(), get(), held); !errors.Is(err, errNoMemory) {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
}

// TestAnExchangeEndsInTheHead of an answer: the error says that time is up, and
// not that SQ sent a malformed header. A read that is merely slow is answered
// with 504 and leaves the child as it is.
func TestAnExchangeEndsInTheHead(t *testing.T) {
	addr, _, ended := silent(t, "HTTP/1.1 200 OK\r\nConte")
	c, l := client(addr)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := roundTrip(ctx, &Reads{Client: c, Dir: "/data"}); !errors.Is(err, context.DeadlineExceeded) || !apierror.IsTimeout(err) || l.ends() != released {
		t.Errorf("%v, the child was %s", err, l.ends())
	}
	<-ended
}
