package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/host"
)

// Hosts knows who owns what. It is *host.Directories, and a fake in tests.
type Hosts interface {
	Peers() []host.Peer
	Refresh(ctx context.Context) error
	Route(ctx context.Context, dir string) (to host.Peer, here bool, err error)
	Accepts(ctx context.Context, dir string) (bool, error)
	Forget(dir string)
	Unreachable(name string)
}

// Config is what a Forwarder is made of.
type Config struct {
	Hosts    Hosts
	Identity *Identity
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil = directly
	Logger   *slog.Logger
}

// How long it is tried to find a host that serves a request, and the pauses between.
const (
	patience   = 10 * time.Second
	firstPause = 20 * time.Millisecond
	mostPause  = 500 * time.Millisecond
)

// Limits of what is on its way to other hosts, and of the connections to one. idleTimeout is
// less than the other end waits.
const (
	mostRequests = 1024 // to one host; of which a tenant has no more than half, see memlimit.Shares
	mostStreams  = 2048 // to all hosts; likewise
	mostIdle     = 256
	idleTimeout  = time.Minute
	dialTimeout  = 3 * time.Second
	// silentFor is how long a host that took no connection within dialTimeout is left alone.
	silentFor = time.Second
	// inviteTimeout is how long the other host may take to want a large body. It may have to
	// ask the bucket first.
	inviteTimeout = patience
	// silence is how long the system may wait for a host that answers no packet.
	silence = 8 * time.Second
)

var (
	errNoOwner = apierror.RetryIn(time.Second, apierror.Unavailable,
		"no host serves this data for the moment, and nothing was changed: repeat the request")
	errCutOff = apierror.RetryIn(time.Second, apierror.Unavailable,
		"the host that has this data cannot be reached from this one, and nothing was changed: repeat the request, at another host if you can")
	errTooMany = apierror.RetryIn(time.Second, apierror.Unavailable,
		"too many requests of this tenant are on their way to the host that has this data: try again in a moment")
	errTooManyStreams = apierror.RetryIn(10*time.Second, apierror.Unavailable,
		"too many listen for changes at another host already: try again later")
	errLost = apierror.New(apierror.NotKnown,
		"the host that has this data did not answer: it is not known whether the write was made, so look it up before you repeat it")
	errLostRead = apierror.RetryIn(time.Second, apierror.Unavailable, "the host that has this data did not answer: repeat the request")
)

func errBodyCutShort(err error) error {
	if e := apierror.From(err); e != nil {
		return e
	}
	return apierror.New(apierror.BadRequest, "the body ended before it was complete (%v): nothing was changed, send it again", err)
}

// Results of an attempt to send a request on, as Counts has them.
const (
	Answered    = "answered"
	NotOwner    = "not_owner"   // the other host says so
	Unreachable = "unreachable" // nothing was sent
	Lost        = "lost"        // it is not known what became of it
)

// Results are all of them.
var Results = []string{Answered, NotOwner, Unreachable, Lost}

// Forwarder sends requests on. Its methods may be called at any time.
type Forwarder struct {
	Config
	transport *http.Transport
	streams   *memlimit.Shares // all of them, of answers without an end

	mu       sync.Mutex
	counts   map[string]int64
	under    map[*attempt]string         // way, with the fingerprint of the host
	silent   map[string]time.Time        // until when the host with a fingerprint is left alone
	requests map[string]*memlimit.Shares // of all others to the host with a fingerprint
}

// New makes a Forwarder. Run ends its requests to hosts that have died.
func New(c Config) *Forwarder {
	f := &Forwarder{
		Config: c, streams: memlimit.NewShares(mostStreams, mostStreams/2),
		counts: map[string]int64{}, under: map[*attempt]string{}, silent: map[string]time.Time{}, requests: map[string]*memlimit.Shares{},
	}
	f.transport = &http.Transport{ // which would let a request wait for a connection without an end: the places are bounded
		DialTLSContext: f.dial, DisableCompression: true, ExpectContinueTimeout: inviteTimeout,
		MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: idleTimeout,
	}
	return f
}

// place takes a place for a request to a host.
func (f *Forwarder) place(c *Call, to host.Peer) (leave func(), err error) {
	of, full := f.streams, errTooManyStreams
	if !c.Endless {
		of, full = f.requestsTo(to.Fingerprint), errTooMany
	}
	share := of.Of(c.Owner)
	if !share.Take(1) {
		return nil, full
	}
	return func() { share.Give(1) }, nil
}

func (f *Forwarder) requestsTo(fingerprint string) *memlimit.Shares {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.requests[fingerprint]
	if p == nil {
		p = memlimit.NewShares(mostRequests, mostRequests/2)
		f.requests[fingerprint] = p
	}
	return p
}

