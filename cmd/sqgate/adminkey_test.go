package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestCommandsFindTheKeyOfTheUnit looks for it in the order of serve: the operator's own
// comes before the one that was made earlier.
func TestCommandsFindTheKeyOfTheUnit(t *testing.T) {
	dir := t.TempDir()
	stored, made := filepath.Join(dir, "stored"), filepath.Join(dir, "made")
	find := func(wantKey string, wantErr error) {
		t.Helper()
		if key, err := firstAdminKey(stored, made); key != wantKey || !errors.Is(err, wantErr) {
			t.Errorf("%q, %v", key, err)
		}
	}
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find("", fs.ErrNotExist)
	put(made, "key-made-by-sqgate\n")
	find("key-made-by-sqgate", nil)
	put(stored, "key-of-the-operator\n")
	find("key-of-the-operator", nil)
	put(stored, "short")
	if key, err := firstAdminKey(stored, made); err == nil {
		t.Errorf("a key of the operator's that is wrong is passed over for %q", key)
	}
}
