package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/nearest"
)

// explainMistakes makes each mistake in a command line a usageError that names what
// was probably meant. A command that only has others below it shows its help.
func explainMistakes(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(explainFlag)
	if !cmd.Runnable() {
		cmd.Args = cobra.NoArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			switch {
			case err == nil || errors.As(err, &usageError{}):
				return err
			case cmd.HasSubCommands():
				return usageError{fmt.Errorf("there is no command %q in %q%s", args[0], cmd.CommandPath(), nearest.DidYouMean(args[0], "", commandsOf(cmd)))}
			}
			return usageError{fmt.Errorf("%s: the usage is %q", wrongArguments(cmd.Use, args), cmd.UseLine())}
		}
	}
	for _, sub := range cmd.Commands() {
		explainMistakes(sub)
	}
}

// explainHelp makes help for a command that there is not a mistake like the command.
func explainHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" {
			continue
		}
		cmd.Run, cmd.RunE = nil, func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 && of.HasSubCommands() {
				err = of.Args(of, rest)
			}
			if err != nil {
				return err
			}
			return of.Help()
		}
	}
}

// wrongArguments names the arguments that are missing, or the first that is one too
// many. The usage has them between the command and its flags, optional ones in brackets.
func wrongArguments(use string, args []string) string {
	var needed []string
	most := 0
	for _, word := range strings.Fields(use)[1:] {
		if strings.HasPrefix(word, "-") || word == "|" {
			break
		}
		most++
		if !strings.HasPrefix(word, "[") {
			needed = append(needed, word)
		}
	}
	switch {
	case len(args)+1 == len(needed):
		return needed[len(args)] + " is missing"
	case len(args) < len(needed):
		return strings.Join(needed[len(args):], " and ") + " are missing"
	case len(args) > most:
		return fmt.Sprintf("%q is one argument too many", args[most])
	}
	return fmt.Sprintf("these are %d arguments", len(args))
}

// explainFlag is for flags that there are not, or that have a bad value.
func explainFlag(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, f.Name)
			}
		})
		err = fmt.Errorf("%w%s", err, nearest.DidYouMean(missing.GetSpecifiedName(), "--", known))
	}
	if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) {
		return badValue("--"+bad.GetFlag().Name, bad.GetFlag(), bad.GetValue(), bad.Unwrap())
	}
	return usageError{err}
}

// badValue says which value of a flag is wanted. from is where the bad one stands. The
// flag types of this package say it themselves.
func badValue(from string, flag *pflag.Flag, value string, cause error) error {
	wanted := ""
	switch flag.Value.Type() {
	case "int", "int64":
		wanted = "a whole number is wanted, such as 500"
		if strings.HasSuffix(flag.Name, "-mb") {
			wanted = "a whole number of megabytes is wanted, such as 500"
		}
		if errors.Is(cause, strconv.ErrRange) {
			wanted = "this is out of range"
		}
	case "bool":
		wanted = "true or false is wanted"
	case keyFlag{}.Type():
		return usageError{cause}
	default:
		return usageError{fmt.Errorf("%s: %w", from, cause)}
	}
	return usageError{fmt.Errorf("%s is %.80q: %s", from, value, wanted)}
}

// commandsOf are the names of the commands below cmd that its help shows.
func commandsOf(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}
