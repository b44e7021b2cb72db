package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// apiClient calls the management API of a running sqgate, for commands.
type apiClient struct {
	o    *options
	url  string
	json bool
	out  io.Writer
}

func newAPIClient() *apiClient { return &apiClient{o: defaultOptions()} }

// register adds the flags that all commands with a client share.
func (c *apiClient) register(f *pflag.FlagSet) {
	f.StringVar(&c.url, "url", "http://127.0.0.1:1337", "address of the running sqgate")
	f.BoolVar(&c.json, "json", false, "print the API's JSON, for scripts")
	f.StringVar(&c.o.stateDir, "state-dir", c.o.stateDir, "directory where serve keeps a generated management key")
	c.o.registerAdminKey(f)
}

// prepare makes a command read its flags from the environment before it runs.
func (c *apiClient) prepare(cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := fromEnvironment(cmd.Flags()); err != nil {
			return err
		}
		c.out = cmd.OutOrStdout()
		return run(cmd, args)
	}
	return cmd
}

// newClientCommand builds a top-level command that calls a running sqgate.
func newClientCommand(build func(*apiClient) *cobra.Command) *cobra.Command {
	c := newAPIClient()
	cmd := c.prepare(build(c))
	c.register(cmd.Flags())
	return cmd
}

// callTimeout is the longest wait for an answer. It is long because deleting a
// tenant archives its data.
const callTimeout = 30 * time.Minute

// call sends one request and shows its answer.
func (c *apiClient) call(method, path string, in map[string]any, print func(io.Writer, []byte) error) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	resp, err := c.send(method, path, "application/json", body)
	if err != nil {
		return err
	}
	return c.show(resp, print)
}

// send sends one request. The caller closes the answer.
func (c *apiClient) send(method, path, contentType string, body io.Reader) (*http.Response, error) {
	key, err := clientKey(c.o)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, strings.TrimSuffix(c.url, "/")+path, body)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := (&http.Client{Timeout: callTimeout}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("sqgate does not answer: %w", err)
	}
	return resp, nil
}

// show prints an answer, with print or as the JSON that it is, and closes it.
func (c *apiClient) show(resp *http.Response, print func(io.Writer, []byte) error) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return apiError(resp.Status, text)
	}
	if c.json {
		_, err := c.out.Write(text)
		return err
	}
	return print(c.out, text)
}

// apiError is the error of an answer, in the API's own words if it has any.
func apiError(status string, text []byte) error {
	var e struct{ Error, Code string }
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		return fmt.Errorf("%s: %.200s", status, text)
	}
	return fmt.Errorf("%s (%s)", e.Error, e.Code)
}

// printFields prints the fields of an object, one per line, sorted by name.
func printFields(out io.Writer, text []byte) error {
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return err
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%v\n", name, orDash(fields[name]))
	}
	return w.Flush()
}

func orDash(v any) any {
	if v == nil || v == "" {
		return "-"
	}
	return v
}

// printList prints tenants as a table.
func printList(out io.Writer, text []byte) error {
	var list struct {
		Tenants []struct {
			ID         string  `json:"tenant_id"`
			Status     string  `json:"status"`
			UsedMB     float64 `json:"storage_used_mb"`
			QuotaMB    int64   `json:"quota_mb"`
			CallsToday int64   `json:"api_calls_today"`
			LastActive *string `json:"last_active"`
		} `json:"tenants"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tSTATUS\tUSED MB\tQUOTA MB\tCALLS TODAY\tLAST ACTIVE")
	for _, t := range list.Tenants {
		last := "-"
		if t.LastActive != nil {
			last = *t.LastActive
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%s\t%d\t%s\n", t.ID, t.Status, t.UsedMB, limit(t.QuotaMB), t.CallsToday, last)
	}
	return w.Flush()
}

func limit(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
