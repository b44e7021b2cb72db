package fsutil

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceKeepsTheModeAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.phext")
	if err := Replace(path, "one", 0o644, true); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, "two", 0o644, false); err != nil {
		t.Fatal(err)
	}
	after, err := Identify(path)
	if err != nil || after == before || !after.Exists() || after.Size != 3 {
		t.Errorf("identity after: %+v, %v; before %+v", after, err, before)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestIdentifyOfNothingAndOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if id, err := Identify(filepath.Join(dir, "none")); err != nil || id.Exists() {
		t.Errorf("no file: %+v, %v", id, err)
	}
	if _, err := Identify(dir); err == nil {
		t.Error("a directory was taken for a file")
	}
}

func TestAFailedReplaceChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, "text", 0o644, true); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestASpareBecomesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notes.phext")
	if err := os.WriteFile(path, []byte("torn"), 0o640); err != nil {
		t.Fatal(err)
	}
	s, err := NewSpare(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Become(path, "whole", 0o644); err != nil {
		t.Fatal(err)
	}
	s.Drop()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if s, err = NewSpare(path, 100); err != nil {
		t.Fatal(err)
	}
	s.Drop()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}
