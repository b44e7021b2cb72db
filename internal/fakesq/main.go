package fakesq

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// The releases that the stand-in can be.
const (
	Release053 = "0.5.3"
	Release056 = "0.5.6"
)

// Main is the program: `[--release R] host PORT [--key K] [--data-dir D]` or
// `version`. It returns an exit status, or serves until it is killed, as SQ does.
func Main(args []string, stdout, stderr io.Writer) int {
	release := Release056
	if len(args) >= 2 && args[0] == "--release" {
		release, args = args[1], args[2:]
	}
	if release != Release053 && release != Release056 {
		fmt.Fprintf(stderr, "there is no stand-in for SQ %s: use %s or %s\n", release, Release053, Release056)
		return 2
	}
	_ = os.Mkdir(".sq", 0o755) // SQ makes it wherever it is started, and does not look whether it could
	switch {
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(stdout, release)
		return 0
	case len(args) >= 2 && args[0] == "host":
		return host(args[1], configOf(release, args[2:], stdout, stderr))
	}
	fmt.Fprintln(stderr, "usage: host PORT [--key K] [--data-dir D]")
	return 2
}

func configOf(release string, args []string, stdout, stderr io.Writer) Config {
	c := Config{Release: release, Out: stdout, Log: stderr}
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "--key":
			c.Key, c.HasKey = args[i+1], true
			i++
		case "--data-dir":
			c.DataDir = args[i+1]
			_ = os.MkdirAll(c.DataDir, 0o755) // SQ does not look whether it could
			i++
		}
	}
	return c
}

func host(port string, c Config) int {
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		fmt.Fprintln(c.Log, "not a port:", port)
		return 2
	}
	// A Rust program lives on when nobody reads its output: it gets an error
	// from the write, which is what breaks SQ in its own way.
	signal.Ignore(syscall.SIGPIPE)
	if c.HasKey {
		fmt.Fprintln(c.Out, "Auth enabled (pmb-v1 key required)")
	}
	if c.DataDir != "" {
		fmt.Fprintln(c.Out, "Tenant data directory:", c.DataDir)
	}
	l, err := net.Listen("tcp4", "0.0.0.0:"+port)
	if err != nil {
		fmt.Fprintln(c.Log, err)
		return 101 // the status of a Rust program that panicked
	}
	fmt.Fprintf(c.Out, "SQ v%s listening on port %s (max %d concurrent connections)...\n", c.Release, port, mostConnections)
	New(c).Serve(l)
	return 0
}
