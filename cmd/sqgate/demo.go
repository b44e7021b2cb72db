package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/tenants"
)

// demoDir is where the demo keeps all its files, relative to the working directory.
const demoDir = "sqgate-demo"

// demoTenants is the ids of the demo's tenants, in the order of its tenants file.
var demoTenants = [...]string{"will", "phext-notepad"}

func newDemo() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve two tenants from ./" + demoDir + " and print curl lines to paste",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			return demo(cmd.OutOrStdout(), o, cmd.Flags().Changed("sq"))
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", o.listen, "address to listen on")
	cmd.Flags().StringVar(&o.sq, "sq", o.sq, "SQ binary (default: sq on PATH, or else the stand-in that ships in sqgate)")
	return cmd
}

func demo(out io.Writer, o *options, sqGiven bool) error {
	dir, err := filepath.Abs(demoDir)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(o.sq); err != nil && !sqGiven {
		o.sq = builtin
	}
	o.config = filepath.Join(dir, "tenants.json")
	o.stateDir = filepath.Join(dir, "state")
	o.dataRoot = filepath.Join(dir, "data")
	o.archiveDir = filepath.Join(dir, "archive")
	o.logLevel = "warn"
	if err := writeDemo(dir, o.config); err != nil {
		return err
	}
	return serve(o, func(addr net.Addr) { printDemo(out, o, addr) })
}

// demoFile is the tenants file of the demo, with the fields that the demo uses.
type demoFile struct {
	Tenants []demoTenant `json:"tenants"`
}

type demoTenant struct {
	ID      string `json:"id"`
	APIKey  string `json:"api_key"`
	DataDir string `json:"data_dir"`
	QuotaMB int    `json:"quota_mb"`
}

// writeDemo creates the demo's directory with new keys. It keeps the directory of
// an earlier run.
func writeDemo(dir, config string) error {
	if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var file demoFile
	var env string
	for i, id := range demoTenants {
		key, err := tenants.NewKey()
		if err != nil {
			return err
		}
		file.Tenants = append(file.Tenants, demoTenant{ID: id, APIKey: key, DataDir: filepath.Join(dir, "data", id), QuotaMB: 100})
		env += fmt.Sprintf("%s=%s\n", [...]string{"WILL", "NOTEPAD"}[i], key)
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "keys"), []byte(env), 0o600); err != nil {
		return err
	}
	return os.WriteFile(config, append(text, '\n'), 0o600)
}

func printDemo(out io.Writer, o *options, addr net.Addr) {
	what := "SQ: " + o.sq
	if o.sq == builtin {
		what = "SQ: the built-in stand-in (install SQ to use the real one)"
	}
	fmt.Fprintf(out, `sqgate demo: two tenants, will and phext-notepad, at http://%[1]s
%[2]s
Files: ./%[3]s (delete it to start over). Stop with Ctrl-C.

Paste into another terminal, in this directory:

  . ./%[3]s/keys
  curl -H "Authorization: Bearer $WILL" 'http://%[1]s/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1' -d 'Hello from Will'
  curl -H "Authorization: Bearer $NOTEPAD" 'http://%[1]s/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1' -d 'Hello from Notepad'
  curl -H "Authorization: Bearer $WILL" 'http://%[1]s/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1'
  curl -H "Authorization: Bearer $NOTEPAD" 'http://%[1]s/api/v2/toc?p=notes'

`, addr, what, demoDir)
}
