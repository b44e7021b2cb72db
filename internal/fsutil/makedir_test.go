package fsutil

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMakeDirSyncsTheParentsOfWhatItMakes(t *testing.T) {
	root := t.TempDir()
	var synced []string
	note := func(dir string) error { synced = append(synced, dir); return nil }
	deep := filepath.Join(root, "a", "b")
	for range 2 {
		if err := makeDir(deep, 0o700, note); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{root, filepath.Join(root, "a")}; !slices.Equal(synced, want) {
		t.Errorf("synced %v, want %v", synced, want)
	}
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "x")} {
		if makeDir(dir, 0o700, note) == nil {
			t.Errorf("%s: a file is taken for a directory", dir)
		}
	}
}
