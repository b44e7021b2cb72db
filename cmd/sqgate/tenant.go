package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/duration"
)

const tenantsPath = "/api/v2/admin/tenants"

// newTenant is the commands that call the management API.
func newTenant() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "tenant", Short: "Add, show, change and remove tenants of a running sqgate"}
	c.register(cmd.PersistentFlags())
	for _, sub := range []*cobra.Command{
		tenantList(c), tenantShow(c), tenantAdd(c), tenantSet(c), tenantRotate(c), tenantEnable(c, true), tenantEnable(c, false), tenantDelete(c), tenantRestore(c), tenantPurge(c),
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
	cmd.Flags().StringVar(&status, "status", "", "active, disabled or archived, with their archives; without it, archived tenants are left out")
	cmd.Flags().StringVar(&idle, "idle-since", "", "only those not active since: a time, a date, or a duration such as 30d")
	return cmd
}

func tenantShow(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one tenant", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodGet, tenantPath(args[0]), nil, printTenant)
	}}
}

func tenantPath(id string) string { return tenantsPath + "/" + url.PathEscape(id) }

// tenantFields is the flags for what both add and set can set of a tenant.
type tenantFields struct {
	quota, phexts, perMinute, reads, writes, lists, perDay int64
	email                                                  string
}

func (t *tenantFields) register(f *pflag.FlagSet) {
	f.Int64Var(&t.quota, "quota-mb", 0, "quota in megabytes (0 = no limit)")
	f.Int64Var(&t.phexts, "max-phexts", 0, "most phexts (10000 if never set)")
	f.Int64Var(&t.perMinute, "requests-per-minute", 0, "most calls a minute (0 = no limit)")
	f.Int64Var(&t.reads, "reads-per-minute", 0, "most reads a minute, without lists and searches (0 = no limit of their own)")
	f.Int64Var(&t.writes, "writes-per-minute", 0, "most writes a minute (0 = no limit of their own)")
	f.Int64Var(&t.lists, "lists-per-minute", 0, "most lists and searches a minute (0 = no limit of their own)")
	f.Int64Var(&t.perDay, "calls-per-day", 0, "most calls a UTC day (0 = no limit)")
	f.StringVar(&t.email, "admin-email", "", "whom to write to")
}

// addGiven adds the values of those flags that were given, on the command line or in
// the environment, to a request, under the names that the API has for them.
func (t *tenantFields) addGiven(f *pflag.FlagSet, in map[string]any) {
	for flag, value := range map[string]any{
		"quota-mb": t.quota, "max-phexts": t.phexts, "requests-per-minute": t.perMinute, "reads-per-minute": t.reads,
		"writes-per-minute": t.writes, "lists-per-minute": t.lists, "calls-per-day": t.perDay, "admin-email": t.email,
	} {
		if f.Changed(flag) {
			in[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
}

func tenantAdd(c *apiClient) *cobra.Command {
	var fields tenantFields
	var pathKey bool
	cmd := &cobra.Command{Use: "add ID", Short: "Add a tenant and print its key, once", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		in := map[string]any{"tenant_id": args[0]}
		fields.addGiven(cmd.Flags(), in)
		if pathKey {
			in["path_key"] = newPathKey
		}
		return c.call(http.MethodPost, tenantsPath+"/add", in, printFields)
	}}
	fields.register(cmd.Flags())
	cmd.Flags().BoolVar(&pathKey, "path-key", false, "make a path key too, for clients that can set nothing but a URL: /k/KEY/api/v2")
	return cmd
}

func tenantSet(c *apiClient) *cobra.Command {
	var fields tenantFields
	var enabled bool
	var pathKey pathKeyFlag
	cmd := &cobra.Command{Use: "set ID", Short: "Change a tenant", Example: "  sqgate tenant set acme --quota-mb 500\n  sqgate tenant set acme --path-key new   # prints KEY once; the client's endpoint is https://HOST/k/KEY/api/v2\n  sqgate tenant set acme --path-key off   # revokes it; the API key goes on working", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		in := map[string]any{}
		fields.addGiven(cmd.Flags(), in)
		if cmd.Flags().Changed("enabled") {
			in["enabled"] = enabled
		}
		if pathKey != "" {
			in["path_key"] = pathKey
		}
		if len(in) == 0 {
			return usageError{fmt.Errorf("nothing to change: give a flag, see `sqgate tenant set --help`")}
		}
		return c.call(http.MethodPatch, tenantPath(args[0]), in, printTenant)
	}}
	f := cmd.Flags()
	fields.register(f)
	f.BoolVar(&enabled, "enabled", true, "whether the tenant may call")
	f.Var(&pathKey, "path-key", "new: make a path key and print it, once, in place of the one there may be; off: revoke it")
	_ = cmd.RegisterFlagCompletionFunc("path-key", cobra.FixedCompletions([]string{newPathKey, noPathKey}, cobra.ShellCompDirectiveNoFileComp)) // the flag was registered on the line above
	return cmd
}

func tenantRotate(c *apiClient) *cobra.Command {
	var overlap duration.Flag
	cmd := &cobra.Command{Use: "rotate-key ID", Short: "Give a tenant a new key and print it, once", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodPost, tenantPath(args[0])+"/rotate-key", map[string]any{"overlap": overlap.String()}, printFields)
	}}
	cmd.Long = "Gives a tenant a new key and prints it, once. With --overlap the old one goes on working for a while.\n" +
		"Only one old key is kept: if that of an earlier rotation still works, it ends now."
	cmd.Flags().Var(&overlap, "overlap", "how long the old key goes on working, at most 90d")
	return cmd
}

