package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/tenants"
)

func newCheck() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read a tenants file as serve would, and say what is wrong with it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			known, err := tenants.Load(o.config)
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d tenants, nothing wrong\n", o.config, known.Len())
			return err
		},
	}
	o.registerConfig(cmd.Flags())
	return cmd
}
