package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// binary is an sqgate binary.
type binary struct{ name, path string }

// underTest is the name of the sqgate that the others are compared with.
const underTest = "sqgate"

// addBeside takes a value of the flag -beside.
func (b *bench) addBeside(value string) error {
	name, path, ok := strings.Cut(value, "=")
	if !ok || name == "" || path == "" {
		return errors.New("it must be NAME=PATH")
	}
	if name == underTest {
		return fmt.Errorf("%q is the name of the binary that is measured", name)
	}
	b.binaries = append(b.binaries, binary{name, path})
	return nil
}

// findBinaries builds sqgate, unless it was named, and finds those beside it.
func (b *bench) findBinaries(ctx context.Context) error {
	for i, x := range b.binaries {
		path, err := absolute(x.path)
		if err != nil {
			return fmt.Errorf("-beside %s: %w", x.name, err)
		}
		b.binaries[i].path = path
	}
	path, err := b.sqgate, error(nil)
	if path == "" {
		path, err = b.buildSqgate(ctx, "")
	} else if path, err = absolute(path); err != nil {
		err = fmt.Errorf("-sqgate: %w", err)
	}
	b.binaries = append([]binary{{underTest, path}}, b.binaries...)
	return err
}

// source is the directory of sqgate's module.
const source = ".."

// buildSqgate builds the sqgate of the source tree with a build tag, or with
// none, and returns its path.
func (b *bench) buildSqgate(ctx context.Context, tag string) (string, error) {
	if _, err := os.Stat(filepath.Join(source, "cmd", "sqgate")); err != nil {
		return "", fmt.Errorf("no source of sqgate is here; run the bench with `go run -C bench .`, or name a binary with -sqgate: %w", err)
	}
	path := filepath.Join(b.root, "sqgate-built-"+tag)
	build := exec.CommandContext(ctx, "go", "build", "-C", source, "-tags", tag, "-o", path, "./cmd/sqgate")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building sqgate: %w\n%s", err, text)
	}
	return path, nil
}

// sourceFiles lists the files of a module that its sqgate is built from with a
// build tag.
func sourceFiles(ctx context.Context, module, tag string) (string, error) {
	const own = "{{with .Module}}{{if .Main}}{{$.ImportPath}} {{$.GoFiles}}\n{{end}}{{end}}"
	text, err := exec.CommandContext(ctx, "go", "list", "-C", module, "-tags", tag, "-deps", "-f", own, "./cmd/sqgate").Output()
	if err != nil {
		return "", fmt.Errorf("listing the files of sqgate: %w", err)
	}
	return string(text), nil
}

// sqBuild is an SQ binary that is asked without anything in front of it.
type sqBuild struct {
	side, program string
	turn          time.Duration // the shortest turn in a cell where it loads a phext for most answers
}

const direct, asLocked = "SQ, direct", "SQ as locked, direct"

// sqBuilds are SQ as it was installed and, if there is one, SQ with the libraries
// that its authors' lock file names. They differ where large phexts are parsed:
// the library of the lock file takes quadratic time for it.
func (b *bench) sqBuilds() []sqBuild {
	all := []sqBuild{{direct, b.sq, 8 * time.Second}}
	if b.lockedSQ == "" {
		b.noteOnce("SQ as its authors lock it was left out: install it with `cargo install sq --locked --root DIR`, and name it with `-sq-locked DIR/bin/sq`")
		return all
	}
	return append(all, sqBuild{asLocked, b.lockedSQ, 20 * time.Second})
}

// findSQ makes the paths of SQ absolute, since it runs in directories of its own.
func (b *bench) findSQ() (err error) {
	if b.sq, err = absolute(b.sq); err != nil {
		return fmt.Errorf("-sq: %w", err)
	}
	if b.lockedSQ == "" {
		return nil
	}
	if b.lockedSQ, err = absolute(b.lockedSQ); err != nil {
		return fmt.Errorf("-sq-locked: %w", err)
	}
	return nil
}

func absolute(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// sqVersions says what each build of SQ is.
func (b *bench) sqVersions() []string {
	all := []string{"SQ: " + b.sqVersion(b.sq)}
	if b.lockedSQ != "" {
		all = append(all, "SQ as locked, by the Cargo.lock of its authors: "+b.sqVersion(b.lockedSQ))
	}
	return all
}

// sqVersion asks SQ in the temporary directory: SQ makes a .sq folder wherever it runs.
func (b *bench) sqVersion(program string) string {
	cmd := exec.Command(program, "version")
	cmd.Dir = b.root
	text, err := cmd.Output()
	if err != nil {
		return "unknown version" + library(program)
	}
	return strings.TrimSpace(string(text)) + library(program)
}

// libraryName is how paths in an SQ binary name the library that parses phexts.
// Its version decides how long SQ takes to open one.
var libraryName = regexp.MustCompile(`libphext-[0-9]+\.[0-9]+\.[0-9]+`)

func library(program string) string {
	text, err := os.ReadFile(program)
	if err != nil {
		return ""
	}
	if name := libraryName.Find(text); name != nil {
		return " with " + string(name)
	}
	return ""
}
