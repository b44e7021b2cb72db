// Command bench measures sqgate on the machine at hand, beside SQ itself and
// beside what else could stand in front of SQ: nginx, HAProxy and Caddy where
// they are installed, SQ's own --config mode and `sq route`. With -beside it
// measures further sqgate binaries too, such as the one before a change. Within
// one run the same client does the same work on every side, in turns.
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
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// longestRun bounds a run, whatever hangs in it.
const longestRun = 20 * time.Minute

func main() {
	if len(os.Args) == 5 && os.Args[1] == clientCommand {
		if err := client(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			log.Fatal("bench: ", err)
		}
		return
	}
	b := &bench{}
	only := flag.String("only", "", "measure only the cells whose name matches this regular expression")
	flag.StringVar(&b.sq, "sq", "sq", "SQ binary, which sqgate runs too")
	flag.StringVar(&b.lockedSQ, "sq-locked", "", "a further SQ binary, built with --locked, to measure beside it")
	flag.StringVar(&b.sqgate, "sqgate", "", "sqgate binary to measure; without it, sqgate is built from the directory above this one")
	flag.Func("beside", "`NAME=PATH`: a further sqgate binary to measure and to compare with; may be given several times", b.addBeside)
	flag.Func("sides", "let only the sides whose name matches this regular expression take part", b.chooseSides)
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
	lockedSQ string         // the same with the libraries that its authors' lock file names; may be empty
	sqgate   string         // the binary to measure; empty = build it
	binaries []binary       // sqgate first, then those of -beside
	chosen   *regexp.Regexp // of -sides; nil = all sides
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
	if err := b.findSQ(); err != nil {
		return err
	}
	if err := b.findBinaries(ctx); err != nil {
		return err
	}
	b.measure(ctx, pattern)
	return b.write(b.out)
}

// measure runs the cells. A cell that fails is reported as failed, and the
// others are measured all the same.
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

// chooseSides takes the value of the flag -sides.
func (b *bench) chooseSides(pattern string) (err error) {
	b.chosen, err = regexp.Compile(pattern)
	return err
}

// wants says whether a side takes part.
func (b *bench) wants(side string) bool { return b.chosen == nil || b.chosen.MatchString(side) }

// cleanUp ends whatever still runs on the temporary directory, and removes it.
func (b *bench) cleanUp() {
	endAllIn(b.root)
	if err := os.RemoveAll(b.root); err != nil {
		log.Print(err)
	}
}

// wantedFiles is enough for 10,000 connections with both ends in view.
const wantedFiles = 20000

// raiseFileLimit raises the limit of open files as far as it may.
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
