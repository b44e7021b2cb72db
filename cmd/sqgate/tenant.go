package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const tenantsPath = "/api/v2/admin/tenants"

// newTenant is the commands that call the management API.
func newTenant() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "tenant", Short: "Add, show, change and remove tenants of a running sqgate"}
	c.register(cmd.PersistentFlags())
	for _, sub := range []*cobra.Command{
		tenantList(c), tenantShow(c), tenantAdd(c), tenantSet(c), tenantRotate(c), tenantDisable(c), tenantDelete(c), tenantRestore(c), tenantPurge(c),
	} {
		cmd.AddCommand(c.prepare(sub))
	}
	return cmd
}

func tenantList(c *apiClient) *cobra.Command {
	var status, idle string
	cmd := &cobra.Command{Use: "list", Short: "List tenants", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		q := url.Values{}
		for name, value := range map[string]string{"status": status, "idle_since": idle} {
			if value != "" {
				q.Set(name, value)
			}
		}
		return c.call(http.MethodGet, tenantsPath+"?"+q.Encode(), nil, printList)
	}}
	cmd.Flags().StringVar(&status, "status", "", "active, disabled or archived; without it, archived tenants are left out")
	cmd.Flags().StringVar(&idle, "idle-since", "", "only those not active since: a time, a date, or a duration such as 720h")
	return cmd
}

func tenantShow(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one tenant", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodGet, tenantPath(args[0]), nil, printFields)
	}}
}

func tenantPath(id string) string { return tenantsPath + "/" + url.PathEscape(id) }

func tenantAdd(c *apiClient) *cobra.Command {
	var quota int64
	var email string
	var pathKey bool
	cmd := &cobra.Command{Use: "add ID", Short: "Add a tenant and print its key, once", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		in := map[string]any{"tenant_id": args[0]}
		addGiven(cmd.Flags(), in, map[string]any{"quota-mb": quota, "admin-email": email})
		if pathKey {
			in["path_key"] = newPathKey
		}
		return c.call(http.MethodPost, tenantsPath+"/add", in, printFields)
	}}
	cmd.Flags().Int64Var(&quota, "quota-mb", 0, "quota in megabytes (0 = no limit)")
	cmd.Flags().StringVar(&email, "admin-email", "", "whom to write to")
	cmd.Flags().BoolVar(&pathKey, "path-key", false, "make a path key too, for clients that can set nothing but a URL: /k/KEY/api/v2")
	return cmd
}

// addGiven adds the values of those flags that were given on the command line to a
// request, under the names that the API has for them.
func addGiven(f *pflag.FlagSet, in map[string]any, values map[string]any) {
	for flag, value := range values {
		if f.Changed(flag) {
			in[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
}

func tenantSet(c *apiClient) *cobra.Command {
	var quota, perMinute, reads, writes, lists, perDay, phexts int64
	var email string
	var enabled bool
	var pathKey pathKeyFlag
	cmd := &cobra.Command{Use: "set ID", Short: "Change a tenant", Example: "  sqgate tenant set acme --quota-mb 500\n  sqgate tenant set acme --path-key new   # prints KEY once; the client's endpoint is https://HOST/k/KEY/api/v2\n  sqgate tenant set acme --path-key off   # revokes it; the API key goes on working", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		in := map[string]any{}
		addGiven(cmd.Flags(), in, map[string]any{"quota-mb": quota, "admin-email": email, "enabled": enabled,
			"requests-per-minute": perMinute, "reads-per-minute": reads, "writes-per-minute": writes, "lists-per-minute": lists, "calls-per-day": perDay, "max-phexts": phexts, "path-key": &pathKey})
		if len(in) == 0 {
			return usageError{fmt.Errorf("nothing to change: give a flag, see `sqgate tenant set --help`")}
		}
		return c.call(http.MethodPatch, tenantPath(args[0]), in, printFields)
	}}
	f := cmd.Flags()
	f.Int64Var(&quota, "quota-mb", 0, "quota in megabytes (0 = no limit)")
	f.StringVar(&email, "admin-email", "", "whom to write to")
	f.BoolVar(&enabled, "enabled", true, "whether the tenant may call")
	f.Int64Var(&perMinute, "requests-per-minute", 0, "most calls a minute (0 = no limit)")
	f.Int64Var(&reads, "reads-per-minute", 0, "most of them that are reads, without lists and searches (0 = no limit of their own)")
	f.Int64Var(&writes, "writes-per-minute", 0, "most of them that are writes (0 = no limit of their own)")
	f.Int64Var(&lists, "lists-per-minute", 0, "most of them that are lists and searches (0 = no limit of their own)")
	f.Int64Var(&perDay, "calls-per-day", 0, "most calls a UTC day (0 = no limit)")
	f.Int64Var(&phexts, "max-phexts", 0, "most phexts")
	f.Var(&pathKey, "path-key", "new: make a path key and print it, once, in place of the one there may be; off: revoke it")
	_ = cmd.RegisterFlagCompletionFunc("path-key", cobra.FixedCompletions([]string{newPathKey, noPathKey}, cobra.ShellCompDirectiveNoFileComp)) // the flag was registered on the line above
	return cmd
}

func tenantRotate(c *apiClient) *cobra.Command {
	var overlap string
	cmd := &cobra.Command{Use: "rotate-key ID", Short: "Give a tenant a new key and print it, once", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPost, tenantPath(args[0])+"/rotate-key", map[string]any{"overlap": overlap}, printFields)
	}}
	cmd.Flags().StringVar(&overlap, "overlap", "0s", "how long the old key goes on working")
	return cmd
}

func tenantDisable(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "disable ID", Short: "Refuse a tenant's calls; its data stays", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPatch, tenantPath(args[0]), map[string]any{"enabled": false}, printFields)
	}}
}

func tenantDelete(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "delete ID", Short: "Disable a tenant, archive its data and empty its directory", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodDelete, tenantPath(args[0]), nil, printFields)
	}}
}

func tenantRestore(c *apiClient) *cobra.Command {
	var archive string
	cmd := &cobra.Command{Use: "restore ID --archive FILE", Short: "Bring a deleted tenant and its data back", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPost, tenantPath(args[0])+"/restore", map[string]any{"archive": archive}, printFields)
	}}
	cmd.Flags().StringVar(&archive, "archive", "", "the archive that deleting the tenant named")
	_ = cmd.MarkFlagRequired("archive") // the flag was registered on the line above
	return cmd
}

func tenantPurge(c *apiClient) *cobra.Command {
	var confirm string
	cmd := &cobra.Command{Use: "purge ID --confirm ID", Short: "Erase what is left of a deleted tenant, for good", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPost, tenantPath(args[0])+"/purge", map[string]any{"confirm": confirm}, printFields)
	}}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the tenant's id once more: its archives, its history and its entry are erased")
	_ = cmd.MarkFlagRequired("confirm") // the flag was registered on the line above
	return cmd
}

// clientKey is the management key that was given, or else the one that serve
// generated on this host.
func clientKey(o *options) (string, error) {
	key, err := o.givenAdminKey()
	if key != "" || err != nil {
		return key, err
	}
	key, err = readAdminKey(o.stateDir + "/" + adminKeyFile)
	if err != nil {
		return "", usageError{fmt.Errorf("no management key: give --admin-key, --admin-key-file or SQ_ADMIN_KEY (%w)", err)}
	}
	return key, nil
}
