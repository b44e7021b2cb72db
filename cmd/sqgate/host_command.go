package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/admin"
)

const hostsPath = "/api/v2/admin/hosts"

// newHostCommand is the commands about the hosts that share a bucket.
func newHostCommand() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "host", Short: "Show the hosts that share a bucket, and move tenants between them"}
	c.register(cmd.PersistentFlags())
	cmd.AddCommand(
		c.prepare(&cobra.Command{Use: "list", Short: "List the hosts", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return c.call(http.MethodGet, hostsPath, nil, printHosts)
		}}),
		c.prepare(hostDrain(c, true)), c.prepare(hostDrain(c, false)), c.prepare(hostMove(c)),
	)
	return cmd
}

func printHosts(out io.Writer, text []byte) error {
	var list admin.HostList
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	if list.Host == "" {
		_, err := fmt.Fprintln(out, "sqgate was started without --host-listen: it has no other hosts")
		return err
	}
	t := &table{}
	t.add("HOST", "STATE", "DIRECTORIES", "VERSION", "SEEN S", "URL")
	for _, h := range list.Hosts {
		state := "alive"
		switch {
		case h.Stopped:
			state = "stopped"
		case !h.Alive:
			state = "DEAD"
		case h.Draining:
			state = "draining"
		}
		t.add(h.Name, state, fmt.Sprint(h.Directories), h.Version, fmt.Sprintf("%.0f", h.SeenSeconds), h.URL)
	}
	return t.write(out)
}

// hostDrain is the commands drain and undrain.
func hostDrain(c *apiClient, begin bool) *cobra.Command {
	use, short, done := "undrain HOST", "Have a host take tenants again", "host %q takes tenants again\n"
	if begin {
		use, short, done = "drain HOST", "Have the others serve a host's tenants, before it is stopped", "host %q has handed over its tenants: stop it, or let it have some again with `sqgate host undrain`\n"
	}
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.call(http.MethodPost, hostsPath+"/"+url.PathEscape(args[0])+"/"+cmd.Name(), nil, func(out io.Writer, _ []byte) error {
			_, err := fmt.Fprintf(out, done, args[0])
			return err
		})
	}}
}

func hostMove(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "move TENANT HOST", Short: "Have a certain host serve a tenant", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPost, tenantPath(args[0])+"/move", map[string]any{"host": args[1]}, func(out io.Writer, _ []byte) error {
			_, err := fmt.Fprintf(out, "tenant %q is served by host %q from now on\n", args[0], args[1])
			return err
		})
	}}
}
