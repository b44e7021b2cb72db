package admin

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	"mirrorborn.us/sqgate/storage/journal"
)

// deadlines notes the read deadlines of a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.set = append(d.set, t); return nil }

// TestAnUploadHasADeadline expects one before the first byte of a backup is
// waited for, and none behind its end.
func TestAnUploadHasADeadline(t *testing.T) {
	a, dir := newAPI(t), t.TempDir()
	set, err := journal.New(journal.Config{Dir: filepath.Join(dir, "journal"), Quarantine: filepath.Join(dir, "quarantine")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	a.Dirs = datadir.New(datadir.Config{
		Tenants: a.Store.Current, Journal: set, MaxBody: 1 << 20, Logger: slog.Default(),
		StopChild: func(context.Context, string, string) error { return nil },
	})
	a.History = &history.Service{Dirs: a.Dirs, Ledger: a.Ledger, SpoolDir: dir}
	r := httptest.NewRequest("POST", "/api/v2/admin/tenants/"+a.Store.Current().All()[0].ID+"/restore", strings.NewReader("no tar"))
	r.Header.Set("Authorization", "Bearer "+managementKey)
	r.Header.Set("Content-Type", tarType)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	a.ServeHTTP(w, r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "not a backup") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(w.set) < 2 || !w.set[0].After(time.Now()) || !w.set[len(w.set)-1].IsZero() {
		t.Errorf("the deadlines were %v", w.set)
	}
}
