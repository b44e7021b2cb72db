package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/http1"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/internal/pace"
	"mirrorborn.us/sqgate/proxy"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/supervisor"
)

func newServe() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the tenants of a tenants file (the default command)",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serveCommand(cmd, o) },
	}
	o.register(cmd.Flags())
	return cmd
}

func serveCommand(cmd *cobra.Command, o *options) error {
	if err := fromEnvironment(cmd.Flags()); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	if err := adoptAtFirstStart(cmd.ErrOrStderr(), o); err != nil {
		return startError{err}
	}
	return serve(o, func(net.Addr) {})
}

// serve runs the gateway until a signal ends it. It calls ready with the address
// once that is bound.
func serve(o *options, ready func(net.Addr)) error {
	// A log that nobody reads any more is no reason to end: without a handler, Go
	// ends the process at a write to a closed pipe.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := newLogQueue(os.Stderr, func(lines int) {
		newLogger(o, os.Stderr).Warn("lines of the log are lost, because standard error did not take them in time", "lines", lines)
	})
	defer stderr.close()
	limitMemory(o)
	s, err := assemble(o, stderr)
	if err != nil {
		return startError{err}
	}
	ready(s.listener.Addr())
	return s.run()
}

// limitMemory has the garbage collector run more often when memory goes beyond what
// sqgate usually needs, instead of each time that it has doubled. It is no limit to what
// is in use. GOMEMLIMIT in the environment wins.
func limitMemory(o *options) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(o.readMemory) + memoryBesideCache)
	}
}

// memoryBesideCache is what sqgate may need beside --read-memory before that, in bytes. It is
// less than may be in use, since memory grows further while garbage is collected.
const memoryBesideCache = cache.Largest * 3 / 4

// Limits of the listener. A header may hold a whole scroll, percent-encoded,
// since legacy SQ takes scrolls in the query.
const (
	maxHeader         = 64 << 10 // bytes, as SQ takes (LEGACY.md)
	readHeaderTimeout = 10 * time.Second
	keepAliveTimeout  = 2 * time.Minute
)

func newServer(g *proxy.Gateway, handler http.Handler, drainer *connDrainer, limiter *connLimiter, turns *fairqueue.Queue, log *slog.Logger) *http1.Server {
	return http1.New(http1.Config{
		Fallback: &http.Server{
			Handler:           drainer.wrap(pace.Bodies(handler)),
			MaxHeaderBytes:    maxHeader,
			ReadHeaderTimeout: readHeaderTimeout,
			IdleTimeout:       keepAliveTimeout,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		Plain:   proxy.Plain,
		Endless: proxy.Endless,
		Opened: func(remote net.Addr) func() {
			release := limiter.take(remote)
			if release == nil {
				return nil
			}
			drainer.count(1)
			return func() {
				release()
				drainer.count(-1)
			}
		},
		HeaderMemory: limiter.headerMemory,
		Refused:      g.Refused,
		Turns:        turns,
		Logger:       log,
	})
}

// run serves until a signal arrives, then stops in order: requests, connections,
// children.
func (s *service) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return s.store.Run(ctx) })
	group.Go(func() error { return s.ledger.Run(ctx) })
	group.Go(func() error { return s.calls.Run(ctx) })
	group.Go(func() error { s.unused.run(ctx); return nil })
	group.Go(func() error { return s.recoverDirs(ctx) })
	group.Go(func() error { s.dirs.Run(ctx); return nil })
	group.Go(func() error { s.gateway.KeepStreams(ctx); return nil })
	group.Go(func() error { s.webhooks.Run(ctx); return nil })
	s.acquireLease(ctx)
	group.Go(func() error { return s.keepLease(ctx) })
	group.Go(func() error { s.keepTenants(ctx); return nil })
	group.Go(s.serveHosts)
	group.Go(func() error { s.runHosts(ctx); return nil })
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	if s.health != nil {
		group.Go(func() error { _ = s.healthServer.Serve(s.health); return nil }) // it ends when it is closed
	}
	n := s.newNotifier()
	n.ready()
	group.Go(func() error { n.keepStatus(ctx); return nil })
	group.Go(func() error { n.keepWatchdog(ctx); return nil })
	err := s.untilStopped(signals, served, n)
	stop()
	_ = s.healthServer.Close() // it serves nobody else
	if e := group.Wait(); e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, s.api.Close(), s.turns.Close(), s.journal.Close())
}

// untilStopped reloads at each HUP, and shuts down at any other signal or when
// the listener fails.
func (s *service) untilStopped(signals <-chan os.Signal, served <-chan error, n *notifier) error {
	for {
		select {
		case err := <-served:
			s.shutdownHosts(context.Background())
			return errors.Join(fmt.Errorf("the listener failed: %w", err), s.stopChildren(context.Background()))
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				n.reloading(func() { _ = s.store.Reload() }) // the store logs the error and keeps it for the status line
				continue
			}
			n.stopping()
			return s.shutdown(signals, served)
		}
	}
}

// shutdown drains connections and requests, then stops the children. A second
// signal cuts the draining short.
func (s *service) shutdown(signals <-chan os.Signal, served <-chan error) error {
	s.log.Info("stopping", "patience", s.o.shutdownTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), s.o.shutdownTimeout)
	defer cancel()
	go func() {
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	s.gateway.SetDraining(true)
	s.api.EndStreams()
	s.gateway.EndStreams()
	s.webhooks.End()
	s.handOver(ctx)
	if err := s.drainer.shutdown(ctx, s.server, s.listener); err != nil {
		s.log.Warn("requests were cut off", "error", err)
	}
	<-served
	s.shutdownHosts(ctx)
	return s.stopChildren(ctx)
}

func (s *service) stopChildren(ctx context.Context) error {
	err := s.children.Close(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, supervisor.ErrStillWriting) { // they had their time, which is no failure
		s.log.Warn("requests were cut off", logkey.Error, err)
		err = nil
	}
	s.log.Info("stopped")
	return err
}
