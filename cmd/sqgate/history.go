package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/internal/fsutil"
)

func newHistory() *cobra.Command {
	return newClientCommand(func(c *apiClient) *cobra.Command {
		return &cobra.Command{
			Use: "history TENANT [PHEXT [COORDINATE]]", Short: "List what was done to a tenant's phexts", Args: cobra.RangeArgs(1, 3),
			Example: "  sqgate history will\n  sqgate history will notes 1.1.1/1.1.1/1.1.1",
			RunE: func(_ *cobra.Command, args []string) error {
				q := url.Values{}
				for i, name := range []string{"phext", "coordinate"} {
					if len(args) > i+1 {
						q.Set(name, args[i+1])
					}
				}
				return c.call(http.MethodGet, tenantPath(args[0])+"/history?"+q.Encode(), nil, printHistory)
			},
		}
	})
}

func printHistory(out io.Writer, text []byte) error {
	var list struct {
		Events []struct {
			Time, Phext, Op, Coordinate, Key, Note, Writer string
			Bytes                                          int
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tPHEXT\tCHANGE\tCOORDINATE\tBYTES\tKEY\tNOTE\tWRITER")
	for _, e := range list.Events {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.Time, e.Phext, e.Op, orDash(e.Coordinate), e.Bytes, orDash(e.Key), orDash(e.Note), orDash(e.Writer))
	}
	return w.Flush()
}

// restoreOptions is the flags of restore.
type restoreOptions struct {
	at, coordinate, to, from string
	dryRun                   bool
}

func newRestore() *cobra.Command {
	return newClientCommand(func(c *apiClient) *cobra.Command {
		var o restoreOptions
		cmd := &cobra.Command{
			Use: "restore TENANT [PHEXT] --at TIME | --from FILE", Short: "Make a tenant's phexts what they were, at a moment or in a backup", Args: cobra.RangeArgs(1, 2),
			Example: "  sqgate restore will notes --at 10m --dry-run\n  sqgate restore will notes --at 2026-01-31T15:04:05Z --to notes-before\n  sqgate restore will --from will.tar",
			RunE:    func(_ *cobra.Command, args []string) error { return o.run(c, args) },
		}
		f := cmd.Flags()
		f.StringVar(&o.at, "at", "", "the moment: a time, a date, or a duration back from now such as 90m")
		f.StringVar(&o.from, "from", "", "a file that sqgate backup wrote, or - for standard input")
		f.StringVar(&o.coordinate, "coordinate", "", "only the scroll at this coordinate, by number or name")
		f.StringVar(&o.to, "to", "", "under this name, and leave the phext as it is")
		f.BoolVar(&o.dryRun, "dry-run", false, "say what would change, and change nothing")
		return cmd
	})
}

func (o *restoreOptions) run(c *apiClient, args []string) error {
	switch {
	case (o.at == "") == (o.from == ""):
		return usageError{errors.New("one of --at and --from is wanted: the moment to go back to, or a backup")}
	case o.from != "" && (o.coordinate != "" || o.to != ""):
		return usageError{errors.New("--coordinate and --to go with --at alone: restore the backup's phext, or use --at")}
	case o.from != "":
		return o.upload(c, args)
	}
	in := map[string]any{"at": o.at, "dry_run": o.dryRun}
	if len(args) > 1 {
		in["phext"] = args[1]
	}
	for name, value := range map[string]string{"coordinate": o.coordinate, "to": o.to} {
		if value != "" {
			in[name] = value
		}
	}
	return c.call(http.MethodPost, tenantPath(args[0])+"/restore", in, printRestored)
}

func (o *restoreOptions) upload(c *apiClient, args []string) error {
	f, err := openInput(o.from)
	if err != nil {
		return err
	}
	defer f.Close()
	q := url.Values{}
	if o.dryRun {
		q.Set("dry_run", "true")
	}
	if len(args) > 1 {
		q.Set("phext", args[1])
	}
	resp, err := c.send(http.MethodPost, tenantPath(args[0])+"/restore?"+q.Encode(), "application/x-tar", f)
	if err != nil {
		return err
	}
	return c.show(resp, printRestored)
}

func printRestored(out io.Writer, text []byte) error {
	var list struct {
		Restored []struct {
			Phext            string
			Bytes            int64
			Changed, Removed bool
		}
		Removed  []string
		DryRun   bool `json:"dry_run"`
		Manifest *bool
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PHEXT\tBYTES\tRESULT")
	for _, r := range list.Restored {
		fmt.Fprintf(w, "%s\t%d\t%s\n", r.Phext, r.Bytes, result(r.Changed, r.Removed, list.DryRun))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if n := len(list.Removed); n > 0 {
		fmt.Fprintf(out, "%d of %d phexts %s: %s\n", n, len(list.Restored), result(true, true, list.DryRun), strings.Join(list.Removed, ", "))
	}
	if list.Manifest != nil && !*list.Manifest {
		fmt.Fprintln(out, "The backup has no manifest, as those of earlier versions: only the end of the tar shows that nothing is missing.")
	}
	return nil
}

func result(changed, removed, dry bool) string {
	words := []string{"as it was already"}
	if changed {
		words = []string{"restored"}
		if removed {
			words = []string{"removed"}
		}
		if dry {
			words = append([]string{"would be"}, words...)
		}
	}
	return strings.Join(words, " ")
}

func newBackup() *cobra.Command {
	return newClientCommand(func(c *apiClient) *cobra.Command {
		return &cobra.Command{
			Use: "backup TENANT FILE", Short: "Write a tar of a tenant's phexts, all of one moment", Args: cobra.ExactArgs(2),
			Long: "Write a tar of a tenant's phexts, all of one moment. FILE is replaced when the tar is complete.\n" +
				"- is standard output. A pipe is written to. Anything else that is no regular file is refused.",
			Example: "  sqgate backup will will.tar\n  sqgate backup will - | zstd > will.tar.zst",
			RunE:    func(_ *cobra.Command, args []string) error { return c.download(tenantPath(args[0])+"/backup", args[1]) },
		}
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
		return os.OpenFile(file, os.O_WRONLY, 0)
	}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
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

// openInput opens a regular file or a pipe for reading, or standard input as "-".
func openInput(file string) (*os.File, error) {
	if file == "-" {
		return os.Stdin, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeNamedPipe {
		return nil, usageError{fmt.Errorf("%s is not a regular file or a pipe: name one, or - for standard input", file)}
	}
	return os.Open(file)
}
