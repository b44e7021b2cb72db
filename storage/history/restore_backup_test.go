package history

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
)

// uploadWorld is a Service for one tenant, will, without SQ.
type uploadWorld struct {
	*testing.T
	*Service
	tenant *tenants.Tenant
	data   string
}

func newUploadWorld(t *testing.T, files map[string]string) *uploadWorld {
	t.Helper()
	root := t.TempDir()
	w := &uploadWorld{T: t, data: filepath.Join(root, "data")}
	text, err := json.Marshal(map[string]any{"tenants": []any{map[string]any{
		"id": "will", "api_key": "pmb-v1-00112233445566778899aabbccddeeff", "data_dir": w.data}}})
	w.must(err)
	snapshot, err := tenants.Parse(text)
	w.must(err)
	current := func() *tenants.Snapshot { return snapshot }
	w.tenant, _ = snapshot.ByID("will")
	log := slog.New(slog.DiscardHandler)
	set, err := journal.New(journal.Config{
		Dir: filepath.Join(root, "journal"), Quarantine: filepath.Join(root, "quarantine"), Logger: log, History: time.Hour,
	})
	w.must(err)
	t.Cleanup(func() { w.must(set.Close()) })
	dirs := datadir.New(datadir.Config{
		Tenants: current, Journal: set, MarkDir: filepath.Join(root, "directories"), ReadMemory: 1 << 20, MaxBody: 1 << 20, Logger: log,
		StopChild: func(context.Context, string, string) error { return nil },
	})
	w.Service = &Service{Dirs: dirs, Ledger: quota.NewLedger(current, log), SpoolDir: root}
	w.must(os.Mkdir(w.data, 0o700))
	for name, text := range files {
		w.must(os.WriteFile(filepath.Join(w.data, name), []byte(text), 0o600))
	}
	return w
}

func (w *uploadWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// files is what lies in the data directory.
func (w *uploadWorld) files() map[string]string {
	w.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(w.data)
	w.must(err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(w.data, e.Name()))
		w.must(err)
		found[e.Name()] = string(text)
	}
	return found
}

func (w *uploadWorld) backup() []byte {
	w.Helper()
	var b bytes.Buffer
	w.must(w.Backup(context.Background(), w.tenant, &b))
	return b.Bytes()
}

func (w *uploadWorld) restore(target Target, backup []byte) (FromBackup, error) {
	return w.RestoreBackup(context.Background(), w.tenant, target, iotest.DataErrReader(bytes.NewReader(backup)))
}

var three = map[string]string{"a.phext": "one\x17two", "b.phext": strings.Repeat("b", 2000), "c.names.phext": ""}

// tarOf makes a tar of headers, each with so many bytes of content.
func tarOf(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600}
}

