package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/tenants"
)

// BenchmarkHotPath is what a select from memory costs: key look-up, parsing,
// limits, metrics, log line, and the look at the file that shows whether it is
// still the one that was parsed. What net/http does on a connection is not in it.
func BenchmarkHotPath(b *testing.B) {
	for _, c := range hotSelects {
		b.Run(c.name, func(b *testing.B) {
			once := hotSelect(b, c.phext, c.answer)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

// mostAllocs is what a select from memory may allocate.
var mostAllocs = 20.0

// poolsForget says that numbers of allocations are not always the same.
var poolsForget bool

func TestHotPathAllocatesLittle(t *testing.T) {
	for _, c := range hotSelects {
		once := hotSelect(t, c.phext, c.answer)
		if n := testing.AllocsPerRun(200, once); n > mostAllocs+c.more {
			t.Errorf("%s: %v allocations, %v are allowed", c.name, n, mostAllocs+c.more)
		}
	}
}

var hotSelects = []struct {
	name, phext, answer string
	more                float64 // allocations: where there is no file, the directory is opened and looked into
}{
	{"scroll", "notes", "the scroll", 0},
	{"no file", "nothing", "", 7},
}

// hotSelect makes a gateway with a phext "notes", and a select on it.
func hotSelect(t testing.TB, phext, answer string) (once func()) {
	w := newWorld(t, options{readMemory: 1 << 20, log: io.Discard, observe: func(store *tenants.Store) func(string, string, int, string, time.Duration) {
		return admin.NewMetrics("bench", store).Served
	}})
	h := w.Handler()
	r := httptest.NewRequest("GET", "/api/v2/select?p="+phext+"&c=1.1.1/1.1.1/1.1.3", nil)
	r.Header.Set("Authorization", "Bearer "+key)
	out := &benchWriter{header: http.Header{}}
	return func() {
		clear(out.header)
		out.status = 0
		h.ServeHTTP(out, r)
		if out.status != http.StatusOK && out.status != 0 || out.answer != answer {
			t.Fatalf("status %d, %q", out.status, out.answer)
		}
	}
}

// benchWriter is a ResponseWriter that costs nothing. As a server's, it has
// deadlines.
type benchWriter struct {
	header http.Header
	status int
	answer string
}

func (w *benchWriter) Header() http.Header                { return w.header }
func (w *benchWriter) Write(b []byte) (int, error)        { w.answer = string(b); return len(b), nil }
func (w *benchWriter) WriteHeader(status int)             { w.status = status }
func (w *benchWriter) SetWriteDeadline(_ time.Time) error { return nil }