// tenantEnable is the commands enable and disable.
func tenantEnable(c *apiClient, enable bool) *cobra.Command {
	use, short, wanted := "disable ID", "Refuse a tenant's calls; its data stays", "disabled"
	if enable {
		use, short, wanted = "enable ID", "Take a tenant's calls again", "active"
	}
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		var is tenantSummary
		if err := c.ask(http.MethodGet, tenantPath(args[0]), nil, &is); err != nil {
			return err
		}
		if is.Status == wanted && !c.json {
			_, err := fmt.Fprintf(c.out, "tenant %q is %s already: nothing was changed\n", args[0], is.Status)
			return err
		}
		if is.Status == "archived" && !enable {
			return fmt.Errorf("tenant %q is archived: it cannot call, and there is nothing to disable", args[0])
		}
		return c.call(http.MethodPatch, tenantPath(args[0]), map[string]any{"enabled": enable}, printTenant)
	}}
}

// tenantSummary is what commands need to know of a tenant.
type tenantSummary struct {
	Status string
	Phexts int
	UsedMB float64 `json:"storage_used_mb"`
}

func tenantDelete(c *apiClient) *cobra.Command {
	var confirm confirmation
	cmd := &cobra.Command{Use: "delete ID", Short: "Disable a tenant, archive its data and empty its directory", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		ask, err := confirm.needed(fmt.Sprintf("this deletes tenant %q", args[0]))
		if err != nil {
			return err
		}
		if ask {
			var is tenantSummary
			if err := c.ask(http.MethodGet, tenantPath(args[0]), nil, &is); err != nil {
				return err
			}
			question := fmt.Sprintf("Tenant %q is %s and has %d phexts, %.3f MB. Its data go into an archive, and its key stops working.", args[0], is.Status, is.Phexts, is.UsedMB)
			if err := confirm.ask(question, "yes"); err != nil {
				return err
			}
		}
		return c.call(http.MethodDelete, tenantPath(args[0]), nil, printFields)
	}}
	confirm.register(cmd.Flags())
	return cmd
}

func tenantRestore(c *apiClient) *cobra.Command {
	var archive string
	cmd := &cobra.Command{Use: "restore ID --archive FILE", Short: "Bring a deleted tenant and its data back", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		if archive == "" {
			return usageError{fmt.Errorf("--archive is missing: `sqgate tenant show %s` names the newest archive, and `sqgate tenant list --status archived` that of each deleted tenant; they are in %s, unless serve has another --archive-dir", args[0], c.o.archiveDir)}
		}
		return c.call(http.MethodPost, tenantPath(args[0])+"/restore", map[string]any{"archive": archive}, printFields)
	}}
	cmd.Flags().StringVar(&archive, "archive", "", "the archive that deleting the tenant named")
	return cmd
}

func tenantPurge(c *apiClient) *cobra.Command {
	var confirm confirmation
	var id string
	cmd := &cobra.Command{Use: "purge ID", Short: "Erase what is left of a deleted tenant, for good", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("confirm") {
			ask, err := confirm.needed(fmt.Sprintf("this erases what is left of tenant %q, for good", args[0]))
			if err != nil {
				return err
			}
			question := fmt.Sprintf("The archives, the history and the entry of tenant %q are erased, and nothing brings them back.", args[0])
			if ask {
				if err := confirm.ask(question, args[0]); err != nil {
					return err
				}
			}
			id = args[0]
		}
		return c.call(http.MethodPost, tenantPath(args[0])+"/purge", map[string]any{"confirm": id}, printFields)
	}}
	confirm.register(cmd.Flags())
	cmd.Flags().StringVar(&id, "confirm", "", "the tenant's id once more, instead of --yes")
	return cmd
}