// sparse is a tar with one entry of PAX's sparse format 0.1: so many bytes, of
// which none is sent.
func sparse(size int) []byte {
	record := func(key, value string) string {
		n := len(key) + len(value) + 3
		for n != len(fmt.Sprint(n))+len(key)+len(value)+3 {
			n = len(fmt.Sprint(n)) + len(key) + len(value) + 3
		}
		return fmt.Sprintf("%d %s=%s\n", n, key, value)
	}
	records := record("GNU.sparse.size", fmt.Sprint(size)) + record("GNU.sparse.numblocks", "1") + record("GNU.sparse.map", fmt.Sprintf("%d,0", size))
	block := func(name string, flag byte, size int) []byte {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000600\x00")
		copy(b[124:], fmt.Sprintf("%011o\x00", size))
		copy(b[136:], "00000000000\x00")
		copy(b[148:], "        ")
		b[156] = flag
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	padded := make([]byte, 512)
	copy(padded, records)
	return slices.Concat(block("x", 'x', len(records)), padded, block("big.phext", '0', 0), make([]byte, 1024))
}

// TestABackupIsWholeOrChangesNothing cuts a backup off everywhere, changes each
// part of it, and sends what is none.
func TestABackupIsWholeOrChangesNothing(t *testing.T) {
	good := newUploadWorld(t, three).backup()
	now := map[string]string{"a.phext": "other", "z.phext": "z"}
	w := newUploadWorld(t, now)
	refuse := func(what string, backup []byte) {
		t.Helper()
		for _, in := range []io.Reader{bytes.NewReader(backup), iotest.DataErrReader(bytes.NewReader(backup))} {
			result, err := w.RestoreBackup(context.Background(), w.tenant, Target{}, in)
			if !errors.Is(err, ErrNotBackup) || len(result.Restored) > 0 {
				t.Errorf("%s: %v %v", what, result, err)
			}
		}
		if got := w.files(); !maps.Equal(got, now) {
			t.Fatalf("%s: %q", what, got)
		}
	}
	for cut := 0; cut < len(good); cut += 256 {
		refuse(fmt.Sprint("cut after ", cut), good[:cut])
	}
	refuse("cut by one byte", good[:len(good)-1])
	for _, part := range []string{"one\x17two", "bbb", `"sha256":"`} {
		at := bytes.Index(good, []byte(part)) + len(part) - 1
		changed := slices.Clone(good)
		changed[at]++
		refuse("changed in "+part, changed)
	}
	refuse("no tar", []byte("no tar"))
	refuse("rubbish at the end", append(slices.Clone(good), 'x'))
	refuse("too much at the end", append(slices.Clone(good), make([]byte, mostPadding+1)...))
	refuse("nothing in it", tarOf(t))
	refuse("another file", tarOf(t, file("a.phext", 1), file("passwd", 1)))
	refuse("outside", tarOf(t, file("../a.phext", 1)))
	refuse("twice", tarOf(t, file("a.phext", 1), file("a.phext", 2)))
	refuse("a link", tarOf(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "a.phext", Linkname: "/etc/passwd"}))
	refuse("after the manifest", slices.Concat(good[:len(good)-1024], tarOf(t, file("d.phext", 1))))
	refuse("sparse", sparse(512<<20))
	refuse("a manifest of one long word", tarOf(t, file("a.phext", 1), file(manifestName, 1<<20)))

	result, err := w.restore(Target{DryRun: true}, good)
	if err != nil || !result.Manifest || !slices.Contains(result.Restored, Restored{"z", 0, true, false, true}) || !maps.Equal(w.files(), now) {
		t.Fatalf("a dry run: %+v %v", result, err)
	}
	if _, err := w.restore(Target{Phext: new(string)}, good); apierror.From(err).Kind != apierror.NotFound {
		t.Errorf("a phext that is not in it: %v", err)
	}
	if _, err := w.restore(Target{}, append(slices.Clone(good), make([]byte, 9216)...)); err != nil {
		t.Fatalf("filled up, as other programs do: %v", err)
	}
	if got := w.files(); !maps.Equal(got, three) {
		t.Errorf("restored: %q", got)
	}
}

// TestABackupOfAnEarlierVersion has no manifest, and the answer says so. It removes
// no phext, because nobody can tell whether it is whole.
func TestABackupOfAnEarlierVersion(t *testing.T) {
	w := newUploadWorld(t, three)
	w.must(os.WriteFile(filepath.Join(w.data, "a.names.phext"), []byte("of.another"), 0o600))
	old := tarOf(t, file("a.phext", 3), file("d.phext", 0))
	result, err := w.restore(Target{}, old)
	if err != nil || result.Manifest {
		t.Fatalf("%+v %v", result, err)
	}
	want := maps.Clone(three)
	want["a.phext"], want["d.phext"] = "xxx", ""
	if !maps.Equal(w.files(), want) {
		t.Errorf("%q", w.files())
	}
}

// TestABackupThatWasNotWrittenToItsEnd is as long as it should be, with zeros from
// anywhere on, as a copy has that was interrupted on a preallocated file.
func TestABackupThatWasNotWrittenToItsEnd(t *testing.T) {
	w := newUploadWorld(t, three)
	whole := w.backup()
	for end := 0; end < len(whole)-1024; end += 128 {
		cut := append(slices.Clone(whole[:end]), make([]byte, len(whole)-end)...)
		result, err := w.restore(Target{}, cut)
		if err == nil && result.Manifest && !bytes.Equal(bytes.TrimRight(cut, "\x00"), bytes.TrimRight(whole, "\x00")) {
			t.Errorf("cut at %d: taken for whole", end)
		}
		if got := w.files(); !maps.Equal(got, three) {
			t.Fatalf("cut at %d: %v, and now there is %q", end, err, got)
		}
	}
}

// TestARestoreMarksTheDirectory that nobody has read, so that its disk is missed.
func TestARestoreMarksTheDirectory(t *testing.T) {
	w := newUploadWorld(t, nil)
	_, err := w.restore(Target{}, newUploadWorld(t, three).backup())
	w.must(err)
	if marks, err := os.ReadDir(w.Dirs.MarkDir); err != nil || len(marks) != 1 {
		t.Errorf("%v, %v", marks, err)
	}
}

