package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/internal/fsutil"
)

func newBackup() *cobra.Command {
	return newClientCommand(func(c *apiClient) *cobra.Command {
		var all bool
		n := &allBackups{client: c}
		cmd := &cobra.Command{
			Use: "backup TENANT FILE | --all DIR", Short: "Write a tar of a tenant's phexts, all of one moment, or one for each tenant",
			Long: "Write a tar of a tenant's phexts, all of one moment. FILE is replaced when the tar is complete.\n" +
				"- is standard output. A pipe is written to. Anything else that is no regular file is refused.\n" +
				"With --all, each tenant that is not archived gets a tar in DIR, named after its id and the time.\n" +
				"A copy of the tenants file goes with them, because the keys are only there.",
			Example: "  sqgate backup will will.tar\n  sqgate backup will - | zstd > will.tar.zst\n  sqgate backup --all /var/backups/sq --keep 14",
			Args: func(cmd *cobra.Command, args []string) error {
				switch {
				case all && len(args) == 0:
					return usageError{errors.New("DIR is missing: --all backs up every tenant to DIR, `sqgate backup --all DIR`")}
				case all && len(args) > 1:
					return usageError{fmt.Errorf("--all backs up every tenant to one directory, and there are %d arguments: `sqgate backup --all DIR`, or `sqgate backup TENANT FILE` for one tenant", len(args))}
				case all:
					return nil
				}
				return cobra.ExactArgs(2)(cmd, args)
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				if all {
					return n.run(args[0], cmd.ErrOrStderr())
				}
				return c.download(tenantPath(args[0])+"/backup", args[1])
			},
		}
		f := cmd.Flags()
		f.BoolVar(&all, "all", false, "back up every tenant, each to a file of its own in DIR")
		f.IntVar(&n.keep, "keep", 0, "with --all: how many backups of a tenant to keep (0 = all); older ones are removed once a new one is there")
		f.StringVar(&n.config, "config", c.o.config, "with --all: the tenants file, which is copied to DIR (empty = it is not)")
		return cmd
	})
}

// download writes an answer to a file, to a pipe, or to standard output as "-".
func (c *apiClient) download(path, file string) error {
	pipe, err := openPipe(file)
	if err != nil {
		return err
	}
	resp, err := c.send(http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.show(resp, printFields)
	}
	if file == "-" {
		_, err := io.Copy(c.out, resp.Body)
		return err
	}
	if pipe != nil {
		_, err := io.Copy(pipe, resp.Body)
		return errors.Join(err, pipe.Close())
	}
	n, err := fsutil.ReplacePrivateFrom(file, resp.Body)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %d bytes\n", file, n)
	return nil
}

// openPipe opens the pipe that file names. It is nil if file is "-", or a regular
// file, or one that does not exist yet. Anything else is an error: to put a file
// in the place of a device or of a link is never what was meant.
func openPipe(file string) (*os.File, error) {
	if file == "-" {
		return nil, nil
	}
	if target, err := os.Stat(file); err == nil && target.Mode().Type() == fs.ModeNamedPipe {
		return openWithin(pipePatience, file, os.O_WRONLY)
	}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s cannot be written: %w; make that directory, or name another", file, err)
		}
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink:
		return nil, usageError{fmt.Errorf("%s is a symbolic link, which would be replaced: name the file itself, or - for standard output", file)}
	case !info.Mode().IsRegular():
		return nil, usageError{fmt.Errorf("%s is not a regular file or a pipe: name one, or - for standard output", file)}
	}
	return nil, nil
}
