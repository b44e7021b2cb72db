package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// suggestionDistance is in how many letters a suggestion may differ from what was
// written.
const suggestionDistance = 2

// explainMistakes makes each mistake in a command line a usageError that names what
// was probably meant. A command that only has others below it shows its help.
func explainMistakes(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = suggestionDistance
	cmd.SetFlagErrorFunc(explainFlag)
	if !cmd.Runnable() {
		cmd.Args = cobra.NoArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			switch {
			case err == nil:
				return nil
			case cmd.HasSubCommands():
				return usageError{fmt.Errorf("there is no command %q in %q%s", args[0], cmd.CommandPath(), didYouMean(cmd.SuggestionsFor(args[0]), ""))}
			}
			return usageError{fmt.Errorf("these are %d arguments: the usage is %q", len(args), cmd.UseLine())}
		}
	}
	for _, sub := range cmd.Commands() {
		explainMistakes(sub)
	}
}

// explainFlag is for flags that there are not, or that have a bad value.
func explainFlag(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		best, nearest := suggestionDistance+1, []string(nil)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if d := distance(missing.GetSpecifiedName(), f.Name); d < best && !f.Hidden {
				best, nearest = d, []string{f.Name}
			}
		})
		err = fmt.Errorf("%w%s", err, didYouMean(nearest, "--"))
	}
	return usageError{err}
}

func didYouMean(all []string, prefix string) string {
	if len(all) == 0 {
		return ""
	}
	return ": did you mean " + prefix + strings.Join(all, " or "+prefix) + "?"
}

// distance is how many letters have to be added, removed or changed to make one
// word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1) // the distances of the beginnings of b to a[:i]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			same := diagonal
			if a[i] != b[j] {
				same++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, diagonal+1, same)
		}
	}
	return row[len(b)]
}
