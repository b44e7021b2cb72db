package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mirrorborn.us/sqgate/tenants"
)

// adoptedID is the id of the tenant that an adopted data directory belongs to.
const adoptedID = "default"

func newInit() *cobra.Command {
	o := defaultOptions()
	var key, id string
	var adopt adoption
	var convert conversion
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first tenants file; adopt a single-tenant data directory as tenant " + adoptedID,
		Long: "Writes a first tenants file with one tenant.\n\n" +
			"With --adopt DIR the tenant is `" + adoptedID + "`, and its data are the files of single-tenant SQ in DIR:\n" +
			"they stay where they are, byte for byte. With --key K its clients go on with the key they have.\n" +
			"To undo it, delete the tenants file and start SQ on DIR again.\n" +
			"Without DIR, directory and key are those of the unit that runs SQ, " + unitName + " or --unit FILE. If that unit would\n" +
			"hide the one of sqgate's package, it becomes " + legacyName + ". No process is stopped or started.\n\n" +
			"With --from FILE the tenants are those of another program's file, with the keys that they have:\n" +
			`  SQ 0.5.6 (sq host --config)  {"tenants": {KEY: {"name", "data_dir"}}}` + "\n" +
			`  SQ router (sq route)         {"tenants": [{"token", "port", "data_dir"}]}` + "\n" +
			"  Python gateway, TOML         [[tenants]] with token, name, port, phext\n" +
			"No data is touched; what is left to do is printed. FILE itself is replaced only if it is --config and\n" +
			"--replace is given, and then kept beside it.",
		Example: "  sqgate init --adopt\n  sqgate init --from /etc/sq/router-config.json\n  sqgate init --from /etc/sq/tenants.json --replace",
		Args:    adopt.parseArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			convert.config, convert.dataRoot = o.config, o.dataRoot
			switch {
			case convert.from != "":
				return runConversion(cmd, &convert)
			case convert.replace:
				return usageError{errors.New("--replace goes with --from")}
			case adopt.requested():
				return adopt.run(cmd.OutOrStdout(), o.config, key)
			}
			out := cmd.OutOrStdout()
			if err := writeFirstTenant(out, o.config, id, filepath.Join(o.dataRoot, id), key); err != nil {
				return err
			}
			h, dir := thisHost(out), filepath.Join(o.dataRoot, id)
			steps := append(h.provideSQ(o.config, ""), h.letEnter(defaultUser, dir)...)
			return printSteps(out, append(append(steps, h.letWrite(dir)...), h.start(o.config)...))
		},
	}
	f := cmd.Flags()
	o.registerConfig(f)
	f.StringVar(&o.dataRoot, "data-root", o.dataRoot, "directory in which the tenant gets its own")
	f.StringVar(&id, "id", "first", "id of the tenant")
	adopt.register(f)
	f.StringVar(&key, "key", "", "the tenant's API key (default: a new one)")
	f.StringVar(&convert.from, "from", "", "tenants file of SQ's multi-tenant mode, the SQ router or the Python gateway, to be converted")
	f.BoolVar(&convert.replace, "replace", false, "with --from: rename a tenants file that is there already, and write the new one in its place")
	return cmd
}

func runConversion(cmd *cobra.Command, c *conversion) error {
	if err := c.check(cmd.Flags()); err != nil {
		return err
	}
	if err := c.run(cmd.OutOrStdout()); err != nil {
		return err
	}
	return chownLikeDir(c.config)
}

// adoptDir makes dir the data directory of the tenant adoptedID. It changes
// nothing in dir.
func adoptDir(out io.Writer, config, dir, key string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("--adopt: %s is not a directory", dir)}
	}
	if _, err := os.Stat(config); err == nil {
		if !hasAdopted(config, dir, key) {
			return usageError{fmt.Errorf("%s exists already, and has no tenant %q with the directory %s and the key of the old SQ: move the file aside, and try again", config, adoptedID, dir)}
		}
		fmt.Fprintf(out, "%s has tenant %q with this directory and key already, and stays as it is\n", config, adoptedID)
	} else if err := writeFirstTenant(out, config, adoptedID, dir, key); err != nil {
		return err
	}
	phexts, err := phextsIn(dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "tenant %q has the phexts of %s, %d in all; none was touched\n", adoptedID, dir, len(phexts))
	return err
}

// hasAdopted tells whether a tenants file is one that adoptDir would write, or one that
// has grown from it: somebody went back to the old SQ, and returns. Without a key,
// any will do.
func hasAdopted(config, dir, key string) bool {
	known, err := tenants.Load(config)
	if err != nil {
		return false
	}
	adopted, ok := known.ByID(adoptedID)
	byKey, _ := known.ByKey(key, time.Now())
	return ok && adopted.Configured == dir && (key == "" || byKey == adopted)
}

// printSteps prints what is left to do.
func printSteps(out io.Writer, steps []string) error {
	fmt.Fprintln(out, "Next, in this order:")
	return printNumbered(out, steps)
}

func printNumbered(out io.Writer, steps []string) error {
	for i, step := range steps {
		if _, err := fmt.Fprintf(out, "  %d. %s\n", i+1, step); err != nil {
			return err
		}
	}
	return nil
}

// writeFirstTenant writes a tenants file with one tenant and reports it. It never
// replaces a file. With an empty key it makes one and prints it.
func writeFirstTenant(out io.Writer, config, id, dataDir, key string) error {
	generated := key == ""
	if generated {
		var err error
		if key, err = tenants.NewKey(); err != nil {
			return err
		}
	}
	if err := createTenantsFile(config, id, dataDir, key); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: tenant %q with its data in %s\n", config, id, dataDir)
	if generated {
		fmt.Fprintf(out, "API key (it stands in that file, mode 0600): %s\n", key)
	}
	return nil
}

// createTenantsFile writes a tenants file with one tenant, readable by the service.
func createTenantsFile(config, id, dataDir, key string) error {
	err := tenants.Create(config, tenants.Entry{ID: &id, APIKey: &key, DataDir: &dataDir})
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s exists already, and is left as it is: add tenants with `sqgate tenant add`", config)}
	}
	var field *tenants.FieldError
	if errors.As(err, &field) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	return chownLikeDir(config)
}

// phextsIn is the names of the phext files in a data directory.
func phextsIn(dir string) ([]string, error) {
	return (&tenants.Tenant{DataDir: dir}).OwnFiles()
}

// adoptAtFirstStart writes a tenants file on a host that ran single-tenant SQ
// until now: there is no tenants file, sqgate has never run here, and the parent of
// the data root holds phexts. The tenant gets a new key, which is only in the file.
//
// If sqgate has run here, the file was lost, and with it the tenants' keys. A new one
// would answer them all that their keys are wrong.
func adoptAtFirstStart(out io.Writer, o *options) error {
	if _, err := os.Stat(o.config); !errors.Is(err, fs.ErrNotExist) {
		return nil // whoever reads the file reports what is wrong with it
	}
	if _, err := os.Stat(o.auditFile()); err == nil {
		return nil
	}
	dir := filepath.Dir(o.dataRoot)
	phexts, err := phextsIn(dir)
	if err != nil || len(phexts) == 0 {
		return err
	}
	key, err := tenants.NewKey()
	if err != nil {
		return err
	}
	if err := createTenantsFile(o.config, adoptedID, dir, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "sqgate: %s holds %d phexts and there was no tenants file: they are tenant %q now, whose key stands in %s\n", dir, len(phexts), adoptedID, o.config)
	return err
}
