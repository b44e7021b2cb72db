package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"mirrorborn.us/sqgate/admin"
	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/http1"
	"mirrorborn.us/sqgate/internal/jwtauth"
	"mirrorborn.us/sqgate/internal/keylimit"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/proxy"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/changes"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/history"
	hosts "mirrorborn.us/sqgate/storage/host"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/reader"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/storage/writer"
	"mirrorborn.us/sqgate/supervisor"
	"mirrorborn.us/sqgate/tenants"
	"mirrorborn.us/sqgate/tenants/quota"
	"mirrorborn.us/sqgate/tenants/registry"
	"mirrorborn.us/sqgate/webhooks"
)

// service is the parts that serve puts together.
type service struct {
	o        *options
	stderr   *logQueue
	log      *slog.Logger
	store    *tenants.Store
	links    fsutil.Links
	ledger   *quota.Ledger
	calls    *quota.Calls
	tokens   *jwtauth.Verifier
	metrics  *admin.Metrics
	api      *admin.API
	children *supervisor.Supervisor
	journal  *journal.Set
	dirs     *datadir.Dirs
	reader   *reader.Reader
	writer   *writer.Writer
	history  *history.Service
	changes  *changes.Service
	webhooks *webhooks.Service
	host     *hosts.Host        // nil = there is no bucket
	replicas *hosts.Directories // nil = there is no bucket
	without  *hosts.Without     // nil = there is one
	registry *registry.Registry // nil = there is no bucket
	costs    *bucket.Counted    // nil = there is no bucket
	started  time.Time
	identity *cluster.Identity  // nil = this host is alone
	hosts    *cluster.Forwarder // nil = this host is alone
	gateway  *proxy.Gateway
	unused   *unusedStopper
	turns    *fairqueue.Queue
	server   *http1.Server
	drainer  *connDrainer
	listener net.Listener // of the tenants
	// For other hosts; nil = there are none.
	hostServer   *http1.Server
	strangers    *connLimiter // of whom it is not known yet whether they are hosts
	hostDrainer  *connDrainer
	hostListener net.Listener
	// For the watchdog's own check; health is nil if there is no watchdog.
	healthServer *http1.Server
	health       net.Listener
}

// marksDir is the directory in the state directory that notes which data directories
// have had phexts.
const marksDir = "directories"

// archiveMark is the file in the state directory that notes which directory has the archives.
const archiveMark = "archives"

// assemble makes the parts, each from those before it. It asks SQ for its version,
// stops children that an earlier sqgate left, and opens the listener. run starts
// everything else.
func assemble(o *options, stderr *logQueue) (*service, error) {
	s := &service{o: o, stderr: stderr, log: newLogger(o, stderr), started: time.Now()}
	keepDialer()
	for _, step := range []func() error{s.loadJWTKey, s.openBucket, s.openTenants, s.openJournal, s.joinBucket, s.makeChildren, s.makeStorage, s.checkBucket, s.makeAPIs, s.listen} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *service) loadJWTKey() (err error) {
	if s.o.jwtKeyFile == "" {
		return nil
	}
	if s.tokens, err = jwtauth.Load(s.o.jwtKeyFile, s.o.jwtClaim, time.Now); err != nil {
		return usageError{fmt.Errorf("--jwt-key-file: %w", err)}
	}
	return nil
}

func (s *service) openTenants() (err error) {
	s.store, err = tenants.Open(tenants.Options{Path: s.o.config, Logger: s.log, OnChange: s.changed, Agree: s.agree(), Wait: startedBySystemd()})
	if err != nil {
		return usageError{explainConfig(s.o.config, err)}
	}
	// Only now: a mistyped --config leaves no directories.
	if err := os.MkdirAll(s.workDir(), 0o700); err != nil {
		return fmt.Errorf("--state-dir: %w: let the user of sqgate write there, or name another directory", err)
	}
	private := []string{s.o.stateDir, s.o.archiveDir, s.o.logDir,
		filepath.Join(s.o.stateDir, adminKeyFile), s.o.adminKeyFile, s.o.metricsKeyFile, s.o.jwtKeyFile, s.o.bucket.credentials, s.o.bucket.directory(), os.Getenv("CREDENTIALS_DIRECTORY")}
	for _, dir := range []string{"journal", "quarantine", marksDir, "children", "webhooks", "bucket"} { // each may be on a disk of its own
		private = append(private, filepath.Join(s.o.stateDir, dir))
	}
	s.links = tenants.FollowLinks(s.store.Current, datadir.TenantOf, s.o.config, private...)
	s.ledger = quota.NewLedger(s.store.Current, s.log)
	s.ledger.FollowLinks(s.links)
	s.calls = quota.OpenCalls(filepath.Join(s.o.stateDir, "calls.json"), s.log)
	s.metrics = admin.NewMetrics(buildVersion(), s.store)
	s.warnUnwritable(s.store.Current().All())
	return nil
}

