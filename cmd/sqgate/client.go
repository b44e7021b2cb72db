package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
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

// ask is call for an answer that the command itself needs.
func (c *apiClient) ask(method, path string, in map[string]any, into any) error {
	quiet := *c
	quiet.json = false
	return quiet.call(method, path, in, func(_ io.Writer, text []byte) error { return json.Unmarshal(text, into) })
}

// send sends one request. The caller closes the answer.
func (c *apiClient) send(method, path, contentType string, body io.Reader) (*http.Response, error) {
	key, from, err := clientKey(c.o, credentialFile(adminKeyFile))
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(c.url)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usageError{fmt.Errorf("--url is %.80q: an address such as http://127.0.0.1:1337 is wanted", c.url)}
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
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("nothing listens at %s: `systemctl status sq.socket sq` says whether sqgate runs, and at which address; give another one with --url or SQGATE_URL (%w)", c.url, syscall.ECONNREFUSED)
	case err != nil:
		return nil, fmt.Errorf("sqgate does not answer: %w", err)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, wrongKey(resp, c.url, from)
	}
	return resp, nil
}

// wrongKey is the error for a key that was refused, with where it is from. It closes the
// answer.
func wrongKey(resp *http.Response, url, from string) error {
	_, err := readAnswer(resp)
	var refused *answerError
	if !errors.As(err, &refused) || refused.code == "" {
		return fmt.Errorf("%s is not sqgate's, or something in front of it refuses the call: %w", url, err)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		err = fmt.Errorf("it is not the management key (%s)", refused.code)
	}
	return fmt.Errorf("%s refuses the key from %s: %w; give the file of another one with --admin-key-file, or the key in SQ_ADMIN_KEY; the unit's own key is in %s, or else in %s/%s",
		url, from, err, credentialFile(adminKeyFile), defaultOptions().stateDir, adminKeyFile)
}

// show prints an answer, with print or as the JSON that it is, and closes it.
func (c *apiClient) show(resp *http.Response, print func(io.Writer, []byte) error) error {
	text, err := readAnswer(resp)
	if err != nil {
		return err
	}
	if c.json {
		_, err := c.out.Write(text)
		return err
	}
	return print(c.out, text)
}

// readAnswer is the text of an answer, which it closes. An answer that is an error
// becomes one.
func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = apiError(resp.Status, text)
	}
	return text, err
}

// answerError is the error of an answer, in the API's own words if it has any.
type answerError struct{ text, code string }

func (e *answerError) Error() string { return e.text }

func apiError(status string, text []byte) error {
	var e struct{ Error, Code string }
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		return &answerError{text: fmt.Sprintf("%s: %.200s", status, text)}
	}
	return &answerError{fmt.Sprintf("%s (%s)", e.Error, e.Code), e.Code}
}

// printFields prints the fields of an object, one per line.
func printFields(out io.Writer, text []byte) error {
	fields, err := decodeFields(text)
	if err != nil {
		return err
	}
	return writeFields(out, fields)
}

func decodeFields(text []byte) (fields map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&fields)
	return fields, err
}

func writeFields(out io.Writer, fields map[string]any) error {
	t, now := &table{prose: true, whole: true}, time.Now()
	for _, name := range append(fieldOrder[:], slices.Sorted(maps.Keys(fields))...) {
		if value, ok := fields[name]; ok {
			t.add(name, fieldText(name, value, now))
			delete(fields, name)
		}
	}
	return t.write(out)
}

// printTenant prints a tenant, with the limits that it does not have.
func printTenant(out io.Writer, text []byte) error {
	fields, err := decodeFields(text)
	if err != nil {
		return err
	}
	quota, _ := fields["quota_mb"].(json.Number)
	if used, ok := fields["storage_used_mb"].(json.Number); ok {
		mb, errUsed := used.Float64()
		of, errQuota := quota.Float64()
		if errUsed == nil && errQuota == nil && of > 0 {
			fields["storage_used_mb"] = fmt.Sprintf("%s (%.0f %% of the quota)", used, 100*mb/of)
		}
	}
	for _, name := range unlimited {
		if n, ok := fields[name].(json.Number); !ok || n == "0" {
			fields[name] = "no limit"
		}
	}
	return writeFields(out, fields)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// printList prints tenants as a table, and below it which directories cannot be read.
// Those that are archived have other columns.
func printList(out io.Writer, text []byte) error {
	var list struct {
		Tenants []struct {
			ID         string     `json:"tenant_id"`
			Status     string     `json:"status"`
			UsedMB     float64    `json:"storage_used_mb"`
			QuotaMB    int64      `json:"quota_mb"`
			CallsToday int64      `json:"api_calls_today"`
			LastActive *time.Time `json:"last_active"`
			Error      string     `json:"error"`
			Archive    string     `json:"archive"`
		} `json:"tenants"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	t, archived, now, unreadable := &table{}, &table{prose: true, whole: true}, time.Now(), ""
	t.add("TENANT", "STATUS", "USED MB", "QUOTA MB", "CALLS TODAY", "LAST ACTIVE")
	archived.add("TENANT", "STATUS", "LAST ACTIVE", "ARCHIVE")
	for _, one := range list.Tenants {
		used, last := fmt.Sprintf("%.3f", one.UsedMB), "-"
		if one.Error != "" {
			if one.UsedMB == 0 { // it could not be counted
				used = "?"
			}
			unreadable += strings.Join(fold(strings.Map(printable, one.Error), screenWidth, screenWidth-len(indent), false), "\n"+indent) + "\n"
		}
		if one.LastActive != nil {
			last = ago(*one.LastActive, now)
		}
		if one.Status == "archived" {
			archived.add(one.ID, one.Status, last, orDash(one.Archive))
			continue
		}
		t.add(one.ID, one.Status, used, limit(one.QuotaMB), fmt.Sprint(one.CallsToday), last)
	}
	if len(archived.rows) > 1 { // they are listed only by themselves
		t = archived
	}
	if err := t.write(out); err != nil {
		return err
	}
	_, err := io.WriteString(out, unreadable)
	return err
}

func limit(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
