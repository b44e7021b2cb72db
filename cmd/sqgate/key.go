package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newKey is the commands for further keys of a tenant.
func newKey() *cobra.Command {
	c := newAPIClient()
	cmd := &cobra.Command{Use: "key", Short: "Add, list and revoke further keys of a tenant, with rights of their own"}
	cmd.Long = "A tenant's own key may do everything with its phexts. Further keys may do less: only read,\n" +
		"only append, only some phexts, only the scrolls below a prefix, or only until some time."
	c.register(cmd.PersistentFlags())
	for _, sub := range []*cobra.Command{keyAdd(c), keyList(c), keyRevoke(c)} {
		cmd.AddCommand(c.prepare(sub))
	}
	return cmd
}

func keysPath(tenant string) string { return tenantPath(tenant) + "/keys" }

func keyAdd(c *apiClient) *cobra.Command {
	var access, prefix, expires, note string
	var phexts []string
	cmd := &cobra.Command{
		Use: "add TENANT ID", Short: "Make a key and print it, once", Args: cobra.ExactArgs(2),
		Example: "  sqgate key add will reader\n" +
			"  sqgate key add will logger --access append --phexts 'log-*' --expires 30d\n" +
			"  sqgate key add will guest --access read-write --phexts notes --prefix 2.3.5",
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{"id": args[1], "access": access}
			for name, value := range map[string]any{"phexts": phexts, "prefix": prefix, "expires": expires, "note": note} {
				if cmd.Flags().Changed(name) {
					in[name] = value
				}
			}
			return c.call(http.MethodPost, keysPath(args[0]), in, printFields)
		},
	}
	f := cmd.Flags()
	f.StringVar(&access, "access", "read", "read; append: read, insert, and write where nothing is; or read-write")
	f.StringArrayVar(&phexts, "phexts", nil, "only the phexts with these names, which may have '*'; give the flag again for more")
	f.StringVar(&prefix, "prefix", "", "only the scrolls whose coordinates begin so, as GET /list/PREFIX lists them")
	f.StringVar(&expires, "expires", "", "when it ends: a time, a date, or a duration from now such as 30d (without it, never)")
	f.StringVar(&note, "note", "", "what it is for")
	_ = cmd.RegisterFlagCompletionFunc("access", cobra.FixedCompletions([]string{"read", "append", "read-write"}, cobra.ShellCompDirectiveNoFileComp)) // the flag was registered above
	return cmd
}

func keyList(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "list TENANT", Short: "List a tenant's further keys, and what they may do", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodGet, keysPath(args[0]), nil, printKeys)
	}}
}

func keyRevoke(c *apiClient) *cobra.Command {
	return &cobra.Command{Use: "revoke TENANT ID", Short: "End a key at once", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		return c.call(http.MethodDelete, keysPath(args[0])+"/"+url.PathEscape(args[1]), nil, printFields)
	}}
}

func printKeys(out io.Writer, text []byte) error {
	var list struct {
		Keys []struct {
			ID, Access, Prefix, Note string
			Phexts                   []string
			Expires                  *time.Time
			Expired                  bool
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	t := &table{prose: true}
	t.add("KEY", "ACCESS", "EXPIRES", "PREFIX", "PHEXTS AND NOTE")
	for _, k := range list.Keys {
		expires, what := "-", "all"
		if k.Expires != nil {
			expires = moment(*k.Expires)
		}
		if k.Expired {
			expires = "expired"
		}
		if len(k.Phexts) > 0 {
			what = strings.Join(k.Phexts, ", ")
		}
		if k.Note != "" {
			what += ": " + k.Note
		}
		t.add(k.ID, k.Access, expires, orDash(k.Prefix), what)
	}
	return t.write(out)
}