// TestWhatABackupMayHaveAtMost lowers the limits.
func TestWhatABackupMayHaveAtMost(t *testing.T) {
	w := newUploadWorld(t, nil)
	for _, test := range []struct {
		name           string
		entries, bytes int64
		want           error
	}{
		{"as it is", 2, 2000, nil}, {"too many", 1, 2000, ErrNotBackup}, {"too large", 2, 1999, ErrNotBackup},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := w.newReceiver(w.tenant, bytes.NewReader(tarOf(t, file("a.phext", 1000), file("b.phext", 1000))))
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.mostEntries, r.mostBytes = int(test.entries), test.bytes
			if err := r.read(); !errors.Is(err, test.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if !w.Dirs.Answers.Take(w.Dirs.Answers.Limit()) {
		t.Error("memory that was reserved for a backup was not given back")
	}
	if _, err := w.restore(Target{}, tarOf(t, file("a.phext", 1))); !errors.Is(err, datadir.ErrBusy) {
		t.Errorf("without memory: %v", err)
	}
}

// TestASparseBackupTakesNoMemory sends 512 MiB of nothing.
func TestASparseBackupTakesNoMemory(t *testing.T) {
	w := newUploadWorld(t, three)
	backup := sparse(512 << 20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := w.restore(Target{DryRun: true}, backup)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrNotBackup) || took > 16<<20 {
		t.Errorf("%d bytes, %v", took, err)
	}
}

// TestAStalledUploadKeepsNobodyOut has an upload stop in the middle, and goes on
// with the directory meanwhile.
func TestAStalledUploadKeepsNobodyOut(t *testing.T) {
	w := newUploadWorld(t, three)
	in, upload := io.Pipe()
	ended := make(chan error)
	go func() {
		_, err := w.RestoreBackup(context.Background(), w.tenant, Target{}, in)
		ended <- err
	}()
	if _, err := upload.Write(tarOf(t, file("a.phext", 1))[:512]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	release, err := w.Dirs.LockExclusive(ctx, w.data)
	if err != nil {
		t.Errorf("the directory is kept by a stalled upload: %v", err)
	} else {
		release()
	}
	_ = upload.CloseWithError(os.ErrDeadlineExceeded) // it returns nil
	if err := <-ended; apierror.From(err).Kind != apierror.BadRequest || !strings.Contains(err.Error(), "send it again") {
		t.Errorf("%v", err)
	}
	if got := w.files(); !maps.Equal(got, three) {
		t.Errorf("%q", got)
	}
}

// TestARestoreMeetsALink checks all files before it changes the first.
func TestARestoreMeetsALink(t *testing.T) {
	w := newUploadWorld(t, map[string]string{"a.phext": "as it was"})
	w.must(os.Symlink("a.phext", filepath.Join(w.data, "b.phext")))
	if _, err := w.restore(Target{}, newUploadWorld(t, three).backup()); apierror.From(err).Kind != apierror.BackendFailed || !strings.Contains(err.Error(), fsutil.ErrLink.Error()) {
		t.Errorf("%v", err)
	}
	if text := w.files()["a.phext"]; text != "as it was" {
		t.Errorf("%q", text)
	}
}

// TestABackupOfAnotherTenant is restored only if that is asked for.
func TestABackupOfAnotherTenant(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "text")
	var backup strings.Builder
	other := *w.tenant
	other.ID = "mary"
	w.check(w.Backup(t.Context(), &other, &backup))
	w.update("n.phext", 1, "later")
	for _, id := range []string{`""`, `"\u001b[2J"`, `null`, `["mary"]`} {
		w.untouched(func() {
			text := strings.Replace(backup.String(), `"mary"`, id+strings.Repeat(" ", 10), 1)
			_, err := w.RestoreBackup(t.Context(), w.tenant, Target{}, strings.NewReader(text))
			w.wantError(err, apierror.BadRequest, "its manifest names no tenant")
		})
	}
	w.untouched(func() {
		_, err := w.RestoreBackup(t.Context(), w.tenant, Target{}, strings.NewReader(backup.String()))
		w.wantError(err, apierror.Conflict, `backup of tenant "mary"`)
	})
	_, err := w.RestoreBackup(t.Context(), w.tenant, Target{From: "mary"}, strings.NewReader(backup.String()))
	w.check(err)
	w.wantFiles("n.phext=text")
}

// TestABackupOfAnotherTenantWithTheID is restored only if that is asked for: the id was
// given to somebody else.
func TestABackupOfAnotherTenantWithTheID(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	of := func(incarnation time.Time) *tenants.Tenant {
		other := *w.tenant
		other.Incarnation = incarnation
		return &other
	}
	first, second, unsaid := of(now.Add(-time.Hour)), of(now.Add(-time.Minute)), of(time.Time{})
	later := of(now.Add(time.Hour)) // than all backups
	w.update("n.phext", 1, "text")
	backup := func(of *tenants.Tenant, old bool) string {
		var b strings.Builder
		w.check(w.Backup(t.Context(), of, &b))
		if !old {
			return b.String()
		}
		// An earlier version would have written no incarnation.
		before, after, _ := strings.Cut(b.String(), `,"incarnation":"`)
		value, after, _ := strings.Cut(after, `"}`)
		return before + "}" + strings.Repeat(" ", len(`,"incarnation":""`)+len(value)) + after
	}
	w.update("n.phext", 1, "later")
	for _, test := range []struct {
		name    string
		of, at  *tenants.Tenant
		old, is bool
	}{
		{"its own", first, first, false, true},
		{"of an earlier one", first, second, false, false},
		{"of one without an incarnation", unsaid, first, false, false},
		{"at one without an incarnation", first, unsaid, false, false},
		{"none has an incarnation", unsaid, unsaid, false, true},
		{"old", first, first, true, true},
		{"old, at one without an incarnation", first, unsaid, true, true},
		{"old, and older than the tenant", first, later, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := backup(test.of, test.old)
			_, err := w.RestoreBackup(t.Context(), test.at, Target{DryRun: true}, strings.NewReader(text))
			if !test.is {
				w.wantError(err, apierror.Conflict, `this is a backup of another tenant with the id "will"`)
				_, err = w.RestoreBackup(t.Context(), test.at, Target{DryRun: true, From: "will"}, strings.NewReader(text))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAManifestEndsWhereItEnds puts something behind it, or into it.
func TestAManifestEndsWhereItEnds(t *testing.T) {
	w := newWorld(t)
	w.update("n.phext", 1, "text")
	var b bytes.Buffer
	w.check(w.Backup(t.Context(), w.tenant, &b))
	in, head, manifest := tar.NewReader(bytes.NewReader(b.Bytes())), [2]*tar.Header{}, ""
	for i := range head {
		var err error
		head[i], err = in.Next()
		w.check(err)
		text, err := io.ReadAll(in)
		w.check(err)
		manifest = string(text)
	}
	files := strings.TrimSuffix(manifest, `,"incarnation":""}`)
	restore := func(manifest string) error {
		var b bytes.Buffer
		turn := w.Service.turn()
		defer turn.Give()
		out := tar.NewWriter(&b)
		w.check(addFile(out, head[0].Name, journal.State{Text: "text"}, head[0].ModTime, io.Discard, turn))
		w.check(addFile(out, manifestName, journal.State{Text: manifest}, head[0].ModTime, io.Discard, turn))
		w.check(out.Close())
		_, err := w.RestoreBackup(t.Context(), w.tenant, Target{DryRun: true}, &b)
		return err
	}
	for _, whole := range []string{manifest, manifest + "\n ", files + "}"} {
		w.check(restore(whole))
	}
	for _, end := range []string{"", "]", "}}", "}]", "} x", "}{}", `,"more":1}`, `,"incarnation":1}`, `,"incarnation":"","more":1}`, `,"incarnation":""`, `,"incarnation"}`,
		"}" + strings.Repeat(" ", 2*manifestWindow), "}\x00"} {
		w.wantError(restore(files+end), apierror.BadRequest, ErrNotBackup.Error())
	}
}

// TestThePastIsReadWithinTheMemoryForAnswers, whether all of a phext is restored or one
// scroll.
func TestThePastIsReadWithinTheMemoryForAnswers(t *testing.T) {
	for name, coordinate := range map[string]string{"all": "", "a scroll": "1.1.1/1.1.1/1.1.1"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			then := w.update("n.phext", 1, strings.Repeat("x", 10_000))
			w.update("n.phext", 1, "later")
			all := w.Dirs.Answers.Limit()
			if !w.Dirs.Answers.Take(all - 10_000) {
				t.Fatal("somebody holds memory")
			}
			name := "n"
			target := Target{At: then, Phext: &name, Coordinate: coordinate}
			if _, err := w.Restore(t.Context(), w.tenant, target); err != datadir.ErrBusy {
				t.Errorf("%v", err)
			}
			w.Dirs.Answers.Give(all - 10_000)
			w.restore(target)
			w.wantFiles("n.phext=" + strings.Repeat("x", 10_000))
			if !w.Dirs.Answers.Take(all) {
				t.Error("not all memory is given back")
			}
		})
	}
}