// warnUnwritable logs whose writes will fail. Reads work, so they are served.
func (s *service) warnUnwritable(list []*tenants.Tenant) {
	dirs := s.dirs
	if dirs == nil { // they are made later
		dirs = lookingAt(s.o, s.store.Current)
	}
	for _, t := range list {
		if reason, _, _ := dirs.Absence(t.DataDir); reason != "" {
			continue // that a disk is missing is said where it is found out
		}
		if err := admin.Unwritable(t); err != nil {
			s.log.Warn("a tenant cannot write", logkey.Tenant, t.ID, logkey.DataDir, t.DataDir, logkey.Error, err)
		}
	}
}

// lookingAt looks whether data directories are there, and changes nothing.
func lookingAt(o *options, known func() *tenants.Snapshot) *datadir.Dirs {
	quiet := slog.New(slog.DiscardHandler)
	set, err := journal.New(journal.Config{Dir: filepath.Join(o.stateDir, "journal"), Quarantine: filepath.Join(o.stateDir, "quarantine"), Logger: quiet})
	if err != nil {
		return datadir.Looking(datadir.Config{Tenants: known, Logger: quiet}) // there are no marks
	}
	return datadir.Looking(datadir.Config{Tenants: known, Journal: set, MarkDir: filepath.Join(o.stateDir, marksDir), Logger: quiet})
}

// changed is called after every reload that changed something.
func (s *service) changed(old, now *tenants.Snapshot, diff tenants.Diff) {
	s.unused.changed(old, diff)
	s.ledger.Refresh()
	s.metrics.TenantsChanged(old, diff)
	s.webhooks.Changed()
	s.warnUnwritable(diff.Added)
	s.warnUnwritable(diff.Changed)
	if s.dirs != nil {
		s.dirs.NotePlaces(slices.Concat(diff.Added, diff.Changed))
		s.dirs.NoteMoved(slices.Concat(diff.Added, moved(old, diff)))
	}
}

// moved is the tenants that have other data directories than before the reload.
func moved(old *tenants.Snapshot, diff tenants.Diff) (list []*tenants.Tenant) {
	for _, t := range diff.Changed {
		if was, ok := old.ByID(t.ID); ok && (was.DataDir != t.DataDir || was.Configured != t.Configured) {
			list = append(list, t)
		}
	}
	return list
}

// workDir is the working directory of the children. SQ creates a .sq folder in
// whatever directory it is started in.
func (s *service) workDir() string { return filepath.Join(s.o.stateDir, "children") }

func (s *service) makeChildren() error {
	command, err := sqCommand(s.o.sq)
	if err != nil {
		return err
	}
	var output *slog.Logger
	if s.o.logFormat == "json" { // each line of the log is JSON then, whatever --log-level is
		output = slog.New(slog.NewJSONHandler(s.stderr, nil))
	}
	s.children, err = supervisor.New(supervisor.Config{
		Output:  output,
		Command: command, WorkDir: s.workDir(), LogDir: s.o.logDir, Stderr: s.stderr, Logger: s.log,
		PortLow: s.o.childPorts.low, PortHigh: s.o.childPorts.high,
		IdleTimeout: s.o.idleTimeout, MaxChildren: s.o.maxChildren, Unconfined: !s.o.confine, Links: s.links, OnStart: s.metrics.Started,
		CheckDir: func(dir, at string) error { return s.dirs.Of(dir).CheckIs(at) },
	})
	if err != nil {
		return err
	}
	s.unused = newUnusedStopper(s.children, func(ctx context.Context, dir string) error { return s.dirs.Sync(ctx, dir) }, s.store.Current, s.log)
	return nil
}

func (s *service) openJournal() error {
	policy, err := journal.ParsePolicy(string(s.o.fsync))
	if err != nil {
		return err
	}
	s.journal, err = journal.New(journal.Config{
		Dir: filepath.Join(s.o.stateDir, "journal"), Quarantine: filepath.Join(s.o.stateDir, "quarantine"),
		Sync: policy, History: s.o.history, Limit: int64(s.o.historyLimit), Logger: s.log, Links: s.links,
		Turn: func() *fairqueue.Turn { return s.turns.Turn(fairqueue.Operator) },
	})
	return err
}

