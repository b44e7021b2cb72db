package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// backupWhile has something happen while a client takes its time with a backup, of which the
// first phext fills every buffer on the way.
func (g *gate) backupWhile(happens func()) ([]byte, error) {
	g.t.Helper()
	req, err := http.NewRequest("GET", g.url+"/api/v2/admin/tenants/will/backup", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		g.t.Fatalf("%d", resp.StatusCode)
	}
	happens()
	return io.ReadAll(resp.Body)
}

// TestABackupOfWhatVanishes was put there by hand, so that the journal has nothing of it. If
// the disk is unmounted, the backup is whole. If a phext is removed, the backup is not, and
// nothing is restored from it.
func TestABackupOfWhatVanishes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	t.Parallel()
	for _, name := range []string{"the disk", "a phext"} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, builtin, "will")
			if err := os.MkdirAll(g.dataDir("will"), 0o700); err != nil {
				t.Fatal(err)
			}
			if name == "the disk" {
				if err := unix.Mount("sqgate", g.dataDir("will"), "tmpfs", 0, "size=64m"); err != nil {
					t.Skip("no disk can be mounted:", err)
				}
				t.Cleanup(func() { _ = unix.Unmount(g.dataDir("will"), unix.MNT_DETACH) }) // the test has mostly done it
			}
			texts := map[string]string{"a": strings.Repeat("x", 24<<20), "b": "two", "c": "three"}
			for phext, text := range texts {
				if err := os.WriteFile(filepath.Join(g.dataDir("will"), phext+".phext"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			g.start()
			vanish := func() error { return unix.Unmount(g.dataDir("will"), unix.MNT_DETACH) }
			if name == "a phext" {
				vanish = func() error { return os.Remove(filepath.Join(g.dataDir("will"), "b.phext")) }
			}
			b, err := g.backupWhile(func() {
				if err := vanish(); err != nil {
					t.Fatal(err)
				}
			})
			if name == "the disk" {
				if err != nil {
					t.Fatal(err)
				}
				wantInTar(t, b, texts)
				return
			}
			if err == nil {
				t.Error("the backup ended as if it were whole")
			}
			if err := os.WriteFile(filepath.Join(g.dataDir("will"), "b.phext"), []byte("two"), 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "will.tar")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := g.operate("restore", "will", "--from", file, "--yes"); err == nil {
				t.Errorf("it was restored: %s", out)
			}
			if got := g.get("will", at("select", "b", origin)); got != "two" {
				t.Errorf("b is %q", got)
			}
		})
	}
}

// wantInTar checks that a backup has these phexts, and its manifest.
func wantInTar(t *testing.T, b []byte, texts map[string]string) {
	t.Helper()
	got, want := "", ""
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "MANIFEST.json" {
			got += h.Name
			continue
		}
		got += fmt.Sprintf("%s of %d bytes, whole: %v; ", h.Name, len(text), string(text) == texts[strings.TrimSuffix(h.Name, ".phext")])
	}
	for _, phext := range []string{"a", "b", "c"} {
		want += fmt.Sprintf("%s.phext of %d bytes, whole: true; ", phext, len(texts[phext]))
	}
	if want += "MANIFEST.json"; got != want {
		t.Errorf("the backup has %s", got)
	}
}
