package tenants

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exampleKey is the key in the example of the specification.
const exampleKey = "pmb-v1-00112233445566778899aabbccddeeff"

func key(t testing.TB) string {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hashed(k string) string {
	d := digestOf(k)
	return hex.EncodeToString(d[:])
}

// writeFile renames a new file into place, as editors do.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	aside := path + "~"
	if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
}

func fileOf(ids ...string) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf(`{"id": %q, "api_key": "key-of-%s", "data_dir": "/d/%s"}`, id, id, id))
	}
	return `{"tenants": [` + strings.Join(list, ",") + `]}`
}

// runningStore is a Store whose Run runs, with the changes it reports.
type runningStore struct {
	*Store
	changes chan Diff
	log     *bytes.Buffer
}

// patience bounds every wait. Only a failing test waits that long.
const patience = 30 * time.Second

func run(t *testing.T, o Options) *runningStore {
	t.Helper()
	w := &runningStore{changes: make(chan Diff, 16), log: &bytes.Buffer{}}
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	o.OnChange = func(_, _ *Snapshot, d Diff) { w.changes <- d }
	o.Debounce = time.Millisecond
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = s
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return w
}

// next waits for the next change.
func (w *runningStore) next(t *testing.T) Diff {
	t.Helper()
	select {
	case d := <-w.changes:
		return d
	case <-time.After(patience):
		t.Fatal("the change was not noticed")
		return Diff{}
	}
}