// recoverDirs recovers the directories that were written to before this start, once
// a tenants file is in force. A request recovers its own directory first, and does not
// wait for the others. With a bucket, only requests do that: a directory that nobody
// asks for costs none, unless it may be ahead of the bucket. Dirs.Run recovers those of
// tenants that have moved.
func (s *service) recoverDirs(ctx context.Context) error {
	select {
	case <-s.store.Loaded():
	default: // when this process began, it could not know whose children are orphans
		select {
		case <-s.store.Loaded():
			s.stopOrphans()
		case <-ctx.Done():
			return nil
		}
	}
	if s.host != nil {
		s.replicas.CatchUp(ctx, s.dirs)
		return nil
	}
	dirs, err := s.journal.Dirs()
	if err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	served := dataDirs(s.store.Current())
	var group errgroup.Group
	group.SetLimit(concurrentRecoveries)
	for _, dir := range dirs {
		if _, ok := served[dir]; ok {
			group.Go(func() error { _ = s.dirs.Of(dir).Recover(ctx); return nil }) // the error is logged, and the next request tries again
		}
	}
	return group.Wait()
}

// concurrentRecoveries is how many directories are recovered at a time.
const concurrentRecoveries = 4

// makeStorage makes the packages below storage, each from those that it uses, and
// the turns that they and the server take.
func (s *service) makeStorage() (err error) {
	if s.turns, err = fairqueue.New(turnsFor(runtime.GOMAXPROCS(0))); err != nil {
		return err
	}
	s.dirs = datadir.New(datadir.Config{
		Tenants: s.store.Current, Journal: s.journal, TakeOver: s.takeOver(), Refuse: s.refuse(), Leased: s.host.Holds, Lag: s.o.bucket.allowedLag(), StopChild: s.children.Clear, Links: s.links, MarkDir: filepath.Join(s.o.stateDir, marksDir),
		Turns: s.turns, ReadMemory: int64(s.o.readMemory), MaxBody: int64(s.o.maxBody), Logger: s.log,
	})
	if err := s.dirs.AssignMarks(); err != nil {
		s.log.Warn("marks of data directories that an earlier version has written are not of tenants yet", logkey.Error, err)
	}
	s.dirs.NotePlaces(s.store.Current().All())
	s.dirs.NoteMoved(s.store.Current().All())
	s.metrics.RegisterGauges(s.ledger, s.children, s.dirs, s.isElsewhere)
	if s.host != nil {
		s.replicas.Dirs = s.dirs
		s.ledger.FollowFetches(func(dataDir string) quota.Coming {
			if f := s.dirs.Of(dataDir).Coming(); f != nil {
				return f
			}
			return nil
		})
		s.metrics.RegisterBucket(s.bucketStatus)
	}
	sq := sqclient.New(s.unused.around(sqclient.FromSupervisor(s.children)), s.dirs.Reserve)
	s.reader = reader.New(reader.Config{Dirs: s.dirs, SQ: sq})
	s.writer = writer.New(writer.Config{Dirs: s.dirs, SQ: sq, Ledger: s.ledger, Logger: s.log})
	s.history = &history.Service{Dirs: s.dirs, Ledger: s.ledger, SpoolDir: s.o.stateDir}
	s.changes = changes.New(s.dirs)
	s.makeWebhooks()
	return nil
}

// turnsFor is how many may compute or send at a time: one for each processor, and
// on several processors nearly as many again, since the kernel may hold up a thread
// in the middle of a system call. With no more turns than processors, 16
// connections of one tenant had a tenth fewer answers.
func turnsFor(processors int) int { return 2*processors - 1 }

