package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
)

// usageError is an operator's mistake, such as a bad flag or tenants file. It
// makes the exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func newRoot() *cobra.Command {
	o := defaultOptions()
	root := &cobra.Command{
		Use:           "sqgate",
		Short:         "A multi-tenant gateway in front of unmodified SQ",
		Long:          "sqgate authenticates callers by API key, gives each tenant an SQ process of its own on its own\ndata directory, and keeps them apart. Without a command it serves.",
		Args:          cobra.NoArgs,
		Version:       versionLine(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serveCommand(cmd, o) },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	o.register(root.Flags())
	root.AddCommand(newServe(), newDemo(), newCheck(), newInit(), newTenant(), newKey(), newWebhook(), newHistory(), newRestore(), newBackup(), newBucket(), newHostCommand(), newVersion(), newMan())
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case standIn:
			root.AddCommand(newStandIn())
		case ownNetwork:
			root.AddCommand(newOwnNetwork())
		case dialerCommand:
			root.AddCommand(newDialer())
		}
	}
	root.InitDefaultCompletionCmd()
	explainHelp(root)
	explainMistakes(root)
	return root
}

// errKeyFlag is for operators who start sqgate with the arguments of single-tenant SQ.
var errKeyFlag = errors.New("there is no --key: sqgate serves many tenants, whose keys stand in the tenants file (--config), " +
	"one \"api_key\" each; `sqgate check` reads that file and says what is wrong with it. " +
	"The key of the management API is --admin-key")
