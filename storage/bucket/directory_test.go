package bucket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writeUntilKilled writes objects, one after the other, and tells of each when it
// is there. It runs in a process of its own.
func writeUntilKilled(dir string) {
	b, err := OpenDirectory(dir)
	for i := 0; err == nil; i++ {
		body := strings.Repeat(strconv.Itoa(i)+" ", 1<<14)
		key := fmt.Sprintf("k/%05d", i)
		if _, err = b.Put(context.Background(), key, []byte(body), IfAbsent()); err == nil {
			_, err = b.Put(context.Background(), "k/latest", []byte(body), Condition{})
		}
		fmt.Println(i)
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestKillOfAWriter kills processes while they write. What they told of is there,
// and nothing is there by half.
func TestKillOfAWriter(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SQTEST_BUCKET_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told, lines := -1, bufio.NewScanner(out)
		for told < round*3 && lines.Scan() {
			if told, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if told, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
		}
		_ = cmd.Wait() // it was killed

		b, err := OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for e, err := range All(t.Context(), b, "k/", "") {
			if err != nil {
				t.Fatal(err)
			}
			o, err := b.Get(t.Context(), e.Key, "")
			first, _, _ := strings.Cut(string(o.Body), " ")
			if err != nil || string(o.Body) != strings.Repeat(first+" ", 1<<14) {
				t.Fatalf("%s is not whole: %d bytes, %v", e.Key, len(o.Body), err)
			}
			found++
		}
		if found < told+2 {
			t.Errorf("%d objects were told of, and with the latest there are %d", told+1, found)
		}
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	opened, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := opened.(*directory)
	temp := filepath.Join(dir, layout, tempDir)
	if err := os.WriteFile(filepath.Join(temp, "dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	living, err := b.writeTemp([]byte("being written"))
	if err != nil {
		t.Fatal(err)
	}
	left := func(now time.Time) int {
		if err := b.sweep(now); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if n := left(time.Now()); n != 2 {
		t.Errorf("at once: %d files", n)
	}
	if n := left(time.Now().Add(2 * abandonedIn)); n != 1 {
		t.Errorf("later, while one is being written: %d files", n)
	}
	living.discard()
	if n := left(time.Now()); n != 0 {
		t.Errorf("at last: %d files", n)
	}
}

// TestNoWayOut has links in the directory that lead out of it.
func TestNoWayOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	b, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"out": outside, "file": secret} {
		if err := os.Symlink(target, filepath.Join(dir, layout, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"out/secret", "file"} {
		if o, err := b.Get(t.Context(), key, ""); err == nil {
			t.Errorf("%s: %q", key, o.Body)
		}
	}
	if _, err := b.Put(t.Context(), "out/new", []byte("x"), Condition{}); err == nil {
		t.Error("a write went out of the directory")
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if page, _, err := b.List(t.Context(), "", "", 10); err != nil || len(page) > 0 {
		t.Error(page, err)
	}
}

func TestDirectoryThatDoesNotExist(t *testing.T) {
	if b, err := Open("file://"+filepath.Join(t.TempDir(), "not-mounted"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(b, err)
	}
}

// TestLockOfAnotherProcess sees that a write waits for a lock no longer than its
// context, and that nothing is written then.
func TestLockOfAnotherProcess(t *testing.T) {
	opened, err := OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := opened.(*directory).lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := opened.Put(ctx, "a", nil, Condition{}); !errors.Is(err, ErrTemporary) {
		t.Error(err)
	}
	unlock()
	if _, err := opened.Get(t.Context(), "a", ""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := opened.Put(t.Context(), "a", nil, Condition{}); err != nil {
		t.Error(err)
	}
}