// makeAPIs makes the two that are spoken to over HTTP, and their server.
func (s *service) makeAPIs() error {
	version, err := sqVersion(s.children.Command(), s.workDir())
	if err != nil {
		return err
	}
	if s.o.sq == builtin {
		version += standInVersion
	}
	key, err := s.o.managementKey(s.log)
	if err != nil {
		return err
	}
	metricsKey, err := s.o.givenMetricsKey(s.log)
	if err != nil {
		return err
	}
	if metricsKey == key {
		return usageError{errors.New("--metrics-key is the management key: a metrics key must be another one")}
	}
	s.makeForwarder()
	limit := keylimit.New(time.Now)
	s.api, err = admin.New(admin.Config{
		Key: key, MetricsKey: metricsKey, KeyLimit: limit, Store: s.store, Ledger: s.ledger, Calls: s.calls, Children: s.children, Leaving: s.unused.Leaving, Metrics: s.metrics.Handler(),
		Dirs: s.dirs, History: s.history, Webhooks: s.webhooks, Links: s.links,
		DataRoot: s.o.dataRoot, ArchiveDir: s.o.archiveDir, ArchiveMark: filepath.Join(s.o.stateDir, archiveMark), AuditFile: s.o.auditFile(), JournalDir: filepath.Join(s.o.stateDir, "journal"), Counts: s.metrics, Logger: s.log,
		BucketStatus: s.bucketStatus, InitBucket: s.initBucket, BucketSizes: s.bucketSizes,
		Hosts: s.hosts, Directories: s.replicas, Draining: s.setDraining, MayPurge: s.mayPurge(),
	})
	if err != nil {
		return err
	}
	s.api.WarnOfDeletions()
	s.gateway = proxy.New(proxy.Config{
		Tenants: s.store.Current, Dirs: s.dirs, Reader: s.reader, Writer: s.writer, Changes: s.changes, History: s.history, Ledger: s.ledger, Calls: s.calls, KeyLimit: limit, Tokens: s.tokens,
		Headers:     memlimit.NewShares(headerMemory, headerMemory/2),
		PublicLimit: keylimit.PerMinute(s.o.publicReads, time.Now),
		Hosts:       s.hosts, HostAdmin: s.api.FromHosts(), RefreshTenants: s.refreshTenants, Leased: s.leased(),
		Admin: s.api, OperatorKey: s.api.WhoseKey, Observe: s.metrics.Served, KeyRefused: s.metrics.KeyRefused, BackendVersion: version, Logger: s.log,
	})
	s.drainer = newConnDrainer()
	part := clientPart
	if s.hosts != nil {
		part = clientPartMany
	}
	limiter, err := newConnLimiter(part, ofEachClient, s.log)
	if err != nil {
		return err
	}
	s.server = newServer(s.gateway, s.gateway.Handler(), s.drainer, limiter, s.turns, s.log)
	if limiter, err = newConnLimiter(watchdogPart, ofEachHost, s.log); err != nil {
		return err
	}
	s.healthServer = newServer(s.gateway, s.gateway.Watchdog(), newConnDrainer(), limiter, s.turns, s.log)
	return s.makeHostServer()
}

// listen is the last step, so that nobody connects to a gateway that fails to start.
// If sqgate then has to move to a network of its own, everything starts again there.
func (s *service) listen() (err error) {
	_, moved := os.LookupEnv(envListener)
	orphansWrite := !moved && (s.stopOrphans() || s.store.Current().Refusal() != nil)
	if s.listener, s.hostListener, err = openListeners(s.o.listen, s.o.bucket.hostListen); err != nil {
		return err
	}
	switch {
	case inOwnNetwork(s.listener):
	case !s.o.privateNetwork:
		s.warnOfNetwork(errors.New("--private-network is false"))
	case moved:
		s.warnOfNetwork(errors.New("the kernel says that sqgate is still in the host's network"))
	default:
		stop, err := s.startDialer()
		if err != nil && s.mustDial() {
			return err
		}
		if err != nil {
			s.log.Warn("no webhook can be delivered", logkey.Error, err)
			stop = func() {}
		}
		s.stderr.flush() // if it succeeds, this process ends there
		s.warnOfNetwork(enterOwnNetwork(s.listener, s.hostListener, orphansWrite))
		stop()
	}
	if watched, _ := daemon.SdWatchdogEnabled(false); watched > 0 { // newNotifier logs the error
		if s.health, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	if err := s.nameURL(); err != nil {
		return err
	}
	if s.o.sq == builtin {
		s.log.Warn("this is not SQ, but the stand-in that comes with sqgate: use it to try things, and not for data that anybody wants to keep")
	}
	s.log.Info("serving", "address", s.listener.Addr().String(), "tenants", s.store.Current().Len(), "sq", s.children.Command()[0], "version", buildVersion())
	return nil
}

func (s *service) warnOfNetwork(reason error) {
	s.log.Warn("any local user can read and write all tenants' data: sqgate has no network of its own", "reason", reason,
		"remedy", "use the package's unit, start sqgate as root or where user namespaces are allowed, or let nobody else use this host")
}
