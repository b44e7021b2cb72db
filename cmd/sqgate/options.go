package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/duration"
	"mirrorborn.us/sqgate/internal/nearest"
	"mirrorborn.us/sqgate/webhooks"
)

// options is the flags of serve.
type options struct {
	config          string
	listen          string
	sq              string
	adminKey        string
	adminKeyFile    string
	metricsKey      string
	metricsKeyFile  string
	dataRoot        string
	archiveDir      string
	stateDir        string
	logDir          string
	logFormat       logFormat
	logLevel        logLevel
	childPorts      portRange
	idleTimeout     time.Duration
	maxChildren     int
	confine         bool
	privateNetwork  bool
	publicReads     int
	jwtKeyFile      string
	jwtClaim        string
	webhookAllow    webhooks.Allowed
	maxBody         byteSize
	readMemory      byteSize
	fsync           fsyncPolicy
	history         time.Duration
	historyLimit    byteSize
	shutdownTimeout time.Duration
	key             keyFlag
	bucket          bucketOptions
}

func defaultOptions() *options {
	return &options{
		config:          "/etc/sq/tenants.json",
		listen:          "127.0.0.1:1337",
		sq:              "sq",
		dataRoot:        "/var/lib/sq/tenants",
		archiveDir:      "/var/lib/sq/archive",
		stateDir:        "/var/lib/sqgate",
		logFormat:       "text",
		logLevel:        "info",
		childPorts:      portRange{20000, 29999},
		idleTimeout:     15 * time.Minute,
		confine:         true,
		privateNetwork:  true,
		publicReads:     100,
		jwtClaim:        "tenant",
		webhookAllow:    webhooks.Public(),
		maxBody:         64 << 20,
		readMemory:      256 << 20,
		fsync:           "batch",
		history:         7 * 24 * time.Hour,
		historyLimit:    1 << 30,
		shutdownTimeout: 30 * time.Second,
		bucket:          bucketOptions{sync: true, lag: time.Second},
	}
}

func (o *options) registerConfig(f *pflag.FlagSet) {
	f.StringVar(&o.config, "config", o.config, "tenants file")
}

func (o *options) registerAdminKey(f *pflag.FlagSet) {
	f.StringVar(&o.adminKey, "admin-key", "", "management key (also SQ_ADMIN_KEY, or admin-key in $CREDENTIALS_DIRECTORY)")
	f.StringVar(&o.adminKeyFile, "admin-key-file", "", "file that holds the management key")
}

func (o *options) register(f *pflag.FlagSet) {
	o.registerConfig(f)
	f.StringVar(&o.metricsKey, "metrics-key", "", "key that reads the metrics and nothing else (also metrics-key in $CREDENTIALS_DIRECTORY)")
	f.StringVar(&o.metricsKeyFile, "metrics-key-file", "", "file that holds the metrics key")
	f.StringVar(&o.listen, "listen", o.listen, "address of the tenant and management API")
	f.StringVar(&o.sq, "sq", o.sq, "SQ binary, or 'builtin' for the stand-in that ships in sqgate")
	o.registerAdminKey(f)
	f.StringVar(&o.dataRoot, "data-root", o.dataRoot, "where tenants added over the API get their data directories")
	f.StringVar(&o.archiveDir, "archive-dir", o.archiveDir, "where archives of deleted tenants go")
	f.StringVar(&o.stateDir, "state-dir", o.stateDir, "directory for what sqgate itself keeps")
	f.StringVar(&o.logDir, "log-dir", o.logDir, "directory for rotated logs of children, one per data directory (empty: standard error)")
	f.Var(&o.logFormat, "log-format", "text or json")
	f.Var(&o.logLevel, "log-level", "debug, info, warn or error")
	f.Var(&o.childPorts, "child-ports", "loopback ports for children, LOW-HIGH")
	f.Var((*duration.Flag)(&o.idleTimeout), "idle-timeout", "stop a child unused for this long (0 = never)")
	f.IntVar(&o.maxChildren, "max-children", o.maxChildren, "most live children, least recently used stopped first (0 = no limit)")
	f.BoolVar(&o.confine, "confine", o.confine, "keep each child from every file but its data directory's (=false only for an --sq that needs others)")
	f.BoolVar(&o.privateNetwork, "private-network", o.privateNetwork, "give sqgate and its children a network of their own, in which nobody else can reach a child (=false only to reach one for debugging)")
	f.StringVar(&o.jwtKeyFile, "jwt-key-file", "", "file with the HS256 secret or the PEM public key of JSON Web Tokens that tenants may use as keys (empty: none)")
	f.StringVar(&o.jwtClaim, "jwt-claim", o.jwtClaim, "claim of these tokens that names the tenant")
	f.IntVar(&o.publicReads, "public-reads-per-minute", o.publicReads, "most reads without a key, of public phexts, a minute from one client address")
	f.Var(&o.webhookAllow, "webhook-allow", "where webhooks may be sent: addresses and networks such as 10.1.0.0/16, and public for those of the Internet; or none")
	f.Var(&o.maxBody, "max-body", "largest request body, in bytes or KiB, MiB, GiB")
	f.Var(&o.readMemory, "read-memory", "memory for parsed phexts and answers made of them, in bytes or KiB, MiB, GiB (0 = forward every read to SQ)")
	f.Var(&o.fsync, "fsync", "when the journal goes to disk: always (before SQ sees a write), batch (before it is acknowledged), off (when the kernel does: a power cut may lose the last half minute)")
	f.Var((*duration.Flag)(&o.history), "history", "how far back phexts can be restored (0 = only what a crash needs)")
	f.Var(&o.historyLimit, "history-limit", "most that the journal of one data directory may take, in bytes or KiB, MiB, GiB (0 = no limit)")
	f.Var((*duration.Flag)(&o.shutdownTimeout), "shutdown-timeout", "longest wait for requests in flight")
	o.bucket.register(f)
	f.Var(&o.key, "key", "")
	_ = f.MarkHidden("key") // the flag was registered on the line above
}

