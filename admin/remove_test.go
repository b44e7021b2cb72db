package admin

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/tenants"
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

// TestAPurgeThatMayNotBe changes nothing.
func TestAPurgeThatMayNotBe(t *testing.T) {
	a := withPhexts(t)
	archive := deleted(t, a)
	a.MayPurge = func(of *tenants.Tenant) error { return apierror.New(apierror.Conflict, "%s is in a bucket", of.ID) }
	if w := call(a, managementKey, "POST", tenantA+"/purge", `{"confirm": "a"}`); w.Code != 409 || !strings.Contains(w.Body.String(), "a is in a bucket") || strings.Contains(w.Body.String(), "not purged yet") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "`+archive+`"}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestARestoreThatPlacedNothing is an error of the archive alone.
func TestARestoreThatPlacedNothing(t *testing.T) {
	a := withPhexts(t)
	deleted(t, a)
	if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "a-20260304T120000.000000005Z.tar.gz"}`); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// cutOff has a deletion of the tenant cut off, as a crash does, when its files are gone and
// its entry does not say yet that it is archived. It is the archive.
func cutOff(t *testing.T, a *API) (archive string) {
	t.Helper()
	config := filepath.Join(a.DataRoot, "tenants.json")
	disabled := call(a, managementKey, "PATCH", tenantA, `{"enabled": false}`)
	before, err := os.ReadFile(config)
	must(t, err)
	archive = deleted(t, a)
	must(t, os.WriteFile(config, before, 0o600))
	must(t, os.WriteFile(filepath.Join(a.ArchiveDir, "a.deleting"), []byte(`{"archive":"`+filepath.Base(archive)+`"}`), 0o600))
	if w := call(a, managementKey, "POST", "/api/v2/admin/reload", ""); disabled.Code != 200 || w.Code != 200 {
		t.Fatalf("%s, %s", disabled.Body, w.Body)
	}
	return archive
}

// wantDeleting checks that the tenant is disabled, and can only be deleted or restored.
func wantDeleting(t *testing.T, a *API, archive string) {
	t.Helper()
	const path = "/api/v2/admin/tenants"
	for _, w := range []*httptest.ResponseRecorder{call(a, managementKey, "GET", tenantA, ""), call(a, managementKey, "GET", path, "")} {
		if said := w.Body.String(); !strings.Contains(said, `"disabled"`) || !strings.Contains(said, `"archive":"`+archive) || !strings.Contains(said, "delete it again, or restore it") {
			t.Errorf("it is shown as %s", said)
		}
	}
	for _, one := range []struct{ method, path, body string }{
		{"PATCH", tenantA, `{"enabled": true}`},
		{"POST", tenantA + "/restore", `{"at": "1ns"}`},
		{"GET", tenantA + "/backup", ""},
	} {
		w := call(a, managementKey, one.method, one.path, one.body)
		if said := w.Body.String(); w.Code != 409 || !strings.Contains(said, "delete it again, or restore it") || !strings.Contains(said, archive) {
			t.Errorf("%s %s: %d %s", one.method, one.path, w.Code, said)
		}
	}
}

