package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/storage/datadir"
	hosts "mirrorborn.us/sqgate/storage/host"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants"
)

// bucketOptions is the flags of a bucket.
type bucketOptions struct {
	url         string // "" = there is no bucket
	credentials string // file
	sync        bool
	lag         time.Duration
	hostName    string // "" = the machine's
	hostListen  string // "" = this host is alone
	hostURL     string // "" = hostListen
}

// registerPlace registers the flags that say where the bucket is.
func (o *bucketOptions) registerPlace(f *pflag.FlagSet) {
	f.StringVar(&o.url, "bucket", o.url, "where every write is kept in addition to the disk: s3://NAME/PREFIX?endpoint=URL&region=R or file:///DIRECTORY (empty: nowhere)")
	f.StringVar(&o.credentials, "bucket-credentials", o.credentials, "file with the S3 key, as AWS's tools write it (also bucket in $CREDENTIALS_DIRECTORY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
}

func (o *bucketOptions) register(f *pflag.FlagSet) {
	o.registerPlace(f)
	f.BoolVar(&o.sync, "bucket-sync", o.sync, "acknowledge a write only when the bucket has it (=false: if the disk is lost, so are the writes of the last --bucket-lag)")
	f.Var((*duration.Flag)(&o.lag), "bucket-lag", "with --bucket-sync=false: how far the bucket may be behind before writes wait for it")
	o.registerHost(f)
	o.registerHosts(f)
}

func (o *bucketOptions) registerHost(f *pflag.FlagSet) {
	f.StringVar(&o.hostName, "host-name", o.hostName, "name of this host in the bucket, which no other has (empty: the machine's name)")
}

// longestLag is how far the bucket may be behind at most. It is less than a lease lasts.
const longestLag = 5 * time.Second

var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (o *bucketOptions) check() error {
	switch {
	case o.url == "" && o.credentials != "":
		return usageError{errors.New("--bucket-credentials is given and --bucket is not: name the bucket too")}
	case o.url == "" && !o.sync:
		return usageError{errors.New("--bucket-sync is false and there is no --bucket: name the bucket too")}
	case o.lag <= 0 || o.lag > longestLag:
		return usageError{fmt.Errorf("--bucket-lag is %v: more than 0 and at most %v is wanted", (*duration.Flag)(&o.lag), longestLag)}
	case o.hostName != "" && !hostName.MatchString(o.hostName):
		return usageError{fmt.Errorf("--host-name is %.80q: 1 to 64 letters, digits, dots, hyphens and underscores are wanted, the first a letter or digit", o.hostName)}
	}
	return o.checkHosts()
}

// allowedLag is how far the bucket may be behind. With 0, a write waits for it.
func (o *bucketOptions) allowedLag() time.Duration {
	if o.sync {
		return 0
	}
	return o.lag
}

// directory is the bucket's, or "" if it is none.
func (o *bucketOptions) directory() string {
	if dir, ok := strings.CutPrefix(o.url, "file://"); ok {
		return dir
	}
	return ""
}

// name is what this host is called in the bucket.
func (o *bucketOptions) name() (string, error) {
	if o.hostName != "" {
		return o.hostName, nil
	}
	name, err := os.Hostname()
	if err != nil || !hostName.MatchString(name) {
		return "", usageError{fmt.Errorf("the machine's name is %.80q, which cannot be this host's in the bucket: give --host-name (%v)", name, err)}
	}
	return name, nil
}

// probeTimeout is how long a bucket may take to show that it can be used. One that says that
// it cannot is asked again for probeAgain, since every server is busy for a moment now and
// then.
const (
	probeTimeout = 30 * time.Second
	probeAgain   = 5 * time.Second
	probePause   = 250 * time.Millisecond
)

// open opens the bucket and finds out whether it can be relied upon.
func (o *bucketOptions) open(options bucket.Options) (bucket.Bucket, error) {
	options.CredentialsFile = o.credentials
	b, err := bucket.Open(o.url, options)
	if err != nil {
		return nil, usageError{fmt.Errorf("--bucket: %w", err)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	err = bucket.Probe(ctx, b)
	for begun := time.Now(); bucket.ShouldRetry(err) && time.Since(begun) < probeAgain; err = bucket.Probe(ctx, b) {
		time.Sleep(probePause)
	}
	switch {
	case errors.Is(err, bucket.ErrIgnoresConditions):
		return nil, usageError{fmt.Errorf("--bucket: %w", err)}
	case bucket.ShouldRetry(err):
		return nil, fmt.Errorf("--bucket: it does not answer: look at the endpoint in its URL, and at the network (%w)", err)
	case err != nil:
		return nil, fmt.Errorf("--bucket: %w", err)
	}
	return b, nil
}

// try is open for the command check, which may find the unit's credential where systemd
// has it from. It says which directories would not be served.
func (o *bucketOptions) try(out io.Writer, known *tenants.Snapshot, stateDir string) error {
	o.credentials = o.unitCredentials()
	b, err := o.open(bucket.Options{})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "the bucket: can be written and read, and honours conditions"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), tryWithin)
	defer cancel()
	directories := &hosts.Directories{Host: &hosts.Host{Bucket: b, Logger: slog.New(slog.DiscardHandler)}, Tenants: func() *tenants.Snapshot { return known }, MarkDir: filepath.Join(stateDir, "bucket")}
	directories.Journal, err = journal.New(journal.Config{Dir: filepath.Join(stateDir, "journal"), Quarantine: filepath.Join(stateDir, "quarantine"), Logger: directories.Logger})
	if err != nil {
		return err
	}
	err = directories.CheckKnown(ctx, datadir.New(datadir.Config{Tenants: directories.Tenants, Logger: directories.Logger}))
	if errors.Is(err, hosts.ErrNotInBucket) {
		_, err = fmt.Fprintln(out, "- the bucket knows none of the phexts that are here, and serve does not start with it: for the first, run `sqgate bucket init`")
		return err
	}
	if errors.Is(err, hosts.ErrNotAsked) {
		if _, err := fmt.Fprintf(out, "- %v\n", err); err != nil {
			return err
		}
		err = nil
	}
	refused := directories.Refused()
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		if _, err := fmt.Fprintf(out, "- %s is not served: %v\n", path, refused[path]); err != nil {
			return err
		}
	}
	return err
}

