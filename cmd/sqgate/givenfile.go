package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// pipePatience is how long a command waits until somebody opens the other end of a pipe
// that it was given, and for what a small file has.
const pipePatience = 30 * time.Second

// openInput opens a regular file or a pipe for reading, or standard input as "-".
func openInput(file string) (*os.File, error) {
	if file == "-" {
		return os.Stdin, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeNamedPipe {
		return nil, usageError{fmt.Errorf("%s is not a regular file or a pipe: name one, or - for standard input", file)}
	}
	return openWithin(pipePatience, file, os.O_RDONLY)
}

// readSmall reads a file that was given, such as one with a key.
func readSmall(patience time.Duration, file string) ([]byte, error) {
	f, err := openWithin(patience, file, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(patience)) // what is no pipe has none, and does not wait
	return io.ReadAll(f)
}

// openWithin opens a file, or a pipe as soon as its other end is opened too. If nobody does
// that in time, the opening is left to the end of the process.
func openWithin(patience time.Duration, file string, flag int) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.OpenFile(file, flag, 0)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.f, r.err
	case <-time.After(patience):
		return nil, usageError{fmt.Errorf("%s is a pipe, and nobody has opened its other end for %v", file, patience)}
	}
}
