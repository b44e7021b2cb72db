// Command sqgate serves many tenants from unmodified, single-tenant SQ.
//
// This package has the flags, the wiring of the other packages, signals, and one
// file for each subcommand. It never decides anything about a request.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes a command line and returns its exit status: 0 for success, 1 for a
// failure and 2 for a usageError.
func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	stderr := newLogQueue(os.Stderr, func(int) {}) // standard error may be what is stuck
	fmt.Fprintln(stderr, "sqgate:", err)
	stderr.close()
	serves := cmd.Name() == "serve" || cmd == root && cmd.Flags().NArg() == 0 // and no command that there is not
	if serves && startedBySystemd() && keepsFromStarting(err) {
		answerUnready(err, sendToSystemd, unreadyTime)
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		return 2
	}
	return 1
}
