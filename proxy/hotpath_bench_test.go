package proxy

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
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
const mostAllocs = 20

func TestHotPathAllocatesLittle(t *testing.T) {
	for _, c := range hotSelects {
		once := hotSelect(t, c.phext, c.answer)
		if n := testing.AllocsPerRun(200, once); n > mostAllocs {
			t.Errorf("%s: %v allocations, %d are allowed", c.name, n, mostAllocs)
		}
	}
}

var hotSelects = []struct{ name, phext, answer string }{
	{"scroll", "notes", "the scroll"},
	{"no file", "nothing", ""},
}

// hotSelect makes a gateway with a phext "notes", and a select on it.
func hotSelect(t testing.TB, phext, answer string) (once func()) {
	h := benchGateway(t).Handler()
	r := httptest.NewRequest("GET", "/api/v2/select?p="+phext+"&c=1.1.1/1.1.1/1.1.3", nil)
	r.Header.Set("Authorization", "Bearer "+benchKey)
	w := &benchWriter{header: http.Header{}}
	return func() {
		clear(w.header)
		w.status = 0
		h.ServeHTTP(w, r)
		if w.status != http.StatusOK && w.status != 0 || w.answer != answer {
			t.Fatalf("status %d, %q", w.status, w.answer)
		}
	}
}

const benchKey = "pmb-v1-00112233445566778899aabbccddeeff"

func benchGateway(b testing.TB) *Gateway {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "notes.phext"), []byte("\x17\x17the scroll"), 0o600); err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"tenants": []any{map[string]any{
		"id": "will", "api_key": benchKey, "data_dir": filepath.Join(dir, "data"), "requests_per_minute": 1 << 30}}})
	if err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(dir, "tenants.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := tenants.Open(tenants.Options{Path: config, Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	past, err := journal.New(journal.Config{Dir: filepath.Join(dir, "journal"), Quarantine: filepath.Join(dir, "quarantine"), Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	return New(Config{Tenants: store, Journal: past, Children: noChildren{}, ReadMemory: 1 << 20, Calls: quota.OpenCalls("", log), Ledger: quota.NewLedger(store.Current, log),
		Observer: admin.NewMetrics("bench", store.Current, Resolve), MaxBody: 1 << 20, Logger: log})
}

// noChildren is for reads from memory, which need none.
type noChildren struct{}

func (noChildren) Lease(context.Context, string) (*supervisor.Lease, error) {
	return nil, supervisor.ErrClosed
}
func (noChildren) Clear(context.Context, string, string) error { return nil }

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
