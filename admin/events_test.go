package admin

import (
	"bufio"
	"encoding/json"
	"hash/maphash"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirrorborn.us/sqgate/tenants"
)

// TestEventsHaveWhatChanged looks at what the events of a stream have.
func TestEventsHaveWhatChanged(t *testing.T) {
	a := newAPI(t)
	sent := &sentState{seed: maphash.MakeSeed(), sums: map[string]uint64{}}
	expect := func(what, tenants, removed string, parts bool) {
		t.Helper()
		e := a.eventSince(sent)
		var ids []string
		for _, text := range e.Tenants {
			var v tenantView
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, v.ID)
		}
		if got := strings.Join(ids, " "); got != tenants {
			t.Errorf("%s: tenants %q, want %q", what, got, tenants)
		}
		if got := strings.Join(e.Removed, " "); got != removed {
			t.Errorf("%s: removed %q, want %q", what, got, removed)
		}
		if has := e.Calls != nil; has != parts {
			t.Errorf("%s: calls are sent: %v", what, has)
		}
	}
	expect("the first event", "a", "", true)
	expect("nothing happened", "", "", false)
	if w := call(a, managementKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "b"}`); w.Code != 201 {
		t.Fatal(w.Body)
	}
	expect("one was added", "b", "", false)
	a.Counts.Served("b", "select", 404, "not_found", time.Millisecond)
	expect("it called", "b", "", true)
	err := a.Store.Edit(func(d *tenants.Document) error { return d.Remove("b", func(*tenants.Entry) error { return nil }) })
	if err != nil {
		t.Fatal(err)
	}
	expect("it was removed", "", "b", true)
}

func TestAuditLinesOfEvents(t *testing.T) {
	a := newAPI(t)
	long := `{"time":"2026-03-04T12:00:00Z","what":"restore","after":["` + strings.Repeat("ä", auditTail) + `"]}`
	lines := long + "\n{\n" + `{"time":"2026-03-04T12:00:01Z","what":"change","before":{"quota_mb":1},"after":["` + strings.Repeat("ä", auditDetail) + `"]}` + "\n"
	if err := os.WriteFile(a.AuditFile, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	got := a.audit.last()
	if len(got) != 1 || got[0].What != "change" || got[0].Before != `{"quota_mb":1}` || !strings.HasSuffix(got[0].After, "ä…") || len(got[0].After) > auditDetail+len("…") {
		t.Errorf("%.900v", got)
	}
}

// TestStreamsEnd opens as many streams as there may be, and ends them.
func TestStreamsEnd(t *testing.T) {
	a := newAPI(t)
	server := httptest.NewServer(a)
	defer server.Close()
	open := func() *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/v2/admin/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+managementKey)
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	var streams []*bufio.Reader
	for range mostListeners {
		in := bufio.NewReader(open().Body)
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, `data: {"at":`) {
			t.Fatalf("%q, %v", line, err)
		}
		streams = append(streams, in)
	}
	if answer := open(); answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("one stream too many: %d", answer.StatusCode)
	}
	a.EndStreams()
	a.EndStreams()
	for _, in := range streams {
		if _, err := io.ReadAll(in); err != nil {
			t.Error(err)
		}
	}
	if text, err := io.ReadAll(open().Body); err != nil || !strings.HasSuffix(string(text), "}\n\n") {
		t.Errorf("a stream that begins when they end: %q, %v", text, err)
	}
}

func TestRecentSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(slotTime - time.Duration(time.Now().UnixNano()%int64(slotTime))) // a slot begins
		r := newRecent()
		r.add("a", true, true)
		time.Sleep(slotTime)
		r.add("a", true, false)
		r.add("a", true, false)
		calls, errors := r.of("a")
		if calls[recentSlots-1] != 2 || calls[recentSlots-2] != 1 || errors[recentSlots-1] != 0 || errors[recentSlots-2] != 1 {
			t.Errorf("%v, %v", calls, errors)
		}
		time.Sleep((recentSlots - 1) * slotTime)
		if calls, errors := r.of("a"); calls != (slots{2}) || errors != (slots{}) {
			t.Errorf("%v, %v", calls, errors)
		}
		time.Sleep(recentSlots * slotTime)
		if calls, _ := r.of("a"); calls != (slots{}) {
			t.Errorf("%v", calls)
		}
		if calls, _ := r.of("b"); calls != (slots{}) {
			t.Errorf("of nobody: %v", calls)
		}
	})
}