// settingPrefix is that of the variables of flags.
const settingPrefix = "SQGATE_"

func variableOf(flag *pflag.Flag) string {
	return settingPrefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// fromEnvironment sets every flag that was not given on the command line from its
// variable. A variable that is of no command's flag is an error: it was misspelt, and
// would have no effect.
func fromEnvironment(f *pflag.FlagSet) error {
	if err := checkVariables(os.Environ()); err != nil {
		return err
	}
	var bad error
	f.VisitAll(func(flag *pflag.Flag) {
		name := variableOf(flag)
		value, set := os.LookupEnv(name)
		if !set || flag.Changed || bad != nil {
			return
		}
		if err := flag.Value.Set(value); err != nil {
			bad = badValue("environment variable "+name, flag, value, err)
		}
	})
	return bad
}

func checkVariables(environ []string) error {
	var known []string
	addVariables(newRoot(), &known)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, settingPrefix) && !slices.Contains(known, name) && !ofKubernetes.MatchString(variable) {
			meant := nearest.DidYouMean(strings.TrimPrefix(name, settingPrefix), settingPrefix, trimmed(known))
			return usageError{fmt.Errorf("environment variable %s is no setting of sqgate: remove it, or correct its spelling%s", name, meant)}
		}
	}
	return nil
}

// ofKubernetes matches the variables that Kubernetes and Docker make in a container for
// each service beside it, if one is called sqgate or sqgate-SOMETHING: SQGATE_SERVICE_HOST,
// SQGATE_SERVICE_PORT_HTTP, SQGATE_PORT=tcp://10.0.0.1:1337, SQGATE_PORT_1337_TCP_ADDR.
var ofKubernetes = regexp.MustCompile(`^SQGATE_([A-Z0-9_]+_)?(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=\d+$|PORT=(tcp|udp|sctp)://|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=)`)

// addVariables adds those of a command, and of all commands below it.
func addVariables(cmd *cobra.Command, to *[]string) {
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { *to = append(*to, variableOf(flag)) })
	cmd.PersistentFlags().VisitAll(func(flag *pflag.Flag) { *to = append(*to, variableOf(flag)) })
	for _, sub := range cmd.Commands() {
		addVariables(sub, to)
	}
}

// trimmed is each name once, without the prefix, which would be most of a short one.
func trimmed(variables []string) (names []string) {
	for _, variable := range variables {
		names = append(names, strings.TrimPrefix(variable, settingPrefix))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// auditFile is made by the first start that succeeds.
func (o *options) auditFile() string { return filepath.Join(o.stateDir, "audit.log") }

// check rejects the values that the flag types accept but serve does not.
func (o *options) check() error {
	switch {
	case o.idleTimeout < 0:
		return usageError{fmt.Errorf("--idle-timeout is %v: 0 (never) or more is wanted", (*duration.Flag)(&o.idleTimeout))}
	case o.maxChildren < 0:
		return usageError{fmt.Errorf("--max-children is %d: 0 (no limit) or more is wanted", o.maxChildren)}
	case o.jwtClaim == "" || o.jwtClaim == "access":
		return usageError{fmt.Errorf("--jwt-claim is %q: name the claim that holds the tenant's id", o.jwtClaim)}
	case o.publicReads < 1:
		return usageError{fmt.Errorf("--public-reads-per-minute is %d: 1 or more is wanted", o.publicReads)}
	case o.history < 0:
		return usageError{fmt.Errorf("--history is %v: 0 (none) or more is wanted", (*duration.Flag)(&o.history))}
	case o.shutdownTimeout <= 0:
		return usageError{fmt.Errorf("--shutdown-timeout is %v: more than 0 is wanted", (*duration.Flag)(&o.shutdownTimeout))}
	case o.maxBody <= 0 || o.maxBody > largestBody:
		return usageError{fmt.Errorf("--max-body is %v: 1 byte to 64MiB is wanted, since SQ takes no more", &o.maxBody)}
	case o.config == "":
		return usageError{fmt.Errorf("--config is empty: name the tenants file")}
	case !filepath.IsAbs(o.dataRoot):
		return usageError{fmt.Errorf("--data-root is %q: a path that begins with / is wanted", o.dataRoot)}
	case !filepath.IsAbs(o.archiveDir):
		return usageError{fmt.Errorf("--archive-dir is %q: a path that begins with / is wanted", o.archiveDir)}
	case o.stateDir == "":
		return usageError{fmt.Errorf("--state-dir is empty: name a directory")}
	}
	return o.bucket.check()
}

// largestBody is the largest request body that SQ accepts, in bytes (LEGACY.md).
const largestBody = 64 << 20
