package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newWebhook is the commands for webhooks of a tenant.
func newWebhook() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "webhook", Short: "Add, list and remove URLs that are told of a tenant's changes"}
	cmd.Long = "A webhook is sent each change of a tenant's phexts, in order, with a signature by which the\n" +
		"receiver knows that it comes from here. See webhooks.md."
	c.register(cmd.PersistentFlags())
	for _, sub := range []*cobra.Command{webhookAdd(c), webhookList(c), webhookRemove(c)} {
		cmd.AddCommand(c.prepare(sub))
	}
	return cmd
}

func webhooksPath(tenant string) string { return tenantPath(tenant) + "/webhooks" }

func webhookAdd(c *apiClient) *cobra.Command {
	var id, secretFile, note string
	var phexts []string
	cmd := &cobra.Command{
		Use: "add TENANT URL", Short: "Make a webhook, and print its secret, once", Args: cobra.ExactArgs(2),
		Example: "  sqgate webhook add will https://receiver.example/hook\n" +
			"  sqgate webhook add will https://receiver.example/logs --id logs --phexts 'log-*' --secret-file secret",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{"url": args[1]}
			for name, value := range map[string]any{"id": id, "phexts": phexts, "note": note} {
				if cmd.Flags().Changed(name) {
					in[name] = value
				}
			}
			if secretFile != "" {
				text, err := readSmall(pipePatience, secretFile)
				if err != nil {
					return usageError{fmt.Errorf("--secret-file: %w", err)}
				}
				in["secret"] = strings.TrimSpace(string(text))
			}
			return c.call(http.MethodPost, webhooksPath(args[0]), in, printFields)
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "what the webhook is called (without it, a name is made)")
	f.StringArrayVar(&phexts, "phexts", nil, "only changes of the phexts with these names, which may have '*'; give the flag again for more")
	f.StringVar(&secretFile, "secret-file", "", "file with the secret, whsec_ and base64 (without it, one is made)")
	f.StringVar(&note, "note", "", "what it is for")
	return cmd
}

func webhookList(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "list TENANT", Short: "List a tenant's webhooks, and how they do", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodGet, webhooksPath(args[0]), nil, printWebhooks)
	}}
}

func webhookRemove(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "remove TENANT ID", Short: "End a webhook at once", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodDelete, webhooksPath(args[0])+"/"+url.PathEscape(args[1]), nil, printFields)
	}}
}

func printWebhooks(out io.Writer, text []byte) error {
	var list struct {
		Webhooks []struct {
			ID, URL, State, Note, Error string
			Phexts                      []string
			LastDelivered               *time.Time `json:"last_delivered"`
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	t := &table{prose: true}
	t.add("WEBHOOK", "STATE", "LAST DELIVERED", "PHEXTS", "URL, ERROR AND NOTE")
	for _, h := range list.Webhooks {
		last, phexts, what := "-", "all", []string{h.URL}
		if h.LastDelivered != nil {
			last = moment(*h.LastDelivered)
		}
		if len(h.Phexts) > 0 {
			phexts = strings.Join(h.Phexts, ", ")
		}
		for _, more := range []string{h.Error, h.Note} {
			if more != "" {
				what = append(what, more)
			}
		}
		t.add(h.ID, h.State, last, phexts, strings.Join(what, ": "))
	}
	return t.write(out)
}
