package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/internal/fakesq"
)

// standIn is the hidden command that makes sqgate behave like `sq`. The supervisor
// starts it exactly as it starts real SQ.
const standIn = "legacy-sq"

// standInVersion is behind the version of SQ that the stand-in reproduces.
const standInVersion = "+stand-in"

func newStandIn() *cobra.Command {
	return &cobra.Command{
		Use:                standIn,
		Hidden:             true,
		DisableFlagParsing: true,
		Run:                func(_ *cobra.Command, args []string) { os.Exit(runStandIn(args)) },
	}
}

// runStandIn is the stand-in, which says what it is before it says what SQ says.
func runStandIn(args []string) int {
	fmt.Fprintln(os.Stderr, "this is not SQ, but the stand-in that comes with sqgate")
	return fakesq.Main(args, os.Stdout, os.Stderr)
}
