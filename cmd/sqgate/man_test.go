package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestTheManualNamesEveryCommandAndFlag(t *testing.T) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"man"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if want := `\fB` + roff("--"+f.Name) + `\fR`; !f.Hidden && f.Name != "help" && !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %s", cmd.CommandPath(), want)
			}
		})
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() || sub.Name() == "help" {
				continue
			}
			if !sub.HasSubCommands() && !strings.Contains(page, ".SS "+roff(sub.CommandPath())) {
				t.Errorf("the page lacks %s", sub.CommandPath())
			}
			check(sub)
		}
	}
	check(root)
	if strings.Contains(page, standIn) {
		t.Error("the page shows what is hidden")
	}
}

func TestRoffKeepsTextFromBeingRequests(t *testing.T) {
	if got, want := roff(".TH x\n'y \\n-z\n"), "\\&.TH x\n\\&'y \\en\\-z"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
