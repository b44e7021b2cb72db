package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newAPIClient() *apiClient { return &apiClient{o: defaultOptions()} }

// register adds the flags that every command has which calls a running sqgate.
func (c *apiClient) register(f *pflag.FlagSet) {
	f.StringVar(&c.url, "url", "http://127.0.0.1:1337", "address of the running sqgate")
	f.BoolVar(&c.json, "json", false, "print the API's JSON, for scripts")
	f.StringVar(&c.o.stateDir, "state-dir", c.o.stateDir, "directory where serve keeps a generated management key")
	c.o.registerAdminKey(f)
}

// prepared has a command read its flags from the environment before it runs.
func (c *apiClient) prepared(cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := fromEnvironment(cmd.Flags()); err != nil {
			return err
		}
		c.out = cmd.OutOrStdout()
		return run(cmd, args)
	}
	return cmd
}

// forOperator makes a command of its own that calls a running sqgate.
func forOperator(build func(*apiClient) *cobra.Command) *cobra.Command {
	c := newAPIClient()
	cmd := c.prepared(build(c))
	c.register(cmd.Flags())
	return cmd
}
