package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
			"gives secrets away or fails at the first write, is a warning. Warnings leave the exit status at 0.\n" +
			"With --bucket, it also writes, reads and removes an object there, to see whether serve can use the bucket.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return thisHost(cmd.OutOrStdout()).check(cmd, o)
		},
	}
	o.registerConfig(cmd.Flags())
	cmd.Flags().StringVar(&o.dataRoot, "data-root", o.dataRoot, "where tenants added over the API get their data directories")
	cmd.Flags().StringVar(&o.stateDir, "state-dir", o.stateDir, "directory for what sqgate itself keeps")
	cmd.Flags().StringVar(&o.archiveDir, "archive-dir", o.archiveDir, "where archives of deleted tenants go")
	o.bucket.registerPlace(cmd.Flags())
	o.bucket.registerHosts(cmd.Flags())
	return cmd
}

// check is the command, with the settings that the unit gives serve.
func (h *host) check(cmd *cobra.Command, o *options) error {
	switch err := h.takeSettings(cmd.Flags()); {
	case errors.Is(err, fs.ErrPermission):
		return usageError{fmt.Errorf("%w: run `sqgate check` as root", err)}
	case err != nil:
		return usageError{err}
	}
	if err := fromEnvironment(cmd.Flags()); err != nil {
		return err
	}
	if err := o.bucket.check(); err != nil {
		return err
	}
	return check(cmd.OutOrStdout(), o, h)
}

// check says that the file is good, or what is wrong with it, and warns of what serve
// will not refuse. It judges as the user that serves.
func check(out io.Writer, o *options, h *host) error {
	known, err := tenants.Load(o.config)
	if err != nil {
		return usageError{explainConfig(o.config, err)}
	}
	who, err := h.servingUser(o.config)
	if err != nil {
		return err
	}
	i := newInspector(o, who)
	if me := os.Geteuid(); me != 0 && me != who.uid {
		i.warn("%s serves it as user %s, for whom user %s cannot look: run `sqgate check` as root", who.unit, userName(who.uid), userName(me))
		i.secret(o.config)
	} else if err := i.unreadable(); err != nil {
		return usageError{err}
	} else {
		i.inspect(known)
	}
	verdict := "nothing wrong"
	if len(i.warnings) > 0 {
		verdict = "can be served, with warnings:\n- " + strings.Join(i.warnings, "\n- ")
	}
	if _, err = fmt.Fprintf(out, "%s: %s, %s\n", o.config, counted(known.Len(), "tenant"), verdict); err != nil || o.bucket.url == "" {
		return err
	}
	return o.bucket.try(out, known, o.stateDir)
}

// counted is a number of things: 1 tenant, 2 tenants.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// nightlyBackups is where sqgate-backup.service puts backups.
const nightlyBackups = "/var/backups/sq"

// replacement says how a tenants file comes about that is missing: from the newest copy
// in backups, since only that has the tenants' keys, or as a first one.
func replacement(config, backups string) string {
	first := fmt.Sprintf("write one with `sqgate init --config %s`", config)
	copies, _ := filepath.Glob(filepath.Join(backups, "tenants.*Z.json")) // sorted, and so by time
	dir, err := os.Stat(filepath.Dir(config))
	if len(copies) == 0 || err != nil {
		return first
	}
	return fmt.Sprintf("if it is lost, put the newest copy of it in its place with `install -o %s -m 600 %s %s`; for new tenants, %s", userName(ownerOf(config, dir)), copies[len(copies)-1], config, first)
}

// explainConfig says what to do about a tenants file that cannot be read, where sqgate
// was started by hand.
func explainConfig(config string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s, or name another with --config", err, replacement(config, nightlyBackups))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("tenants file %s: %w: user %s may not read it; run this as root, or as the user that the file belongs to", config, fs.ErrPermission, userName(os.Geteuid()))
	}
	return err
}
