package archive

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if vaultChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// vaultOrder tells the test binary, started again, what to do and when to die.
const vaultOrder = "SQGATE_TEST_VAULT"

// order is one call of the vault in a process of its own.
type order struct {
	Restore      string // the archive to restore; "" = store
	Dir, DataDir string
	Kill         int // die at this step, counted from 1; 0 = live to the end
}

// killed is what a process says that died at its step, as one does of SIGKILL.
const killed = 137

// vaultChild carries out an order, if this process was started for one.
func vaultChild() bool {
	text, ok := os.LookupEnv(vaultOrder)
	if !ok {
		return false
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	steps := 0
	v := &Store{dir: o.Dir, now: time.Now, step: func(string) {
		if steps++; steps == o.Kill {
			os.Exit(killed)
		}
	}}
	if err := o.carryOut(v); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func (o order) carryOut(v *Store) error {
	names, err := flatFiles(o.DataDir)
	if err != nil {
		return err
	}
	if o.Restore == "" {
		_, err = v.Create(vaultID, o.DataDir, names)
	} else {
		_, err = v.Restore(vaultID, o.Restore, o.DataDir, names, anyName)
	}
	return err
}

// run carries the order out in another process and says whether it was killed.
func (o order) run(t *testing.T) (dead bool) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	// The race detector sleeps a second at the end of a process, unless told.
	cmd.Env = append(os.Environ(), vaultOrder+"="+string(text), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != killed {
		t.Fatalf("order %+v: %v: %s", o, err, out)
	}
	return err != nil
}

const vaultID = "acme"

func anyName(string) bool { return true }

// flatFiles are the regular files directly in a directory.
func flatFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.Type().IsRegular() })
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
