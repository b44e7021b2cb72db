package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAPipeWithoutAnotherEnd is given up, whether it is to be read or written.
func TestAPipeWithoutAnotherEnd(t *testing.T) {
	newPipe := func() string {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		return pipe
	}
	for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
		pipe := newPipe()
		var usage usageError
		if f, err := openWithin(time.Millisecond, pipe, flag); !errors.As(err, &usage) || f != nil {
			t.Errorf("flag %d: %v, %v", flag, f, err)
		}
		if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err != nil || f.Close() != nil { // ends what was left
			t.Error(err)
		}
	}
	pipe := newPipe() // whose other end is open, and from which nothing comes
	idle, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if text, err := readSmall(time.Millisecond, pipe); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v", text, err)
	}
}

// TestASmallFileIsReadFromAPipe, as a shell's <(command) is one.
func TestASmallFileIsReadFromAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, []byte("a key"), 0) }()
	if text, err := readSmall(pipePatience, pipe); err != nil || string(text) != "a key" {
		t.Errorf("%q, %v", text, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
