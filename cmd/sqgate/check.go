package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/tenants"
)

func newCheck() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read a tenants file as serve would, and say what is wrong with it",
		Long: "Reads a tenants file as serve would, and says what is wrong with it. What serve would accept, and what\n" +
			"gives secrets away or fails at the first write, is a warning. Warnings leave the exit status at 0.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			known, err := tenants.Load(o.config)
			if err != nil {
				return usageError{err}
			}
			return report(cmd.OutOrStdout(), o, known)
		},
	}
	o.registerConfig(cmd.Flags())
	cmd.Flags().StringVar(&o.stateDir, "state-dir", o.stateDir, "directory for what sqgate itself keeps")
	cmd.Flags().StringVar(&o.archiveDir, "archive-dir", o.archiveDir, "where archives of deleted tenants go")
	return cmd
}

// report says that the file is good, and warns of what serve will not refuse.
func report(out io.Writer, o *options, known *tenants.Snapshot) error {
	warnings := inspect(o, known)
	verdict := "nothing wrong"
	if len(warnings) > 0 {
		verdict = "can be served, with warnings:\n- " + strings.Join(warnings, "\n- ")
	}
	_, err := fmt.Fprintf(out, "%s: %d tenants, %s\n", o.config, known.Len(), verdict)
	return err
}
