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
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/proxy"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
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
	return serve(o, func(net.Addr) {})
}

// service is everything that serve puts together.
type service struct {
	o        *options
	log      *slog.Logger
	store    *tenants.Store
	children *supervisor.Supervisor
	gateway  *proxy.Gateway
	retire   *retirer
	server   *http.Server
	listener net.Listener
}

// serve runs the gateway until a signal ends it. ready is told the address.
func serve(o *options, ready func(net.Addr)) error {
	s, err := assemble(o)
	if err != nil {
		return err
	}
	ready(s.listener.Addr())
	return s.run()
}

// assemble makes every part, and starts nothing but the listener.
func assemble(o *options) (*service, error) {
	s := &service{o: o, log: newLogger(o, os.Stderr)}
	command, err := sqCommand(o.sq)
	if err != nil {
		return nil, err
	}
	work := filepath.Join(o.stateDir, "children")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	version, err := sqVersion(command, work)
	if err != nil {
		return nil, err
	}
	if s.children, err = supervisor.New(s.childConfig(command, work)); err != nil {
		return nil, err
	}
	s.retire = newRetirer(s.children, s.log)
	s.store, err = tenants.Open(tenants.Options{Path: o.config, Logger: s.log, OnChange: s.retire.changed})
	if err != nil {
		return nil, usageError{err}
	}
	s.gateway = proxy.New(proxy.Config{
		Tenants: s.store, Children: s.children, MaxBody: int64(o.maxBody), BackendVersion: version, Logger: s.log,
	})
	s.server = newServer(s.gateway.Handler(), s.log)
	if s.listener, err = net.Listen("tcp", o.listen); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	s.log.Info("serving", "address", s.listener.Addr().String(), "tenants", s.store.Current().Len(), "sq", command[0], "sq_version", version)
	return s, nil
}

func (s *service) childConfig(command []string, work string) supervisor.Config {
	return supervisor.Config{
		Command: command, WorkDir: work, LogDir: s.o.logDir, Logger: s.log,
		PortLow: s.o.childPorts.low, PortHigh: s.o.childPorts.high,
		IdleTimeout: s.o.idleTimeout, MaxChildren: s.o.maxChildren,
	}
}

// Limits of the front door. A request's header may hold a whole scroll,
// percent-encoded, since legacy takes scrolls in the query.
const (
	largestHeader  = 256 << 10
	headerPatience = 10 * time.Second
	idlePatience   = 2 * time.Minute
)

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		MaxHeaderBytes:    largestHeader,
		ReadHeaderTimeout: headerPatience,
		IdleTimeout:       idlePatience,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// run serves until a signal, then stops in order: listener, requests, children.
func (s *service) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return s.store.Run(ctx) })
	group.Go(func() error { s.retire.run(ctx); return nil })
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	err := s.untilStopped(signals, served)
	stop()
	if e := group.Wait(); e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return err
}

// untilStopped waits for the end, reloading at each HUP, and brings it about.
func (s *service) untilStopped(signals <-chan os.Signal, served <-chan error) error {
	for {
		select {
		case err := <-served:
			return errors.Join(fmt.Errorf("the listener failed: %w", err), s.stopChildren(context.Background()))
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				_ = s.store.Reload() // the store logs it and keeps the error for the status
				continue
			}
			return s.shutdown(signals, served)
		}
	}
}

// shutdown drains and stops; a second signal cuts the draining short.
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
	s.gateway.Drain()
	if err := s.server.Shutdown(ctx); err != nil {
		s.log.Warn("requests were cut off", "error", err)
		_ = s.server.Close() // they had their time; the listener is closed already
	}
	<-served
	return s.stopChildren(ctx)
}

func (s *service) stopChildren(ctx context.Context) error {
	err := s.children.Close(ctx)
	s.log.Info("stopped")
	return err
}
