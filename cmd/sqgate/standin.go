package main

import (
	"os"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/internal/fakesq"
)

// standIn is the hidden command that makes sqgate behave like `sq`. The supervisor
// starts it exactly as it starts real SQ.
const standIn = "legacy-sq"

func newStandIn() *cobra.Command {
	return &cobra.Command{
		Use:                standIn,
		Hidden:             true,
		DisableFlagParsing: true,
		Run: func(_ *cobra.Command, args []string) {
			os.Exit(fakesq.Main(args, os.Stdout, os.Stderr))
		},
	}
}