// TestADeletionThatIsNotFinished is finished by another one, or undone. Meanwhile, nobody
// begins a second set of data.
func TestADeletionThatIsNotFinished(t *testing.T) {
	marker := func(a *API) string { return filepath.Join(a.ArchiveDir, "a.deleting") }
	for name, prepare := range map[string]func(a *API){
		"all files are gone": func(*API) {},
		"one file is left": func(a *API) {
			must(t, os.WriteFile(filepath.Join(a.DataRoot, "a", "n.phext"), []byte("n.phext"), 0o600))
		},
		"the marker is damaged":                     func(a *API) { must(t, os.WriteFile(marker(a), nil, 0o600)) },
		"an earlier version has removed the marker": func(a *API) { must(t, os.Remove(marker(a))) },
	} {
		t.Run(name, func(t *testing.T) {
			a := withPhexts(t)
			archive := cutOff(t, a)
			prepare(a)
			wantDeleting(t, a, archive)
			var log strings.Builder
			a.Logger = slog.New(slog.NewTextHandler(&log, nil))
			a.WarnOfDeletions() // as at a start
			if !strings.Contains(log.String(), archive) {
				t.Errorf("the log says %q", log.String())
			}
			if again := deleted(t, a); again != archive {
				t.Errorf("it was deleted again into %s, not %s", again, archive)
			}
			if _, err := os.Stat(marker(a)); !os.IsNotExist(err) {
				t.Errorf("the marker is left: %v", err)
			}
			if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "`+archive+`"}`); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			later := cutOff(t, a)
			prepare(a)
			if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "`+archive+`"}`); w.Code != 409 || !strings.Contains(w.Body.String(), later) {
				t.Errorf("from an earlier archive: %d %s", w.Code, w.Body)
			}
			if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "`+later+`"}`); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			for _, body := range []string{`{"enabled": false}`, `{"enabled": true}`} {
				if w := call(a, managementKey, "PATCH", tenantA, body); w.Code != 200 || strings.Contains(w.Body.String(), "not finished") {
					t.Errorf("%s: %d %s", body, w.Code, w.Body)
				}
			}
		})
	}
}

// TestAnEnabledTenantWithAMarker of an earlier version is told what helps: to be deleted first.
func TestAnEnabledTenantWithAMarker(t *testing.T) {
	a := withPhexts(t)
	archive := cutOff(t, a)
	marker := filepath.Join(a.ArchiveDir, "a.deleting")
	text, err := os.ReadFile(marker)
	must(t, err)
	must(t, os.Remove(marker))
	tenant, _ := a.Store.Current().ByID("a")
	must(t, a.Calls.Admit(tenant, 0, time.Now().Add(time.Hour)))
	enabled := call(a, managementKey, "PATCH", tenantA, `{"enabled": true}`)
	must(t, os.WriteFile(marker, text, 0o600))
	if w := call(a, managementKey, "GET", tenantA, ""); enabled.Code != 200 || !strings.Contains(w.Body.String(), "delete it again, and restore it from the archive") {
		t.Errorf("%d, then %s", enabled.Code, w.Body)
	}
	deleted(t, a)
	if w := call(a, managementKey, "POST", tenantA+"/restore", `{"archive": "`+archive+`"}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestATenantThatRemovedItsPhextsItself after it came back from an archive can be enabled.
func TestATenantThatRemovedItsPhextsItself(t *testing.T) {
	a := withPhexts(t)
	cutOff(t, a)
	must(t, os.Remove(filepath.Join(a.ArchiveDir, "a.deleting")))
	tenant, _ := a.Store.Current().ByID("a")
	must(t, a.Calls.Admit(tenant, 0, time.Now().Add(time.Hour)))
	if w := call(a, managementKey, "PATCH", tenantA, `{"enabled": true}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestATenantThatIsBeingDeleted cannot be enabled before that is done.
func TestATenantThatIsBeingDeleted(t *testing.T) {
	a := withPhexts(t)
	first, second := a.deletions.begin("a"), a.deletions.begin("a")
	for _, end := range []func(){first, second} {
		if w := call(a, managementKey, "PATCH", tenantA, `{"enabled": true}`); w.Code != 409 || !strings.Contains(w.Body.String(), "is being deleted") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		end()
	}
	if w := call(a, managementKey, "PATCH", tenantA, `{"enabled": true}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestABackupOfADeletedTenant would be of no phexts, and count as whole.
func TestABackupOfADeletedTenant(t *testing.T) {
	a := withPhexts(t)
	if w := call(a, managementKey, "GET", tenantA+"/backup", ""); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	tenant, _ := a.Store.Current().ByID("a")
	late := &tarAnswer{w: httptest.NewRecorder(), check: func() error { return a.checkArchived(tenant) }}
	end := a.deletions.begin("a")
	if _, err := late.Write([]byte("the first bytes")); err == nil || !strings.Contains(err.Error(), "is being deleted") || late.begun {
		t.Errorf("while it is deleted: %v", err)
	}
	end()
	deleted(t, a)
	if w := call(a, managementKey, "GET", tenantA+"/backup", ""); w.Code != 409 || !strings.Contains(w.Body.String(), "is archived") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestAPhextThatACrashHasLeftAside is one of those that are in a directory already, also if
// nobody has the directory and so nothing recovers it.
func TestAPhextThatACrashHasLeftAside(t *testing.T) {
	a := newAPI(t)
	config := filepath.Join(a.DataRoot, "tenants.json")
	before, err := os.ReadFile(config)
	must(t, err)
	add := func() *httptest.ResponseRecorder {
		return call(a, managementKey, "POST", "/api/v2/admin/tenants/add", `{"tenant_id": "b"}`)
	}
	if w := add(); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	dir := filepath.Join(a.DataRoot, "b")
	unlock, err := a.Dirs.LockExclusive(t.Context(), dir) // the journal notes whose it is
	must(t, err)
	unlock()
	must(t, os.WriteFile(config, before, 0o600))
	reloaded := call(a, managementKey, "POST", "/api/v2/admin/reload", "")
	aside := filepath.Join(dir, ".n.phext.before")
	must(t, os.WriteFile(aside, []byte("of another one"), 0o600))
	if w := add(); reloaded.Code != 200 || w.Code != 409 || !strings.Contains(w.Body.String(), filepath.Base(aside)) {
		t.Errorf("%d, then %d %s", reloaded.Code, w.Code, w.Body)
	}
	must(t, os.Remove(aside))
	if w := add(); w.Code != 201 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestArchivesThatAreMissing are not taken for none: what is done needs them.
func TestArchivesThatAreMissing(t *testing.T) {
	a := withPhexts(t)
	var log strings.Builder
	a.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a.archives.Mark = filepath.Join(t.TempDir(), "archives")
	archive := deleted(t, a)
	must(t, os.Rename(a.ArchiveDir, a.ArchiveDir+" elsewhere"))
	for _, one := range []struct{ method, path, body string }{
		{"DELETE", tenantA, ""},
		{"POST", tenantA + "/restore", `{"archive": "` + archive + `"}`},
		{"POST", tenantA + "/purge", `{"confirm": "a"}`},
	} {
		log.Reset()
		w := call(a, managementKey, one.method, one.path, one.body)
		if said := log.String() + w.Body.String(); w.Code < 500 || !strings.Contains(said, "as if their disk were not mounted") {
			t.Errorf("%s %s: %d %s", one.method, one.path, w.Code, said)
		}
	}
	if w := call(a, managementKey, "GET", "/api/v2/admin/tenants/b", ""); strings.Contains(w.Body.String(), "mounted") {
		t.Errorf("a tenant that is not deleted: %d %s", w.Code, w.Body)
	}
	if a.WarnOfDeletions(); !strings.Contains(log.String(), "no tenant can be deleted") {
		t.Errorf("the log: %s", &log)
	}
	must(t, os.Mkdir(a.ArchiveDir, 0o700)) // somebody has removed the archives
	must(t, os.Remove(a.archives.Mark))
	if w := call(a, managementKey, "DELETE", tenantA, ""); w.Code != 409 && w.Code != 500 || !strings.Contains(w.Body.String(), "put it back") {
		t.Errorf("without its archive: %d %s", w.Code, w.Body)
	}
	if w := call(a, managementKey, "POST", tenantA+"/purge", `{"confirm": "a"}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
