package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// crafted is an archive that store would not write.
type crafted struct {
	name    string
	want    error
	change  func(m *manifest, entries []crafting) []crafting
	trailer []byte
}

type crafting struct {
	tar.Header
	text string
}

func TestRestoreOfCraftedArchives(t *testing.T) {
	same := func(_ *manifest, e []crafting) []crafting { return e }
	named := func(name string) func(*manifest, []crafting) []crafting {
		return func(m *manifest, e []crafting) []crafting {
			m.Files[0].Name, e[0].Name = name, name
			return e
		}
	}
	typed := func(flag byte) func(*manifest, []crafting) []crafting {
		return func(m *manifest, e []crafting) []crafting {
			e[0].Typeflag, e[0].Linkname, e[0].Size, m.Files[0].Size = flag, "b", 0, 0
			e[0].text, m.Files[0].SHA256 = "", sumOf("")
			return e
		}
	}
	for _, c := range []crafted{
		{name: "as it should be", change: same},
		{name: "traversal", want: errDamaged, change: named("../a")},
		{name: "separator", want: errDamaged, change: named("x/a")},
		{name: "absolute", want: errDamaged, change: named("/a")},
		{name: "parent", want: errDamaged, change: named("..")},
		{name: "duplicate", want: errDamaged, change: named("b")},
		{name: "symlink", want: errDamaged, change: typed(tar.TypeSymlink)},
		{name: "hard link", want: errDamaged, change: typed(tar.TypeLink)},
		{name: "device", want: errDamaged, change: typed(tar.TypeChar)},
		{name: "pipe", want: errDamaged, change: typed(tar.TypeFifo)},
		{name: "directory", want: errDamaged, change: typed(tar.TypeDir)},
		{name: "other tenant", want: errBadArchive, change: func(m *manifest, e []crafting) []crafting {
			m.Tenant = "other"
			return e
		}},
		{name: "not in the manifest", want: errDamaged, change: func(_ *manifest, e []crafting) []crafting {
			return append(e, plain("c", "3"))
		}},
		{name: "missing", want: errDamaged, change: func(_ *manifest, e []crafting) []crafting { return e[:1] }},
		{name: "other order", want: errDamaged, change: func(_ *manifest, e []crafting) []crafting {
			e[0], e[1] = e[1], e[0]
			return e
		}},
		{name: "larger than said", want: errDamaged, change: func(_ *manifest, e []crafting) []crafting {
			e[0] = plain("a", strings.Repeat("1", 1<<20))
			return e
		}},
		{name: "smaller than said", want: errDamaged, change: func(m *manifest, e []crafting) []crafting {
			m.Files[0].Size = 1 << 40
			return e
		}},
		{name: "negative size", want: errDamaged, change: func(m *manifest, e []crafting) []crafting {
			m.Files[0].Size = -1
			return e
		}},
		{name: "other checksum", want: errDamaged, change: func(m *manifest, e []crafting) []crafting {
			m.Files[0].SHA256 = sumOf("2")
			return e
		}},
		{name: "no checksum", want: errDamaged, change: func(m *manifest, e []crafting) []crafting {
			m.Files[0].SHA256 = ""
			return e
		}},
		{name: "more records", want: errDamaged, change: func(_ *manifest, e []crafting) []crafting {
			e[0].Format, e[0].PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.x": "y"}
			return e
		}},
		{name: "bytes after the end", want: errDamaged, change: same, trailer: make([]byte, 1<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, data := fixedVault(t), t.TempDir()
			path := filepath.Join(v.dir, archiveName(vaultID, v.now()))
			c.write(t, path)
			_, err := v.Restore(vaultID, path, data, nil, anyName)
			if c.want == nil && err == nil {
				sameFiles(t, contents(t, data), map[string]string{"a": "1", "b": "2"})
				return
			}
			wantError(t, err, c.want)
			untouched(t, data)
		})
	}
}

func plain(name, text string) crafting {
	return crafting{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600}, text}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (c crafted) write(t *testing.T, path string) {
	t.Helper()
	entries := []crafting{plain("a", "1"), plain("b", "2")}
	m := &manifest{Tenant: vaultID}
	for _, e := range entries {
		m.Files = append(m.Files, archivedFile{Name: e.Name, Size: e.Size, SHA256: sumOf(e.text), MTime: e.ModTime})
	}
	for i := range m.Files {
		entries[i].ModTime = fixedVault(t).now().Truncate(1e9)
		m.Files[i].MTime = entries[i].ModTime
	}
	entries = c.change(m, entries)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, pack(t, string(text), entries, c.trailer), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, first string, entries []crafting, trailer []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, e := range append([]crafting{plain(manifestName, first)}, entries...) {
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.text); err != nil {
			t.Fatal(err)
		}
	}
	err := tw.Close()
	_, late := zw.Write(trailer)
	if err = errors.Join(err, late, zw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
