package pace

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// deadlines notes the read deadlines of a connection.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.set = append(d.set, t); return nil }

func TestEachStepBuysTime(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	now := begun
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	p := Pacer{Clock: http.NewResponseController(d), Now: func() time.Time { now = now.Add(time.Second); return now }}
	if n, err := io.Copy(io.Discard, p.Reader(iotest.HalfReader(bytes.NewReader(make([]byte, 2*Step+1))))); n != 2*Step+1 || err != nil {
		t.Fatal(n, err)
	}
	p.Stop()
	want := []time.Time{begun.Add(time.Second + Patience), begun.Add(2*time.Second + Patience), begun.Add(3*time.Second + Patience), {}}
	if !slices.Equal(d.set, want) {
		t.Errorf("%v, want %v", d.set, want)
	}
}