// Call is what is to be known of a request to send it on.
type Call struct {
	Dir string // the data directory that it is about
	ID  string // its X-Request-Id
	// Owner is whose it is, of those who share the places on the way; "" = an operator's.
	Owner string
	// Repeatable says that it does no harm to do it twice: it is a read, or has an
	// Idempotency-Key.
	Repeatable bool
	// Endless says that the answer has no end. Such a request takes none of the places of the
	// others.
	Endless bool
	// Enter counts it in before it is sent on; nil = nobody counts.
	Enter func() (leave func(), err error)
	// Here serves it on this host. moved: it has answered nothing and changed nothing, since
	// the directory is another host's now; then read is the body, if it was read.
	Here func() (moved bool, read []byte)

	lost bool // a host got it, and did not answer
}

// unserved is the answer if nobody has served it, for this reason.
func (c *Call) unserved(why error) error {
	if c.lost {
		return errLostRead
	}
	return why
}

// Serve has a request answered by the host that owns its directory. An error is returned
// only while nothing was answered.
func (f *Forwarder) Serve(w http.ResponseWriter, r *http.Request, c Call) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var b *body
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		to, here, err := f.Hosts.Route(ctx, c.Dir)
		switch {
		case errors.Is(err, datadir.ErrMoved): // nobody has it for the moment
		case err != nil:
			return c.explain(err)
		case here && b == nil:
			moved, read := c.Here()
			if !moved {
				return nil
			}
			if read != nil {
				b = &body{kept: read, whole: true}
			}
		case here:
			r.Body = b.reader()
			moved, _ := c.Here()
			if !moved {
				return nil
			}
		case !f.mayTry(to.Fingerprint):
			return c.unserved(errCutOff)
		default:
			if c.Enter != nil && !c.Endless {
				leave, err := c.Enter()
				if err != nil {
					return err
				}
				defer leave()
				c.Enter = nil // once
			}
			if b == nil {
				if b, err = readBody(r); err != nil {
					return err
				}
			}
			if done, err := f.send(w, r, &c, to, b); done || err != nil {
				return err
			}
		}
		f.Hosts.Forget(c.Dir)
		if b != nil && !b.repeatable() {
			return c.unserved(errNoOwner)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return c.unserved(errNoOwner)
		}
	}
}

// SendTo has a request answered by a certain host. An error is returned only while nothing
// was answered.
func (f *Forwarder) SendTo(w http.ResponseWriter, r *http.Request, id string, to host.Peer) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	done, err := f.send(w, r, &Call{ID: id}, to, b)
	if err == nil && !done {
		err = errNoOwner
	}
	return err
}

// explain is what a caller is told when it is not known who owns a directory.
func (c *Call) explain(err error) error {
	if c.lost || apierror.From(err) == nil || apierror.IsTimeout(err) {
		return errors.Join(c.unserved(errNoOwner), err)
	}
	return err
}

// attempt is one sending of a request.
type attempt struct {
	http.ResponseWriter
	header http.Header // of the answer, as the other host has it
	upload *upload
	end    context.CancelCauseFunc
	begun  bool  // the answer
	failed error // to come, or to end
}

var (
	errNotOwner = errors.New("the other host does not own the directory")
	errHostDied = errors.New("the other host has died")
)

// send sends a request to another host, and its answer back. done: it was answered. If it
// was not and there is no error, nothing was changed, or does no harm if it is done again.
func (f *Forwarder) send(w http.ResponseWriter, r *http.Request, c *Call, to host.Peer, b *body) (done bool, err error) {
	leave, err := f.place(c, to)
	if err != nil {
		return false, c.unserved(err)
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	up := b.upload(w)
	defer up.end()
	a := &attempt{ResponseWriter: w, header: http.Header{}, upload: up, end: cancel}
	f.began(a, to.Fingerprint)
	defer f.ended(a)
	proxy := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { rewrite(p.Out, r, c.ID, to, up) },
		Transport:      f.transport,
		ModifyResponse: a.receive,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { a.failed = err },
		ErrorLog:       slog.NewLogLogger(f.Logger.Handler(), slog.LevelDebug),
		BufferPool:     c.buffers(),
	}
	var sent sending
	bare := r.WithContext(sent.trace(ctx))
	bare.Header, bare.Body = http.Header{}, http.NoBody // ReverseProxy looks at the client's before Rewrite
	proxy.ServeHTTP(a, bare)
	if cut := b.cut.Load(); cut != nil && !a.begun {
		return false, errBodyCutShort(*cut) // what the owner got was not whole either
	}
	result := Answered
	switch {
	case a.failed == nil:
	case errors.Is(a.failed, errNotOwner):
		result = NotOwner
	case r.Context().Err() != nil:
		result = "" // the client has left, or is to leave: the other host is not at fault
	case !sent.begun.Load():
		result = Unreachable
		f.Hosts.Unreachable(to.Name)
	default:
		result = Lost
	}
	if result != "" {
		f.count(result)
	}
	if result == Answered || result == NotOwner {
		f.noteSilence(to.Fingerprint, false)
	}
	if result == Unreachable || result == Lost {
		f.Logger.Warn("another host did not answer", slog.String(logkey.Request, c.ID), slog.String("host", to.Name), slog.String("result", result), slog.Any(logkey.Error, errors.Join(a.failed, context.Cause(ctx))))
	}
	switch {
	case a.begun && a.failed != nil:
		panic(http.ErrAbortHandler) // only a broken connection can say that the answer is not whole
	case result == "":
		return false, r.Context().Err()
	case result == Lost && !c.Repeatable:
		return false, errLost
	case result == Lost && !b.repeatable():
		return false, errLostRead
	}
	c.lost = c.lost || result == Lost
	return a.begun, nil
}

