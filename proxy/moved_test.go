package proxy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// TestMovedFilesAreNoCrash: after a power cut, recovery brings back a file that
// is gone, and puts right one that is not the last. Neither is wanted where the
// files were moved on purpose.
func TestMovedFilesAreNoCrash(t *testing.T) {
	for _, told := range []bool{true, false} {
		for _, c := range []struct{ moved, untold string }{
			{"", "text 1\x17text 2"}, // deleted
			{"text 1", "text 1\x17text 2"},
		} {
			got := afterAPowerCut(t, c.moved, told)
			want := c.moved
			if !told {
				want = c.untold // or this test would show nothing
			}
			if got != want {
				t.Errorf("the file was made %q, which the gateway was told of: %v; after a power cut it is %q, want %q", c.moved, told, got, want)
			}
		}
	}
}

// afterAPowerCut writes two scrolls, has somebody replace the file by moved, or
// remove it, and says what recovery makes of that.
func afterAPowerCut(t *testing.T, moved string, told bool) string {
	t.Helper()
	root := t.TempDir()
	data := filepath.Join(root, "data")
	file := filepath.Join(data, "notes.phext")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(data, 0o700))
	config := journal.Config{Dir: filepath.Join(root, "journal"), Quarantine: filepath.Join(root, "quarantine"),
		Sync: journal.Batch, BootID: "before", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	set, err := journal.New(config)
	must(err)
	j, err := set.Of(Resolve(data))
	must(err)
	state := journal.State{}
	for i, text := range []string{"text 1", "text 2"} {
		m := journal.Mutation{File: "notes.phext", Op: journal.Update, At: phext.Coordinate{1, 1, 1, 1, 1, 1, 1, 1, uint32(i + 1)}, Text: text}
		p, err := j.Begin(m, func() (journal.State, error) { return state, nil })
		must(err)
		state = state.After(m)
		must(os.WriteFile(file, []byte(state.Text), 0o600))
		id, err := fsutil.Identify(file)
		must(err)
		must(p.Done(id))
	}
	must(os.Remove(file))
	if moved != "" {
		must(os.WriteFile(file, []byte(moved), 0o600))
	}
	if told {
		g := New(Config{Journal: set, ReadMemory: 1 << 20, Logger: config.Logger})
		must(g.Moved(&tenants.Tenant{ID: "will", DataDir: data}, []string{"notes.phext"}))
	}
	must(set.Close())

	config.BootID = "after"
	set, err = journal.New(config)
	must(err)
	j, err = set.Of(Resolve(data))
	must(err)
	_, err = j.Recover(context.Background())
	must(err)
	must(set.Close())
	text, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		must(err)
	}
	return string(text)
}
