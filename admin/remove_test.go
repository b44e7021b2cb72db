package admin

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tenantA = "/api/v2/admin/tenants/a"

// withPhexts gives the tenant a two phexts.
func withPhexts(t *testing.T) *API {
	t.Helper()
	a := newAPI(t)
	must(t, os.Mkdir(filepath.Join(a.DataRoot, "a"), 0o700))
	for _, name := range []string{"n.phext", "m.phext"} {
		must(t, os.WriteFile(filepath.Join(a.DataRoot, "a", name), []byte(name), 0o600))
	}
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deleted deletes the tenant, and is its archive.
func deleted(t *testing.T, a *API) string {
	t.Helper()
	w := call(a, managementKey, "DELETE", tenantA, "")
	var answer struct{ Archive string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return answer.Archive
}

// wantUnfinished checks that an answer says what was done, and what to do.
func wantUnfinished(t *testing.T, w *httptest.ResponseRecorder, words ...string) {
	t.Helper()
	said := w.Body.String()
	if w.Code != 500 || strings.Contains(said, "nothing was") {
		t.Errorf("%d %s", w.Code, said)
	}
	for _, want := range words {
		if !strings.Contains(said, want) {
			t.Errorf("%s does not say %q", said, want)
		}
	}
}

// TestCallsOfWhichAPartIsDone never say that nothing was changed.
func TestCallsOfWhichAPartIsDone(t *testing.T) {
	t.Run("delete", func(t *testing.T) {
		a := withPhexts(t)
		dir := filepath.Join(a.DataRoot, "a")
		a.Dirs.Of(dir).MarkWritten(dir)
		must(t, os.Rename(dir, dir+" elsewhere"))
		wantUnfinished(t, call(a, managementKey, "DELETE", tenantA, ""), "is disabled", "is not there", "delete it again")
		must(t, os.Rename(dir+" elsewhere", dir))
		deleted(t, a)
	})
	t.Run("restore", func(t *testing.T) {
		a := withPhexts(t)
		body := `{"archive": "` + deleted(t, a) + `"}`
		config := filepath.Join(a.DataRoot, "tenants.json")
		must(t, os.Rename(config, config+" elsewhere"))
		wantUnfinished(t, call(a, managementKey, "POST", tenantA+"/restore", body), "not enabled yet", "tenants.json", "repeat the restore")
		must(t, os.Rename(config+" elsewhere", config))
		if w := call(a, managementKey, "POST", tenantA+"/restore", body); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	t.Run("purge", func(t *testing.T) {
		a := withPhexts(t)
		deleted(t, a)
		config := filepath.Join(a.DataRoot, "tenants.json")
		must(t, os.Rename(config, config+" elsewhere"))
		wantUnfinished(t, call(a, managementKey, "POST", tenantA+"/purge", `{"confirm": "a"}`), "not purged yet", "tenants.json", "repeat the purge")
		must(t, os.Rename(config+" elsewhere", config))
		if w := call(a, managementKey, "POST", tenantA+"/purge", `{"confirm": "a"}`); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestARestoreThatPlacedNothing is an error of the archive alone.
func TestARestoreThatPlacedNothing(t *testing.T) {
	a := withPhexts(t)
	deleted(t, a)
	if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "a-20260304T120000.000000005Z.tar.gz"}`); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
