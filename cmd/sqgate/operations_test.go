package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// batchOf is the body of a batch.
func batchOf(operations ...map[string]string) string {
	body, err := json.Marshal(map[string]any{"operations": operations})
	if err != nil {
		panic(err) // which strings never are
	}
	return string(body)
}

// batchResult is what the answer to a batch says of an operation.
type batchResult struct {
	Op, C, Answer, S, ETag string
	Exists                 bool
}

func resultsOf(t *testing.T, body string) []batchResult {
	t.Helper()
	var answer struct{ Results []batchResult }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return answer.Results
}

// TestBatches walks through batches as a user does, in a directory that two tenants share:
// numbers, names, own prefixes and preconditions, an error that names its operation, a
// repeated key, further keys, changes and history, other writes before and after, and a
// kill of everything.
func TestBatches(t *testing.T) {
	forEachSQ(t, func(t *testing.T, sq string) {
		g := newGate(t, sq, "will", "emi")
		for _, id := range []string{"will", "emi"} {
			g.set(id, "shared_data_dir", true)
			g.set(id, "data_dir", filepath.Join(g.dir, "shared"))
		}
		g.writeFile()
		g.start()
		batch := func(id string, status int, operations ...map[string]string) reply {
			t.Helper()
			return g.must(id, "POST", "/api/v2/batch?p=notes", batchOf(operations...), status)
		}
		g.must("emi", "POST", at("update", "notes", origin), "emi's", 200)
		first := g.must("will", "POST", at("update", "notes", origin), "one", 200).header.Get("ETag")
		r := batch("will", 200,
			map[string]string{"op": "update", "c": "will." + origin, "s": "ONE", "if_match": first},
			map[string]string{"op": "insert", "c": "a.name", "s": "named"},
			map[string]string{"op": "insert", "c": "2026.11.29/1.1.1/1.1.1", "s": "dated"},
			map[string]string{"op": "select", "c": "a.name"},
			map[string]string{"op": "delete", "c": "1.1.1/1.1.1/1.1.9"},
			map[string]string{"op": "select", "c": "no.such.name"})
		results := resultsOf(t, r.body)
		if len(results) != 6 || results[0].Answer != "Updated 3 bytes" || results[3].S != "named" || !results[3].Exists || results[4].Answer != "Removed 0 bytes" || results[5].Exists {
			t.Errorf("the results: %s", r.body)
		}
		if got := g.must("will", "GET", at("select", "notes", origin), "", 200); got.body != "ONE" || got.header.Get("ETag") != results[0].ETag {
			t.Errorf("%q as %s, want %s", got.body, got.header.Get("ETag"), results[0].ETag)
		}
		want := func(what, one, name, dated string) {
			t.Helper()
			for c, text := range map[string]string{origin: one, "a.name": name, "2026.11.29/1.1.1/1.1.1": dated} {
				if got := g.get("will", at("select", "notes", c)); got != text {
					t.Errorf("%s, %s: %q, want %q", what, c, got, text)
				}
			}
			if got := g.get("emi", at("select", "notes", origin)); got != "emi's" {
				t.Errorf("%s, emi has %q", what, got)
			}
		}
		want("after a batch", "ONE", "named", "dated")

		// Refusals name the operation, and change nothing.
		for _, test := range []struct {
			status     int
			code       string
			index      int
			operations []map[string]string
		}{
			{412, "precondition_failed", 1, []map[string]string{{"op": "delete", "c": "a.name"}, {"op": "update", "c": origin, "s": "x", "if_match": first}}},
			{400, "bad_request", 1, []map[string]string{{"op": "delete", "c": "a.name"}, {"op": "update", "c": origin}}},
			{400, "scroll_has_delimiters", 0, []map[string]string{{"op": "update", "c": origin, "s": "a\x17b"}}},
			{403, "forbidden", 1, []map[string]string{{"op": "delete", "c": "a.name"}, {"op": "select", "c": "emi." + origin}}},
		} {
			r := batch("will", test.status, test.operations...)
			var e struct {
				Error, Code string
				Operation   *int
			}
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Code != test.code || e.Operation == nil || *e.Operation != test.index || !strings.HasPrefix(e.Error, fmt.Sprintf("operations[%d]: ", test.index)) {
				t.Errorf("%d %s: %v", r.status, r.body, err)
			}
		}
		want("after refusals", "ONE", "named", "dated")

		// A batch with an Idempotency-Key is made once.
		for range 2 {
			req, err := http.NewRequest("POST", g.base()+"/api/v2/batch?p=notes", strings.NewReader(batchOf(map[string]string{"op": "insert", "c": origin, "s": "+"}, map[string]string{"op": "select", "c": origin})))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+g.key("will"))
			req.Header.Set("Idempotency-Key", "once")
			if r, err := g.send(req); err != nil || r.status != 200 || resultsOf(t, r.body)[1].S != "ONE+" {
				t.Errorf("%d %s %v", r.status, r.body, err)
			}
		}

		// A further key has its rights in a batch, too.
		key := g.manage("POST", "tenants/will/keys", `{"id": "logger", "access": "append"}`, 201)["api_key"].(string)
		if r := g.withBearer(key, "POST", "/api/v2/batch?p=notes", batchOf(map[string]string{"op": "update", "c": "2.1.1/1.1.1/1.1.1", "s": "log"}, map[string]string{"op": "insert", "c": "2.1.1/1.1.1/1.1.1", "s": "ged"})); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r := g.withBearer(key, "POST", "/api/v2/batch?p=notes", batchOf(map[string]string{"op": "insert", "c": "2.1.1/1.1.1/1.1.2", "s": "x"}, map[string]string{"op": "update", "c": "2.1.1/1.1.1/1.1.2", "s": "y"})); r.status != 403 || !strings.Contains(r.body, `"operation":1`) {
			t.Errorf("%d %s", r.status, r.body)
		}

		// SQ goes on from what a batch has left, and all changes are told, in order.
		g.must("will", "POST", at("insert", "notes", "a.name"), "!", 200)
		want("after another write", "ONE+", "named!", "dated")
		var ops []string
		for _, c := range g.changes("will", "?p=notes") {
			ops = append(ops, c.Op+" "+c.C)
		}
		if want := []string{"update " + origin, "update " + origin, "insert a.name", "insert 2026.11.29/1.1.1/1.1.1", "delete 1.1.1/1.1.1/1.1.9", "insert " + origin, "update 2.1.1/1.1.1/1.1.1", "insert 2.1.1/1.1.1/1.1.1", "insert a.name"}; !slices.Equal(ops, want) {
			t.Errorf("changes\n%s, want\n%s", strings.Join(ops, "\n"), strings.Join(want, "\n"))
		}

		// Nothing of it is lost with the processes, and nothing is torn apart.
		stop, all := make(chan struct{}), &together{slot: newSlot("will", "notes", nil), at: []string{"5.1.1/1.1.1/1.1.1", "b.name", "6.1.1/1.1.1/1.1.1"}}
		var writer sync.WaitGroup
		for round := range 3 {
			writer.Go(func() { all.write(g, stop, round) })
			eventually(t, "a batch is written", func() bool {
				info, err := os.Stat(filepath.Join(g.dir, "shared", "will.notes.phext"))
				return err == nil && info.Size() > int64(800*(round+1))
			})
			g.kill()
			writer.Wait()
			g.start()
			if problem := all.check(g); problem != "" {
				t.Fatal(problem)
			}
			want("after a kill", "ONE+", "named!", "dated")
		}
	})
}
