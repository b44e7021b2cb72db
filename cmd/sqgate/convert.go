package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/tenants"
)

// conversion is the flags of `init --from`.
type conversion struct {
	from     string // tenants file of another program
	config   string // tenants file to write
	dataRoot string
	replace  bool
}

// conflictingFlags set what --from takes from the file.
var conflictingFlags = []string{"adopt", "key", "id"}

func (c *conversion) check(f *pflag.FlagSet) error {
	for _, name := range conflictingFlags {
		if f.Changed(name) {
			return usageError{fmt.Errorf("--from and --%s do not go together: the tenants, their keys and their directories are those of the file", name)}
		}
	}
	if !filepath.IsAbs(c.dataRoot) {
		return usageError{fmt.Errorf("--data-root is %q: a path that begins with / is wanted", c.dataRoot)}
	}
	return nil
}

// run converts the tenants file of another program. It changes no data.
func (c *conversion) run(out io.Writer) error {
	text, err := readSmall(pipePatience, c.from)
	if err != nil {
		return usageError{fmt.Errorf("--from: %w", err)}
	}
	made, err := tenants.Convert(text, filepath.Clean(c.dataRoot))
	if err != nil {
		return usageError{fmt.Errorf("--from: %s cannot be converted: %w", c.from, err)}
	}
	if err := tenants.Check(made.Entries...); err != nil {
		return usageError{fmt.Errorf("--from: %s cannot be converted as it is: %w", c.from, err)}
	}
	if err := c.write(out, made.Entries); err != nil {
		return err
	}
	return c.report(out, made)
}

// write never overwrites a tenants file. With --replace it keeps the old one
// beside the new one, since the old one holds the keys of all clients.
func (c *conversion) write(out io.Writer, list []tenants.Entry) error {
	if c.replace {
		if err := renameAside(out, c.config); err != nil {
			return err
		}
	}
	err := tenants.Create(c.config, list...)
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s exists already, and is left as it is: name another file with --config, or give --replace to have it renamed to %s", c.config, asideOf(c.config))}
	}
	return err
}

// asideOf is the name under which a replaced tenants file is kept.
func asideOf(path string) string { return path + ".before-sqgate" }

// renameAside renames path to asideOf(path), and reports it.
func renameAside(out io.Writer, path string) error {
	err := fsutil.RenameNoReplace(path, asideOf(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return usageError{fmt.Errorf("%s exists already, and is left as it is: move it away first", asideOf(path))}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s is %s now\n", path, asideOf(path))
	return err
}

func (c *conversion) report(out io.Writer, made *tenants.Conversion) error {
	fmt.Fprintf(out, "%s: %d tenants of %s, with the keys that they have\n", c.config, len(made.Entries), made.From)
	for _, e := range made.Entries {
		phexts, err := phextsIn(*e.DataDir)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %s: %d phexts in %s\n", *e.ID, len(phexts), *e.DataDir)
	}
	for _, note := range made.Notes {
		fmt.Fprintln(out, "-", note)
	}
	h, dirs := thisHost(out), []string{}
	for _, e := range made.Entries {
		dirs = append(dirs, *e.DataDir)
	}
	steps := append(h.provideSQ(c.config, ""), made.Steps...)
	steps = append(append(steps, h.letEnter(defaultUser, dirs...)...), h.letWrite(dirs...)...)
	steps = append(steps, "sqgate check --config "+c.config)
	return printSteps(out, append(steps, h.start(c.config)...))
}
