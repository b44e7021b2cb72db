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
)

// apiClient calls the management API of a running sqgate.
type apiClient struct {
	o    *options
	url  string
	json bool
	out  io.Writer
}

// callPatience is the longest wait for an answer: deleting a tenant archives its data.
const callPatience = 30 * time.Minute

// call sends one call and prints its answer, by print or as it is.
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

// send sends one call; the caller closes the answer.
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
	resp, err := (&http.Client{Timeout: callPatience}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("sqgate does not answer: %w", err)
	}
	return resp, nil
}

// show prints an answer, by print or as it is, and closes it.
func (c *apiClient) show(resp *http.Response, print func(io.Writer, []byte) error) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refusal(resp.Status, text)
	}
	if c.json {
		_, err := c.out.Write(text)
		return err
	}
	return print(c.out, text)
}

// refusal is the API's own sentence.
func refusal(status string, text []byte) error {
	var e struct{ Error, Code string }
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		return fmt.Errorf("%s: %.200s", status, text)
	}
	return fmt.Errorf("%s (%s)", e.Error, e.Code)
}

// printFields prints an object a line a field, in the order of their names.
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