// rewrite makes out what r was, with what the other host is to know of it.
func rewrite(out, r *http.Request, id string, to host.Peer, up *upload) {
	out.Header = r.Header.Clone()
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Forwarded", "X-Idempotency-Key"} {
		out.Header.Del(name)
	}
	out.Trailer = nil                            // nobody looks at one, and http.Transport refuses names that net/http takes
	if out.Header.Get("Idempotency-Key") == "" { // with one, http.Transport may send it twice
		out.Header.Del("Idempotency-Key")
	}
	u := *r.URL
	u.Scheme, u.Host = "https", to.Fingerprint // which dial looks up
	out.URL, out.Host = &u, r.Host
	if out.Host == "" {
		out.Host = "sqgate"
	}
	up.set(out, r.ContentLength)
	describe(out, r, id)
}

// receive looks at the head of an answer.
func (a *attempt) receive(resp *http.Response) error {
	a.upload.stop()
	if resp.StatusCode == http.StatusMisdirectedRequest {
		return errNotOwner
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, attempt: a, request: resp.Request}
	return nil
}

// Header is that of the other host's answer alone.
func (a *attempt) Header() http.Header { return a.header }

// WriteHeader passes the answer on, and not what came in front of it: that was for this host.
func (a *attempt) WriteHeader(status int) {
	if status < http.StatusOK {
		clear(a.header)
		return
	}
	a.begun = true
	to := a.ResponseWriter.Header()
	closes := to["Connection"] // of this host, when it stops
	clear(to)
	for name, values := range a.header {
		to[name] = values
	}
	if closes != nil {
		to["Connection"] = closes
	}
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController flush the answer.
func (a *attempt) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (f *Forwarder) began(a *attempt, fingerprint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under[a] = fingerprint
}

func (f *Forwarder) ended(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.under, a)
}

// lookEvery is how often Run looks which hosts live.
const lookEvery = time.Second

// Run ends requests to hosts that have died, which may be stopped and never answer, until
// ctx ends.
func (f *Forwarder) Run(ctx context.Context) {
	defer f.transport.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
		alive := map[string]bool{}
		for _, p := range f.Hosts.Peers() {
			alive[p.Fingerprint] = p.Alive
		}
		f.mu.Lock()
		for a, to := range f.under {
			if !alive[to] {
				a.end(errHostDied)
			}
		}
		maps.DeleteFunc(f.silent, func(host string, _ time.Time) bool { return !alive[host] })
		maps.DeleteFunc(f.requests, func(host string, p *memlimit.Shares) bool { return !alive[host] && p.Used() == 0 })
		f.mu.Unlock()
	}
}

func (f *Forwarder) count(result string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[result]++
}

// Counts is how many attempts ended in which of Results.
func (f *Forwarder) Counts() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[string]int64, len(Results))
	for _, r := range Results {
		counts[r] = f.counts[r]
	}
	return counts
}

// dial connects to the host with a fingerprint, and to no other: whoever has its address now
// may be another process.
func (f *Forwarder) dial(ctx context.Context, _, address string) (net.Conn, error) {
	wanted, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	at, err := f.addressOf(wanted)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dial := f.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", at)
	f.noteSilence(wanted, err != nil && ctx.Err() != nil)
	if err != nil {
		return nil, err
	}
	noticeSilence(conn)
	secure := tls.Client(conn, f.Identity.config(func(fingerprint string) bool { return fingerprint == wanted }))
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// mayTry says whether to try to reach a host. Of those that want one that took no connection
// the last time, one tries at a time. The others would only wait for what they can have from
// another host at once.
func (f *Forwarder) mayTry(fingerprint string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	until, silent := f.silent[fingerprint]
	if silent && time.Now().Before(until) {
		return false
	}
	if silent {
		f.silent[fingerprint] = time.Now().Add(dialTimeout)
	}
	return true
}

// noteSilence is called after each attempt to connect: not even the system of a silent host
// has answered.
func (f *Forwarder) noteSilence(fingerprint string, silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if silent {
		f.silent[fingerprint] = time.Now().Add(silentFor)
	} else {
		delete(f.silent, fingerprint)
	}
}

func (f *Forwarder) addressOf(fingerprint string) (string, error) {
	for _, p := range f.Hosts.Peers() {
		if p.Fingerprint != fingerprint {
			continue
		}
		u, err := url.Parse(p.URL)
		if err != nil || u.Port() == "" {
			return "", errors.Join(errors.New("host "+p.Name+" has no --host-url that can be used"), err)
		}
		return u.Host, nil
	}
	return "", errUnknownHost
}

// noticeSilence ends a connection whose other end answers no packet. If it cannot be set, Run
// ends what waits.
func noticeSilence(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 4, Count: 2})
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
		})
	}
}
