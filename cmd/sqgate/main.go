// Command sqgate serves many tenants from unmodified, single-tenant SQ.
//
// This package is flags, wiring and signals, one file for each subcommand; it
// decides nothing about requests.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is main with an exit status: 0 done, 1 failed, 2 asked for wrongly (a
// bad flag or tenants file), so that systemd can tell not to try again.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sqgate:", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		return 2
	}
	return 1
}
