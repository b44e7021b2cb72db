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
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/tenants"
)

// demoDir is where the demo keeps all its files, relative to the working directory.
const demoDir = "sqgate-demo"

// demoTenants is the ids of the demo's tenants, in the order of its tenants file.
var demoTenants = [...]string{"will", "phext-notepad"}

func newDemo() *cobra.Command {
	o, hosts := defaultOptions(), 1
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve two tenants from ./" + demoDir + " and print curl lines to paste",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			return demo(cmd.OutOrStdout(), o, cmd.Flags().Changed("sq"), hosts)
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", o.listen, "address to listen on")
	cmd.Flags().StringVar(&o.sq, "sq", o.sq, "SQ binary (default: sq on PATH, or else the stand-in that ships in sqgate)")
	cmd.Flags().IntVar(&hosts, "hosts", hosts, "how many sqgates to run, which share a directory as their bucket")
	return cmd
}

func demo(out io.Writer, o *options, sqGiven bool, hosts int) error {
	if hosts < 1 || hosts > mostDemoHosts {
		return usageError{fmt.Errorf("--hosts is %d: 1 to %d are wanted", hosts, mostDemoHosts)}
	}
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
	lock, made, err := lockDemo(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	served := false
	defer func() {
		if made && !served { // or else the next demo would go on with what was never used
			_ = os.RemoveAll(dir) // the error is that of the demo
		}
	}()
	again, err := writeDemo(dir, o.config)
	if err != nil {
		return err
	}
	if _, moved := os.LookupEnv(envListener); again && !moved { // or else it is this run that has made it
		fmt.Fprintf(out, "Going on with ./%[1]s as an earlier demo left it. To start over: rm -r %[1]s\n\n", demoDir)
	}
	if hosts != 1 {
		err := demoHosts(out, o, hosts)
		served = err == nil
		return err
	}
	err = serve(o, func(addr net.Addr) {
		served = true
		printDemo(out, o, addr)
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken, by another demo or by another program: stop that, or choose another address; `sqgate demo --listen 127.0.0.1:0` takes a free port", o.listen)
	}
	if err == nil {
		fmt.Fprintf(out, "sqgate demo: stopped. Keys and data are still in ./%[1]s: rm -r %[1]s\n", demoDir)
	}
	return err
}

// lockDemo makes the demo's directory, if there is none, and locks it until the file is
// closed, or until this process executes another program.
func lockDemo(dir string) (lock *os.File, made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	made = err == nil
	if made || errors.Is(err, fs.ErrExist) {
		err = os.NewSyscallError("access", unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK))
	}
	if err != nil {
		return nil, made, fmt.Errorf("the demo keeps its files in ./%s, which it cannot make or write here (%w): run it in a directory that you can write to", demoDir, err)
	}
	lock, err = os.Open(dir)
	if err != nil {
		return nil, made, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close() // the error is that of Flock
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, made, os.NewSyscallError("flock", err)
		}
		return nil, made, fmt.Errorf("a demo that runs already has ./%s: stop it with Ctrl-C, or run another one in another directory with `sqgate demo --listen 127.0.0.1:0`", demoDir)
	}
	return lock, made, nil
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

// writeDemo fills the demo's directory with new keys. It keeps that of an earlier run,
// and says so with again.
func writeDemo(dir, config string) (again bool, err error) {
	keys := filepath.Join(dir, "keys")
	if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(keys); err == nil && e != nil {
			err = fmt.Errorf("./%[1]s is of an earlier demo, and not whole any more (%[2]w): rm -r %[1]s, and start again", demoDir, e)
		}
		return true, err
	}
	var file demoFile
	var env string
	for i, id := range demoTenants {
		key, err := tenants.NewKey()
		if err != nil {
			return false, err
		}
		file.Tenants = append(file.Tenants, demoTenant{ID: id, APIKey: key, DataDir: filepath.Join(dir, "data", id), QuotaMB: 100})
		env += fmt.Sprintf("%s=%s\n", [...]string{"WILL", "NOTEPAD"}[i], key)
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(keys, []byte(env), 0o600); err != nil {
		return false, err
	}
	return false, os.WriteFile(config, append(text, '\n'), 0o600)
}

func printDemo(out io.Writer, o *options, addr net.Addr) {
	what := "SQ: " + o.sq
	if o.sq == builtin {
		what = "This is not SQ, but a stand-in for it that comes with sqgate: use it to try things, and\nnot for data that you want to keep. `cargo install sq` installs SQ."
	}
	fmt.Fprintf(out, `sqgate demo: two tenants, will and phext-notepad, at http://%[1]s
%[2]s
Files: ./%[3]s. Stop with Ctrl-C.

Paste into another terminal, in this directory:

  . ./%[3]s/keys
  curl -w '\n' -H "Authorization: Bearer $WILL" 'http://%[1]s/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1' -d 'Hello from Will'
  curl -w '\n' -H "Authorization: Bearer $NOTEPAD" 'http://%[1]s/api/v2/update?p=notes&c=1.1.1/1.1.1/1.1.1' -d 'Hello from Notepad'
  curl -w '\n' -H "Authorization: Bearer $WILL" 'http://%[1]s/api/v2/select?p=notes&c=1.1.1/1.1.1/1.1.1'
  curl -H "Authorization: Bearer $NOTEPAD" 'http://%[1]s/api/v2/toc?p=notes'

`, addr, what, demoDir)
}
