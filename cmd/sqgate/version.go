package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/proxy"
)

// release is set by the package build with -ldflags -X.
var release = ""

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of sqgate and of the protocol it serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("sqgate %s, SQ protocol %s", buildVersion(), proxy.ServiceVersion)
}

func buildVersion() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
