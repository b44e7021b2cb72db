package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
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
				return c.showHistory(tenantPath(args[0])+"/history", q)
			},
		}
	})
}

// historyPage is one answer of the history. The next one has what came after the last
// event.
type historyPage struct {
	Events []struct {
		Time                                     time.Time
		Phext, Op, Coordinate, Key, Note, Writer string
		Bytes                                    int
	}
	More bool
}

// showHistory prints all of the history, answer by answer. Each answer is a table of
// its own, or JSON on a line of its own.
func (c *apiClient) showHistory(path string, q url.Values) error {
	for {
		var page historyPage
		resp, err := c.send(http.MethodGet, path+"?"+q.Encode(), "", nil)
		if err != nil {
			return err
		}
		text, err := readAnswer(resp)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return err
		}
		if c.json {
			_, err = c.out.Write(text)
		} else {
			err = printHistory(c.out, page)
		}
		if err != nil || !page.More || len(page.Events) == 0 {
			return err
		}
		q.Set("after", page.Events[len(page.Events)-1].Time.Format(time.RFC3339Nano))
	}
}

func printHistory(out io.Writer, list historyPage) error {
	if len(list.Events) == 0 {
		_, err := fmt.Fprintln(out, "The history, as far back as it goes, has no change of this.")
		return err
	}
	t := &table{prose: true}
	t.add("TIME", "CHANGE", "BYTES", "KEY", "WHERE")
	for _, e := range list.Events {
		where := orDash(strings.TrimSpace(e.Phext + " " + e.Coordinate))
		if e.Note != "" {
			where += ", " + e.Note
		}
		if e.Writer != "" {
			where += ", by " + e.Writer
		}
		t.add(moment(e.Time), e.Op, fmt.Sprint(e.Bytes), orDash(e.Key), where)
	}
	return t.write(out)
}

// restoreOptions is the flags of restore.
type restoreOptions struct {
	at, coordinate, to, from, fromTenant string
	dryRun                               bool
	confirm                              confirmation
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
		f.StringVar(&o.fromTenant, "from-tenant", "", "with --from: the id of the tenant that the backup is of, if that is another tenant, or an earlier one with the same id")
		f.BoolVar(&o.dryRun, "dry-run", false, "say what would change, and change nothing")
		o.confirm.register(f)
		return cmd
	})
}

func (o *restoreOptions) run(c *apiClient, args []string) error {
	switch {
	case o.at != "" && o.from != "":
		return usageError{errors.New("--at and --from are both given: the moment to go back to, or a backup; keep one")}
	case o.at == "" && o.from == "":
		return usageError{errors.New("one of --at and --from is wanted: the moment to go back to, or a backup")}
	case o.from != "" && (o.coordinate != "" || o.to != ""):
		return usageError{errors.New("--coordinate and --to go with --at alone: restore the backup's phext, or use --at")}
	}
	if !o.dryRun {
		if err := o.confirmReplacing(c, args); err != nil {
			return err
		}
	}
	resp, err := o.send(c, args, o.dryRun)
	if err != nil {
		return err
	}
	return c.show(resp, printRestored)
}

// confirmReplacing asks before a phext is replaced or removed.
func (o *restoreOptions) confirmReplacing(c *apiClient, args []string) error {
	if o.confirm.yes {
		return nil
	}
	if o.from != "" {
		if info, err := os.Stat(o.from); o.from == "-" || err == nil && !info.Mode().IsRegular() {
			return usageError{fmt.Errorf("a backup from a pipe cannot be looked at before it is restored: give --yes, or --dry-run to see what would change")}
		}
	}
	resp, err := o.send(c, args, true)
	if err != nil {
		return err
	}
	var would restored
	quiet := *c
	quiet.json = false
	if err := quiet.show(resp, func(_ io.Writer, text []byte) error { return json.Unmarshal(text, &would) }); err != nil {
		return err
	}
	replaced := would.replaced()
	if len(replaced) == 0 {
		return nil
	}
	ask, err := o.confirm.needed(fmt.Sprintf("this replaces or removes %d of the phexts of tenant %q (--dry-run says which)", len(replaced), args[0]))
	if !ask {
		return err
	}
	if err := would.print(os.Stderr); err != nil {
		return err
	}
	return o.confirm.ask("The history keeps what these phexts are now.", "yes")
}

// send sends the restore.
func (o *restoreOptions) send(c *apiClient, args []string, dryRun bool) (*http.Response, error) {
	if o.from != "" {
		return o.upload(c, args, dryRun)
	}
	in := map[string]any{"at": o.at, "dry_run": dryRun}
	if len(args) > 1 {
		in["phext"] = args[1]
	}
	for name, value := range map[string]string{"coordinate": o.coordinate, "to": o.to} {
		if value != "" {
			in[name] = value
		}
	}
	text, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return c.send(http.MethodPost, tenantPath(args[0])+"/restore", "application/json", bytes.NewReader(text))
}

func (o *restoreOptions) upload(c *apiClient, args []string, dryRun bool) (*http.Response, error) {
	f, err := openInput(o.from)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	q := url.Values{}
	if dryRun {
		q.Set("dry_run", "true")
	}
	if o.fromTenant != "" {
		q.Set("from", o.fromTenant)
	}
	if len(args) > 1 {
		q.Set("phext", args[1])
	}
	return c.send(http.MethodPost, tenantPath(args[0])+"/restore?"+q.Encode(), "application/x-tar", f)
}

// restored is the API's answer to a restore.
type restored struct {
	Restored []struct {
		Phext            string
		Bytes            int64
		Changed, Created bool
		Removed          bool
	}
	Removed  []string
	DryRun   bool `json:"dry_run"`
	Manifest *bool
}

// replaced are the phexts that exist and would become others, or none.
func (r *restored) replaced() (names []string) {
	for _, one := range r.Restored {
		if one.Changed && !one.Created {
			names = append(names, one.Phext)
		}
	}
	return names
}

func printRestored(out io.Writer, text []byte) error {
	var list restored
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	return list.print(out)
}

func (r *restored) print(out io.Writer) error {
	t := &table{}
	t.add("PHEXT", "BYTES", "RESULT")
	for _, one := range r.Restored {
		t.add(one.Phext, fmt.Sprint(one.Bytes), result(one.Changed, one.Removed, r.DryRun))
	}
	if err := t.write(out); err != nil {
		return err
	}
	if n := len(r.Removed); n > 0 {
		line := fmt.Sprintf("%d of %d phexts %s: %s", n, len(r.Restored), result(true, true, r.DryRun), strings.Map(printable, strings.Join(r.Removed, ", ")))
		fmt.Fprintln(out, strings.Join(fold(line, screenWidth, screenWidth-len(indent), true), "\n"+indent))
	}
	if r.Manifest != nil && !*r.Manifest {
		fmt.Fprintln(out, "The backup has no manifest, as those of earlier versions: only the end of the\ntar shows that nothing is missing.")
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