// tryWithin is how long it may take to look for what the bucket does not know.
const tryWithin = time.Minute

// openBucket opens the bucket, if there is to be one, and has the tenants file made from
// it where there is none.
func (s *service) openBucket() error {
	o := &s.o.bucket
	if o.url == "" {
		return nil
	}
	name, err := o.name()
	if err != nil {
		return err
	}
	b, err := o.open(bucket.Options{Dial: dialThrough(os.Getenv(envDialer))})
	if bucket.ShouldRetry(err) && os.Getenv(envDialer) == "" && startedBySystemd() {
		return fmt.Errorf("%w; the unit's own network has no way out but sqgate-dialer.socket: see bucket.md", err)
	}
	if err != nil {
		return err
	}
	s.costs = &bucket.Counted{Bucket: b}
	s.host = &hosts.Host{Bucket: s.costs, Name: name, Incarnation: rand.Text(), Version: buildVersion(), Logger: s.log, Gained: make(chan struct{}, 1)}
	if err := s.makeIdentity(); err != nil {
		return err
	}
	s.replicas = &hosts.Directories{Host: s.host, MarkDir: s.markDir(), History: s.o.history, Lag: o.allowedLag()}
	if !o.sync {
		s.log.Warn("writes are acknowledged before they are in the bucket, because --bucket-sync is false: if the disk is lost, so are the last ones", "lag", o.lag)
	}
	if err := s.replicas.Lock(); err != nil {
		return err
	}
	return s.openRegistry()
}

// joinBucket gives what takes directories over what it needs of the other parts.
func (s *service) joinBucket() (err error) {
	if s.host == nil {
		s.without, err = hosts.ServeWithout(s.markDir(), s.store.Current, s.log)
		return err
	}
	s.replicas.Tenants, s.replicas.Journal, s.replicas.Links, s.replicas.Calls = s.store.Current, s.journal, s.links, s.calls
	return nil
}

// takeOver is for datadir.Config: nil without a bucket.
func (s *service) takeOver() func(context.Context, *datadir.Dir) (*datadir.Replica, error) {
	if s.host == nil {
		return nil
	}
	return s.replicas.TakeOver
}

// refuse is for datadir.Config: nil with a bucket.
func (s *service) refuse() func(*datadir.Dir) error {
	if s.without == nil {
		return nil
	}
	return s.without.Refuse
}

// mayPurge is for admin.Config: nil with a bucket.
func (s *service) mayPurge() func(*tenants.Tenant) error {
	if s.without == nil {
		return nil
	}
	return s.without.CheckPurge
}

// leased is for proxy.Config: nil without a bucket.
func (s *service) leased() func() bool {
	if s.host == nil {
		return nil
	}
	return s.host.Holds
}

// acquireLease takes this host's lease if that is possible now.
func (s *service) acquireLease(ctx context.Context) {
	if s.host == nil {
		return
	}
	if err := s.host.Acquire(ctx); err != nil {
		s.log.Warn("nothing is served until the bucket can be reached", logkey.Error, err)
	}
}

// handOver gives the directories to the other hosts before this one ends, so that nobody
// waits for the end of its lease. It still takes requests meanwhile, and sends them on.
func (s *service) handOver(ctx context.Context) {
	if s.host == nil {
		return
	}
	if err := s.replicas.Drain(ctx); err != nil {
		s.log.Warn("not all directories could be handed over: other hosts take them over when this one has ended", logkey.Error, err)
	}
}

// keepLease holds this host's lease, and keeps its logs short, until ctx ends, which is
// after the last request.
func (s *service) keepLease(ctx context.Context) error {
	if s.host == nil {
		return nil
	}
	err := s.replicas.KeepLease(ctx)
	if err != nil {
		s.log.Error("this host has no lease any more, and serves nothing until it is started again", logkey.Error, err)
	}
	return err
}
