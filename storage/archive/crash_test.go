package archive

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCreateKilled kills Create at each of its steps, and the next call at some
// step too. Nothing may be lost at any moment, and the last call has to finish.
func TestCreateKilled(t *testing.T) {
	t.Parallel()
	for kill := range stepsOf(t, func(s *Store, data string) { mustCreate(t, s, data) }) {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: filepath.Join(t.TempDir(), "archives"), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			killTwice(t, o, kill, func() { safe(t, o, someFiles) })
			sameFiles(t, contents(t, o.DataDir), nil)
			onlyArchives(t, o.Dir, 1)
			sameFiles(t, inArchives(t, o.Dir), someFiles)
		})
	}
}

// TestRestoreKilled does the same with Restore. The data directory may hold no
// part of a file at any moment.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	steps := stepsOf(t, func(s *Store, data string) { mustRestore(t, &Store{dir: s.dir, now: s.now}, s, data) })
	for kill := range steps {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: t.TempDir(), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.Restore = mustCreate(t, &Store{dir: o.Dir, now: time.Now}, o.DataDir)
			killTwice(t, o, kill, func() {
				safe(t, o, someFiles)
				for name, text := range contents(t, o.DataDir) {
					if someFiles[name] != text {
						t.Errorf("after a kill %q holds %d bytes that are not its own", name, len(text))
					}
				}
			})
			sameFiles(t, contents(t, o.DataDir), someFiles)
			onlyArchives(t, o.Dir, 1)
			nothingHidden(t, o.DataDir)
		})
	}
}

// TestRestoreAfterKilledCreate restores after a deletion that was killed halfway.
func TestRestoreAfterKilledCreate(t *testing.T) {
	t.Parallel()
	for kill := range stepsOf(t, func(s *Store, data string) { mustCreate(t, s, data) }) {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: filepath.Join(t.TempDir(), "archives"), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.run(t)
			archive, err := New(o.Dir, nil).Latest(tenantID)
			if err != nil {
				t.Fatal(err)
			}
			if archive == "" {
				sameFiles(t, contents(t, o.DataDir), someFiles)
				return
			}
			o.Restore, o.Kill = archive, 0
			o.run(t)
			sameFiles(t, contents(t, o.DataDir), someFiles)
			onlyArchives(t, o.Dir, 1)
			nothingHidden(t, o.DataDir)
		})
	}
}

// TestCreateAfterKilledRestore deletes after a restore that was killed halfway:
// files that were restored go, and the same archive has all of them.
func TestCreateAfterKilledRestore(t *testing.T) {
	t.Parallel()
	steps := stepsOf(t, func(s *Store, data string) { mustRestore(t, &Store{dir: s.dir, now: s.now}, s, data) })
	for kill := range steps {
		t.Run(fmt.Sprint(kill+1), func(t *testing.T) {
			t.Parallel()
			o := order{Dir: t.TempDir(), DataDir: t.TempDir(), Kill: kill + 1}
			fillDir(t, o.DataDir, someFiles)
			o.Restore = mustCreate(t, &Store{dir: o.Dir, now: time.Now}, o.DataDir)
			o.run(t)
			o.Restore, o.Kill = "", 0
			o.run(t)
			sameFiles(t, contents(t, o.DataDir), nil)
			nothingHidden(t, o.DataDir)
			if kill+1 < steps { // in its last step, all files are back
				onlyArchives(t, o.Dir, 1)
			}
			sameFiles(t, inArchives(t, o.Dir), someFiles)
		})
	}
}

// killTwice kills the call at its step, kills the next one at another step, and
// lets the third one finish.
func killTwice(t *testing.T, o order, kill int, check func()) {
	t.Helper()
	if !o.run(t) {
		t.Fatalf("was not killed at step %d", o.Kill)
	}
	check()
	o.Kill = kill*5%11 + 1
	o.run(t)
	check()
	o.Kill = 0
	o.run(t)
}

// stepsOf counts the steps of a call that is not killed.
func stepsOf(t *testing.T, call func(s *Store, data string)) int {
	t.Helper()
	data, steps := t.TempDir(), 0
	fillDir(t, data, someFiles)
	call(&Store{dir: filepath.Join(t.TempDir(), "archives"), now: time.Now, step: func(string) { steps++ }}, data)
	if steps < 10 {
		t.Fatalf("%d steps are too few", steps)
	}
	return steps
}

// safe checks that each file is in the data directory or in a whole archive.
func safe(t *testing.T, o order, want map[string]string) {
	t.Helper()
	have := inArchives(t, o.Dir)
	maps.Copy(have, contents(t, o.DataDir))
	sameFiles(t, have, want)
}

// orderVariable has the order for a test binary that a test started.
const orderVariable = "SQTEST_ARCHIVE"

// order is one call of the Store in a process of its own.
type order struct {
	Restore      string // the archive to restore; "" = Create
	Dir, DataDir string
	Kill         int // die at this step, counted from 1; 0 = live to the end
}

// killed is the exit status of a process that stopped at its step, like that of
// a process killed by SIGKILL.
const killed = 137

// carriedOutOrder says whether this process was started for an order, after
// carrying it out.
func carriedOutOrder() bool {
	text, ok := os.LookupEnv(orderVariable)
	if !ok {
		return false
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	steps := 0
	s := &Store{dir: o.Dir, now: time.Now, step: func(string) {
		if steps++; steps == o.Kill {
			os.Exit(killed)
		}
	}}
	if err := o.carryOut(s); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func (o order) carryOut(s *Store) error {
	names, err := flatFiles(o.DataDir)
	if err != nil {
		return err
	}
	if o.Restore == "" {
		_, err = s.Create(tenantID, o.DataDir, names, noted)
	} else {
		_, err = s.Restore(tenantID, o.Restore, o.DataDir, names, anyName)
	}
	return err
}

// run carries the order out in another process and says whether it was killed.
func (o order) run(t *testing.T) (died bool) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	// Without this, the race detector sleeps for a second before a process exits.
	cmd.Env = append(os.Environ(), orderVariable+"="+string(text), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != killed {
		t.Fatalf("order %+v: %v: %s", o, err, out)
	}
	return err != nil
}
