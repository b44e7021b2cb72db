package main

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// build is an SQ binary that is asked without anything in front of it.
type build struct {
	side, program string
	turn          time.Duration // the shortest that it has where it loads a phext for most answers
}

const direct, asLocked = "SQ, direct", "SQ as locked, direct"

// builds are SQ as it was installed and, if there is one, SQ with the libraries
// that its authors' lock file names. They differ where large phexts are parsed:
// the library of the lock file takes quadratic time for it.
func (b *bench) builds() []build {
	all := []build{{direct, b.sq, 8 * time.Second}}
	if b.lockedSQ == "" {
		b.noteOnce("SQ as its authors lock it was left out: install it with `cargo install sq --version 0.5.6 --locked --root DIR`, and name it with `-sq-locked DIR/bin/sq`")
		return all
	}
	return append(all, build{asLocked, b.lockedSQ, 20 * time.Second})
}

// startBuild runs a build of SQ on a data directory.
func (b *bench) startBuild(ctx context.Context, sq build, dir string) (side, error) {
	addr, port, err := freeAddr()
	if err != nil {
		return side{}, err
	}
	p, err := b.start(ctx, addr, sq.program, "host", port, "--key", key(0), "--data-dir", dir)
	return side{name: sq.side, addr: addr, key: key(0), process: p}, err
}

// buildOn runs a build of SQ on a data directory of its own with the given phexts.
func (b *bench) buildOn(ctx context.Context, sq build, phexts map[string]string) (side, error) {
	start := func(ctx context.Context, dir string) (side, error) { return b.startBuild(ctx, sq, dir) }
	return b.sqOn(ctx, start, phexts)
}

// sqVersions says what each build is.
func (b *bench) sqVersions() []string {
	all := []string{"SQ: " + b.sqVersion(b.sq)}
	if b.lockedSQ != "" {
		all = append(all, "SQ as locked, by the Cargo.lock of its authors: "+b.sqVersion(b.lockedSQ))
	}
	return all
}

// sqVersion asks SQ in the temporary directory, since it makes a .sq folder wherever it is.
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
// How long SQ takes to open a phext depends on its version above all.
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
