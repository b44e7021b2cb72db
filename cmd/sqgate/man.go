package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan prints the manual page. It is made from the commands themselves, so that
// the two cannot differ.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Print the manual page",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page := &manPage{}
			page.write(cmd.Root())
			_, err := io.WriteString(cmd.OutOrStdout(), page.String())
			return err
		},
	}
}

// manPage is a manual page in the format of man(7).
type manPage struct{ strings.Builder }

func (m *manPage) write(root *cobra.Command) {
	fmt.Fprintf(m, ".TH SQGATE 8 \"\" \"sqgate\" \"System Administration\"\n.SH NAME\nsqgate \\- %s\n", roff(lowerFirst(root.Short)))
	fmt.Fprintf(m, ".SH SYNOPSIS\n.B sqgate\n[\\fIserve\\fR] [\\fIflags\\fR]\n.br\n.B sqgate\n\\fIcommand\\fR [\\fIarguments\\fR] [\\fIflags\\fR]\n")
	m.section("DESCRIPTION", root.Long)
	m.WriteString(".SH COMMANDS\n")
	m.commands(root)
	m.WriteString(".SH ENVIRONMENT\nEvery flag can also be set by a variable: SQGATE_ and its name in capitals, with _ for \\-. A flag on the command line wins.\n")
	m.WriteString(".SH FILES\n.TP\n.I /etc/sq/tenants.json\nthe tenants, their keys and quotas; mode 0600\n.TP\n.I /var/lib/sq\nthe tenants' data and archives\n" +
		".TP\n.I /var/lib/sqgate\nwhat sqgate itself keeps: journal, audit log, generated management key\n")
	m.WriteString(".SH SIGNALS\nTERM and INT finish the requests in flight and stop; a second one does not wait for them. HUP reloads the tenants file.\n")
	m.WriteString(".SH EXIT STATUS\n0 success, 1 failure, 2 a bad flag or tenants file.\n")
	m.WriteString(".SH SEE ALSO\n.BR systemctl (1),\n.BR journalctl (1),\n.I /usr/share/doc/sqgate/operations.md\n")
}

func (m *manPage) section(title, text string) {
	fmt.Fprintf(m, ".SH %s\n%s\n", title, roff(text))
}

// commands describes every command that can be run, depth first.
func (m *manPage) commands(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "help" {
			continue
		}
		if cmd.HasAvailableSubCommands() {
			m.commands(cmd)
			continue
		}
		m.command(cmd)
	}
}

func (m *manPage) command(cmd *cobra.Command) {
	fmt.Fprintf(m, ".SS %s\n%s.\n", roff(strings.TrimSuffix(cmd.UseLine(), " [flags]")), roff(cmd.Short))
	if long := strings.TrimSpace(cmd.Long); long != "" {
		fmt.Fprintf(m, ".PP\n.nf\n%s\n.fi\n", roff(long))
	}
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			m.flag(f)
		}
	})
	if cmd.Example != "" {
		fmt.Fprintf(m, ".PP\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
}

func (m *manPage) flag(f *pflag.Flag) {
	value, usage := pflag.UnquoteUsage(f)
	fmt.Fprintf(m, ".TP\n\\fB%s\\fR", roff("--"+f.Name))
	if value != "" {
		fmt.Fprintf(m, " \\fI%s\\fR", roff(value))
	}
	if f.DefValue != "" && f.DefValue != "false" {
		usage += " (" + f.DefValue + ")"
	}
	fmt.Fprintf(m, "\n%s\n", roff(usage))
}

// roff escapes text, so that the formatter reads none of it as a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(strings.TrimRight(text, "\n"))
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
