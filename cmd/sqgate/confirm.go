package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// confirmation is the flag of commands that ask before they go on.
type confirmation struct{ yes bool }

func (c *confirmation) register(f *pflag.FlagSet) {
	f.BoolVar(&c.yes, "yes", false, "do not ask")
}

// needed says whether to ask. It is an error if there is nobody to ask: what is about
// to happen is said with what.
func (c *confirmation) needed(what string) (bool, error) {
	if c.yes {
		return false, nil
	}
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err != nil {
		return false, usageError{fmt.Errorf("%s, and there is no terminal to ask on: nothing was done; give --yes if that is what you want", what)}
	}
	return true, nil
}

var errDeclined = errors.New("nothing was done")

// ask returns once the operator has typed word, and errDeclined if that was something
// else.
func (c *confirmation) ask(question, word string) error {
	fmt.Fprintf(os.Stderr, "%s\nType %s to go on: ", question, word)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != word {
		return errDeclined
	}
	return nil
}
