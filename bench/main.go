// Command bench measures sqgate on the machine at hand, beside SQ itself and
// beside what else could stand in front of SQ: nginx, HAProxy and Caddy where
// they are installed, SQ's own --config mode and `sq route`. The same client
// does the same work on every side, in turns, within one run.
//
// Run it as `go run -C bench . -sq PATH` from the root of the repository: it
// builds sqgate from the directory above its own. It is a module of its own and
// imports nothing of sqgate, so that it measures any sqgate alike.
//
// It listens on loopback only, works in a temporary directory, ends what it
// started, and installs nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// longestRun bounds a run, whatever hangs in it.
const longestRun = 30 * time.Minute

func main() {
	b := &bench{}
	only := flag.String("only", "", "measure only the cells whose name matches this regular expression")
	flag.StringVar(&b.sq, "sq", "sq", "SQ binary, which sqgate runs too")
	flag.StringVar(&b.lockedSQ, "sq-locked", "", "a further SQ binary, built with --locked, to measure beside it")
	flag.DurationVar(&b.time, "time", 3*time.Second, "time for each side of a cell")
	flag.StringVar(&b.out, "out", ".", "directory for RESULTS.md and results.svg")
	flag.Parse()
	if err := b.run(*only); err != nil {
		log.Fatal("bench: ", err)
	}
}

// bench is one run.
type bench struct {
	sq       string
	lockedSQ string // the same with the libraries that its authors' lock file names; may be empty
	gate     string // the sqgate binary under test
	help     string // of its serve command, which says what flags it has
	time     time.Duration
	out      string
	root     string // temporary directory that everything is in
	report
}

// cell is one thing to measure.
type cell struct {
	name  string
	about string
	run   func(*bench, context.Context) error
}

func (b *bench) run(only string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	if err := raiseFileLimit(); err != nil {
		return err
	}
	if b.root, err = os.MkdirTemp("", "sqgate-bench-"); err != nil {
		return err
	}
	defer b.cleanUp()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	b.measure(ctx, pattern)
	return b.write(b.out)
}

// measure runs the cells. One that fails is reported as failed, and the others
// are measured all the same.
func (b *bench) measure(ctx context.Context, only *regexp.Regexp) {
	for _, c := range cells {
		if ctx.Err() != nil {
			b.note("the run was cut off before %s", c.name)
			return
		}
		if !only.MatchString(c.name) {
			continue
		}
		log.Printf("%s: %s", c.name, c.about)
		if err := c.run(b, ctx); err != nil {
			log.Printf("%s failed: %v", c.name, err)
			b.note("%s failed: %v", c.name, err)
		}
	}
}

// prepare finds SQ, and builds the sqgate of this source tree.
func (b *bench) prepare(ctx context.Context) error {
	if err := b.findSQ(); err != nil {
		return err
	}
	b.gate = filepath.Join(b.root, "sqgate")
	build := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", b.gate, "./cmd/sqgate")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building sqgate: %w\n%s", err, text)
	}
	text, err := exec.CommandContext(ctx, b.gate, "serve", "--help").CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqgate serve --help: %w", err)
	}
	b.help = string(text)
	return nil
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

// has says whether this sqgate has a flag.
func (b *bench) has(flag string) bool { return strings.Contains(b.help, "--"+flag+" ") }

// cleanUp ends whatever still runs on the temporary directory, and removes it.
func (b *bench) cleanUp() {
	endAllIn(b.root)
	if err := os.RemoveAll(b.root); err != nil {
		log.Print(err)
	}
}

// wantedFiles is enough for 10,000 connections at both ends of this process.
const wantedFiles = 20000

func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Max < wantedFiles {
		higher := syscall.Rlimit{Cur: wantedFiles, Max: wantedFiles}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher); err == nil {
			return nil
		} else if !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
