package fakesq

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"
)

var errNotText = errors.New("stream did not contain valid UTF-8")

// readText reads a file as Rust reads a string. The error is worded as Rust's,
// since 0.5.6 answers with it.
func readText(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", rustError(path, err)
	}
	if !utf8.Valid(text) {
		return "", errNotText
	}
	return string(text), nil
}

// rustError is err about path in the words of Rust's standard library.
func rustError(path string, err error) error {
	if strings.Contains(path, "\x00") {
		return errors.New("file name contained an unexpected NUL byte")
	}
	var n syscall.Errno
	if !errors.As(err, &n) {
		return err
	}
	text := n.Error()
	return fmt.Errorf("%s%s (os error %d)", strings.ToUpper(text[:1]), text[1:], int(n))
}
