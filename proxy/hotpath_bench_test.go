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

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/journal"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
)

// BenchmarkHotPath is what a select costs on top of its answer: key look-up,
// parsing, limits, turn, metrics, log line. The phext has no file, so that
// there is nothing to answer but "". A look for the file is part of it.
func BenchmarkHotPath(b *testing.B) {
	g := benchGateway(b)
	h := g.Handler()
	r := httptest.NewRequest("GET", "/api/v2/select?p=notes&c=1.1.1/1.1.1/1.2.3", nil)
	r.Header.Set("Authorization", "Bearer "+benchKey)
	b.ReportAllocs()
	w := &benchWriter{header: http.Header{}}
	for b.Loop() {
		clear(w.header)
		w.status = 0
		h.ServeHTTP(w, r)
		if w.status != http.StatusOK && w.status != 0 {
			b.Fatal("status", w.status)
		}
	}
}

const benchKey = "pmb-v1-00112233445566778899aabbccddeeff"

func benchGateway(b *testing.B) *Gateway {
	dir := b.TempDir()
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
	past, err := journal.New(journal.Config{Dir: filepath.Join(dir, "journal"), Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	return New(Config{Tenants: store, Journal: past, Children: noChildren{}, ReadMemory: 1 << 20, Calls: tenants.OpenCalls("", log), Ledger: tenants.NewLedger(store.Current, log),
		Observer: admin.NewMetrics("bench", store.Current, Resolve), MaxBody: 1 << 20, Logger: log})
}

// noChildren is for reads from memory, which need none.
type noChildren struct{}

func (noChildren) Lease(context.Context, string) (*supervisor.Lease, error) {
	return nil, supervisor.ErrClosed
}
func (noChildren) Clear(context.Context, string, string) error { return nil }

// benchWriter is a ResponseWriter that costs nothing.
type benchWriter struct {
	header http.Header
	status int
}

func (w *benchWriter) Header() http.Header         { return w.header }
func (w *benchWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *benchWriter) WriteHeader(status int)      { w.status = status }
